//! The products of one token, as decoding does them: beside what it takes to read the weights.

use std::hint::black_box;

use lorakit_train::kernel::{FrozenMatrix, Products, times_transposed};
use lorakit_train::model::{Model, Slot};

use super::measure::{least, numbers};

pub(super) fn run(model: &Model, products: Products) {
    let memory = vec![1u64; 1 << 25];
    let read = least(5, || {
        let sums =
            memory.chunks_exact(8).fold([0u64; 8], |sums, chunk| std::array::from_fn(|i| sums[i] ^ chunk[i]));
        black_box(sums);
    });
    let machine = 8.0 * memory.len() as f64 / read / 1e9;
    let one = |weight: &dyn FrozenMatrix| {
        let (x, mut y) = (numbers(weight.cols()), vec![0.0; weight.rows()]);
        least(3, || times_transposed(products, &x, weight, &mut y))
    };
    let linears = model.layers.iter().flat_map(|layer| &layer.linears);
    let seconds: f64 = linears.map(|linear| one(&*linear.weight)).sum();
    let sizes = Slot::ALL.map(|slot| model.shape.size(slot));
    let weights = sizes.iter().map(|(out, inputs)| out * inputs).sum::<usize>() * model.layers.len();
    // Codes, and their scales of one byte for 64 and of four for 64 * 256.
    let bytes = weights as f64 * (0.5 + 1.0 / 64.0 + 4.0 / 16384.0);
    let head = one(&*model.head);
    let head_bytes = 2.0 * (model.shape.vocabulary * model.shape.hidden) as f64;
    println!("reading memory: {machine:.1} GB/s");
    for (name, seconds, bytes) in [("nf4 linears", seconds, bytes), ("bf16 head", head, head_bytes)] {
        let rate = bytes / seconds / 1e9;
        println!(
            "{:?} one token, {name}: {:.1} ms, {rate:.2} GB/s ({:.0} %)",
            products.compute,
            1e3 * seconds,
            100.0 * rate / machine
        );
    }
}
