use lorakit_quant::bnb::FourBit;
use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;

use super::*;

/// Numbers in `-1..1`, some of which are zero and some denormal; the same for the same seed.
fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len)
        .map(|_| {
            let bits = next();
            let value = (bits >> 40) as f32 / 8_388_608.0 - 1.0;
            match bits % 16 {
                0 => 0.0f32.copysign(value),
                1 => value * 1e-39,
                _ => value,
            }
        })
        .collect()
}

/// Shapes `(tokens, out, in)` with tails in each place, and blocks of the inner dimension that are not alone.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (2, 3, 5),
    (13, 33, 65),
    (7, 17, 64),
    (25, 100, 129),
    (6, 16, 320),
    (5, 131, 515),
    (12, 32, 64),
    (31, 320, 200),
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Both products of every kernel with `weight` are those of the loops, on any number of threads.
fn check(weight: &dyn FrozenMatrix, tokens: usize, scale: f32) {
    let (out, inputs) = (weight.rows(), weight.cols());
    let scaled = |len, seed| random(len, seed).iter().map(|value| value * scale).collect::<Vec<f32>>();
    let (x, dy) = (scaled(tokens * inputs, 1), scaled(tokens * out, 2));
    for compute in [Compute::F32, Compute::Bf16] {
        let (mut y, mut dx) = (scaled(tokens * out, 3), scaled(tokens * inputs, 4));
        let (y_before, dx_before) = (y.clone(), dx.clone());
        reference::times_transposed(compute, &x, weight, &mut y);
        reference::times(compute, &dy, weight, &mut dx);
        for kernel in kernels(compute) {
            for threads in [1, 2, 5] {
                let (mut fast, mut back) = (y_before.clone(), dx_before.clone());
                times_transposed_on(kernel, threads, &x, weight, &mut fast);
                times_on(kernel, threads, &dy, weight, &mut back);
                let what = (kernel.name, compute, threads, tokens, out, inputs);
                assert_eq!(bits(&fast), bits(&y), "forward {what:?}");
                assert_eq!(bits(&back), bits(&dx), "backward {what:?}");
            }
        }
    }
}

#[test]
fn every_kernel_computes_what_the_loops_do() {
    for (tokens, out, inputs) in SHAPES {
        check(&FloatMatrix { values: random(out * inputs, 5), cols: inputs }, tokens, 1.0);
    }
}

/// Products of numbers around 2⁻⁶³ are on both sides of the smallest normal number.
#[test]
fn sums_that_become_tiny_are_zero_in_bf16_on_every_kernel() {
    let scale = 2f32.powi(-63);
    for (tokens, out, inputs) in SHAPES {
        let values: Vec<f32> = random(out * inputs, 6).iter().map(|value| value * scale).collect();
        check(&FloatMatrix { values, cols: inputs }, tokens, scale);
    }
}

#[test]
fn every_kernel_decodes_every_base() {
    for double in [false, true] {
        for (rows, cols) in [(37, 128), (20, 320), (9, 100)] {
            check(&FourBitMatrix::encode(FourBit::Nf4, &random(rows * cols, 7), cols, double), 7, 1.0);
        }
    }
    for dtype in [DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4_K, DType::Q6_K] {
        let (rows, cols) = (19, 768);
        let mut bytes = vec![0; rows * dtype.byte_len(cols as u64).expect("whole blocks") as usize];
        encoder(dtype).expect("has an encoder").encode(&random(rows * cols, 8), &mut bytes);
        let codec = codec(dtype).expect("has a codec");
        check(&PackedMatrix::new(codec, bytes, rows, cols).expect("whole blocks"), 7, 1.0);
    }
}

#[test]
fn outer_products_add_tokens_in_order() {
    for (tokens, out, inputs) in SHAPES {
        let (dy, x, before) =
            (random(tokens * out, 9), random(tokens * inputs, 10), random(out * inputs, 11));
        let mut expected = before.clone();
        reference::add_outer(&dy, &x, &mut expected, out, inputs);
        for kernel in kernels(Compute::F32) {
            for threads in [1, 2, 5] {
                let mut sums = before.clone();
                add_outer_on(kernel, threads, &dy, &x, &mut sums, out, inputs);
                assert_eq!(bits(&sums), bits(&expected), "{} {threads} {tokens} {out} {inputs}", kernel.name);
            }
        }
    }
}

#[test]
fn nothing_is_added_to_nothing() {
    let products = Products { compute: Compute::F32, threads: 3 };
    let empty = FloatMatrix { values: Vec::new(), cols: 4 };
    times_transposed(products, &[1.0; 8], &empty, &mut []);
    let mut dx = [1.0; 0];
    times(products, &[], &empty, &mut dx);
    let mut dw = [2.0; 6];
    add_outer(products, &[], &[], &mut dw, 2, 3);
    assert_eq!(dw, [2.0; 6]);
}

/// Products of few rows are those of their loop on every kernel, whatever the form of the weight.
fn check_rows(weight: &dyn FrozenMatrix) {
    let (out, inputs) = (weight.rows(), weight.cols());
    for count in [1, 2, 5] {
        let (x, y_before) = (random(count * inputs, 1), random(count * out, 2));
        let mut expected = y_before.clone();
        reference::row_times_transposed(&x, weight, &mut expected);
        for kernel in kernels(Compute::F32) {
            for threads in [1, 3] {
                let mut y = y_before.clone();
                row_times_transposed_on(kernel, threads, &x, weight, &mut y);
                assert_eq!(bits(&y), bits(&expected), "{} {threads} {count} {out} {inputs}", kernel.name);
            }
        }
    }
}

#[test]
fn products_of_few_rows_are_those_of_their_loop() {
    for (_, out, inputs) in SHAPES {
        check_rows(&FloatMatrix { values: random(out * inputs, 5), cols: inputs });
    }
    check_rows(&FloatMatrix { values: random(500 * 1100, 6), cols: 1100 });
    for double in [false, true] {
        for (rows, cols) in [(37, 128), (20, 320), (9, 100), (3, 2176)] {
            check_rows(&FourBitMatrix::encode(FourBit::Nf4, &random(rows * cols, 7), cols, double));
        }
    }
    use DType::{BF16, F16, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
    for dtype in [F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K] {
        for rows in [19, 700] {
            let cols = 1536;
            let mut bytes = vec![0; rows * dtype.byte_len(cols as u64).expect("whole blocks") as usize];
            encoder(dtype).expect("has an encoder").encode(&random(rows * cols, 8), &mut bytes);
            let codec = codec(dtype).expect("has a codec");
            check_rows(&PackedMatrix::new(codec, bytes, rows, cols).expect("whole blocks"));
        }
    }
}

#[test]
fn few_rows_are_multiplied_by_several_weights() {
    let weights = [(7, 1), (1, 2), (200, 3), (33, 4)]
        .map(|(rows, seed)| FloatMatrix { values: random(rows * 1000, seed), cols: 1000 });
    let x = random(2 * 1000, 9);
    let mut sums = weights.each_ref().map(|weight| random(2 * weight.rows(), 10));
    let mut expected = sums.clone();
    for (weight, expected) in weights.iter().zip(&mut expected) {
        reference::row_times_transposed(&x, weight, expected);
    }
    let mut each: Vec<_> = weights
        .iter()
        .zip(&mut sums)
        .map(|(weight, sums)| (weight as &dyn FrozenMatrix, sums.as_mut_slice()))
        .collect();
    row_times_transposed_each(5, &x, &mut each);
    assert!(sums.iter().zip(&expected).all(|(sums, expected)| bits(sums) == bits(expected)));
    row_times_transposed_each(1, &[], &mut [(&weights[0] as &dyn FrozenMatrix, &mut [][..])]);
}
