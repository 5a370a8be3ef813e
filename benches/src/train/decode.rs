//! The products of one token, as decoding does them: beside what it takes to read the weights.

use std::hint::black_box;

use lorakit_quant::bnb::FourBit;
use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;
use lorakit_train::kernel::{
    Compute, FloatMatrix, FourBitMatrix, FrozenMatrix, PackedMatrix, kernels, row_times_transposed_each,
};
use lorakit_train::model::{Model, Slot};

use super::measure::{least, numbers};

/// Rows and columns of the weight that is measured in every form: 46 million values.
const SIZE: (usize, usize) = (22528, 2048);

/// Rows that are encoded, and then repeated.
const ENCODED: usize = 64;

/// Forms of GGUF files, and floats.
const FORMS: [DType; 11] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
];

pub(super) fn run(model: &Model) {
    let memory = vec![1u64; 1 << 25];
    let read = least(5, || {
        let sums =
            memory.chunks_exact(8).fold([0u64; 8], |sums, chunk| std::array::from_fn(|i| sums[i] ^ chunk[i]));
        black_box(sums);
    });
    let machine = 8.0 * memory.len() as f64 / read / 1e9;
    drop(memory);
    println!("one token on {}; reading memory: {machine:.1} GB/s", kernels(Compute::F32)[0].name);
    let show = |name: &str, seconds: f64, values: usize, bytes: f64| {
        println!(
            "{name}: {:.2} ms, {:.2} values/ns, {:.2} GB/s ({:.0} %)",
            1e3 * seconds,
            values as f64 / seconds / 1e9,
            bytes / seconds / 1e9,
            100.0 * bytes / seconds / 1e9 / machine
        );
    };
    let linears = model.layers.iter().flat_map(|layer| &layer.linears);
    let seconds: f64 = linears.map(|linear| one(&*linear.weight)).sum();
    let sizes = Slot::ALL.map(|slot| model.shape.size(slot));
    let weights = sizes.iter().map(|(out, inputs)| out * inputs).sum::<usize>() * model.layers.len();
    show("nf4 linears of the model", seconds, weights, four_bits(weights));
    let head = model.shape.vocabulary * model.shape.hidden;
    show("its bf16 head", one(&*model.head), head, 2.0 * head as f64);
    let (rows, cols) = SIZE;
    let values = numbers(ENCODED * cols);
    let repeated = |bytes: &[u8]| bytes.repeat(rows / ENCODED);
    let nf4 = FourBitMatrix::encode(FourBit::Nf4, &values.repeat(rows / ENCODED), cols, true);
    show("nf4", one(&nf4), rows * cols, four_bits(rows * cols));
    drop(nf4);
    let floats = FloatMatrix { values: values.repeat(rows / ENCODED), cols };
    show("plain f32", one(&floats), rows * cols, 4.0 * (rows * cols) as f64);
    drop(floats);
    for form in FORMS {
        let (Some(codec), Some(encoder)) = (codec(form), encoder(form)) else {
            unreachable!("both are known")
        };
        let mut bytes = vec![0; form.byte_len((ENCODED * cols) as u64).unwrap_or(0) as usize];
        encoder.encode(&values, &mut bytes);
        let bytes = repeated(&bytes);
        let size = bytes.len() as f64;
        let Some(matrix) = PackedMatrix::new(codec, bytes, rows, cols) else { unreachable!("whole blocks") };
        show(&form.to_string().to_lowercase(), one(&matrix), rows * cols, size);
    }
}

/// The seconds that one token takes.
fn one(weight: &dyn FrozenMatrix) -> f64 {
    let (x, mut y) = (numbers(weight.cols()), vec![0.0; weight.rows()]);
    least(5, || row_times_transposed_each(1, &x, &mut [(weight, &mut y)]))
}

/// Codes, and their scales of one byte for 64 and of four for 64 * 256.
fn four_bits(values: usize) -> f64 {
    values as f64 * (0.5 + 1.0 / 64.0 + 4.0 / 16384.0)
}
