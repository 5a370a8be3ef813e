//! Products with frozen weights, and those of adapters, as a share of the peak of the instruction that they use.

use lorakit_quant::bnb::FourBit;
use lorakit_train::kernel::{
    Compute, FloatMatrix, FourBitMatrix, FrozenMatrix, Kernel, PlainMatrix, add_outer_on, times_on,
    times_transposed_on,
};

use super::measure::{numbers, rate};

/// `(out, in)` of linears of models from 135M to 8B.
const SHAPES: [(usize, usize); 4] = [(1536, 576), (4864, 896), (8192, 2048), (4096, 4096)];

pub(super) fn run(kernel: &Kernel, peak: f64) {
    for (out, inputs) in SHAPES {
        let values = numbers(out * inputs);
        let nf4 = FourBitMatrix::encode(FourBit::Nf4, &values, inputs, true);
        let float = FloatMatrix { values, cols: inputs };
        for tokens in [128, 256, 1024] {
            let (x, dy) = (numbers(tokens * inputs), numbers(tokens * out));
            let (mut y, mut dx) = (vec![0.0; tokens * out], vec![0.0; tokens * inputs]);
            let work = 2.0 * (tokens * out * inputs) as f64;
            let mut line = format!("{out:5} x {inputs:4}, {tokens:4} tokens");
            for (name, weight) in [("nf4", &nf4 as &dyn FrozenMatrix), ("f32", &float)] {
                let forward = rate(work, || times_transposed_on(kernel, 1, &x, weight, &mut y));
                let back = rate(work, || times_on(kernel, 1, &dy, weight, &mut dx));
                line += &format!(" | {name} {}, back {}", share(forward, peak), share(back, peak));
            }
            println!("{line}");
        }
    }
    if kernel.compute == Compute::F32 {
        adapter(kernel, peak);
    }
}

/// The products of a LoRA of rank 16.
fn adapter(kernel: &Kernel, peak: f64) {
    let (tokens, width, rank) = (512, 1536, 16);
    let (x, factor, mut u) = (numbers(tokens * width), numbers(rank * width), vec![0.0; tokens * rank]);
    let a = PlainMatrix { values: &factor, cols: width };
    let b = PlainMatrix { values: &factor, cols: rank };
    let work = 2.0 * (tokens * width * rank) as f64;
    let (mut y, mut gradient) = (vec![0.0; tokens * width], vec![0.0; rank * width]);
    let first = rate(work, || times_transposed_on(kernel, 1, &x, &a, &mut u));
    let second = rate(work, || times_transposed_on(kernel, 1, &u, &b, &mut y));
    let back = rate(work, || times_on(kernel, 1, &x, &b, &mut u));
    let outer = rate(work, || add_outer_on(kernel, 1, &u, &x, &mut gradient, rank, width));
    let all = [first, second, back, outer].map(|rate| share(rate, peak));
    println!(
        "rank {rank}, {width} wide, {tokens} tokens: x Aᵀ {}, u Bᵀ {}, dy B {}, duᵀ x {}",
        all[0], all[1], all[2], all[3]
    );
}

fn share(rate: f64, peak: f64) -> String {
    format!("{rate:5.1} ({:2.0} %)", 100.0 * rate / peak)
}
