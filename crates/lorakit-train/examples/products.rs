//! Speed of products with frozen weights, on one thread, as a share of the peak of the instruction that they use.
//!
//! ```text
//! cargo run --release -p lorakit-train --example products [KERNEL]
//! ```
//!
//! Peaks and products are measured in the same process, in CPU time, best of several; an operation is a multiplication
//! or an addition.
#![allow(clippy::print_stdout, reason = "what it is for")]

use std::hint::black_box;

use lorakit_quant::bnb::FourBit;
use lorakit_train::kernel::{
    Compute, FloatMatrix, FourBitMatrix, FrozenMatrix, Kernel, PlainMatrix, add_outer_on, kernels, times_on,
    times_transposed_on,
};
use rustix::time::{ClockId, clock_gettime};

/// `(out, in)` of linears of models from 135M to 8B.
const SHAPES: [(usize, usize); 4] = [(1536, 576), (4864, 896), (8192, 2048), (4096, 4096)];

fn main() {
    let only = std::env::args().nth(1);
    for compute in [Compute::F32, Compute::Bf16] {
        for kernel in kernels(compute) {
            let slow = kernel.name == "portable" || compute == Compute::Bf16 && kernel.name != "avx512bf16";
            if only.as_deref().map_or(slow, |name| name != kernel.name) {
                continue;
            }
            let peak = peak(kernel);
            println!("{} {compute:?}: peak {peak:.0} GFLOP/s", kernel.name);
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
            if compute == Compute::F32 {
                adapter(kernel, peak);
            }
        }
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

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 65536.0 - 0.5).collect()
}

/// Operations in a nanosecond.
fn rate(work: f64, mut run: impl FnMut()) -> f64 {
    run();
    let repeats = (2e8 / work).ceil() as usize;
    let best = (0..10)
        .map(|_| {
            let before = cpu_time();
            (0..repeats).for_each(|_| run());
            cpu_time() - before
        })
        .fold(f64::MAX, f64::min);
    work * repeats as f64 / best / 1e9
}

fn share(rate: f64, peak: f64) -> String {
    format!("{rate:5.1} ({:2.0} %)", 100.0 * rate / peak)
}

/// The CPU time of this thread, in seconds.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The rate of the kernel's instruction when nothing else is done.
fn peak(kernel: &Kernel) -> f64 {
    const ROUNDS: u64 = 4_000_000;
    let (operations, run): (f64, fn(u64)) = match kernel.name {
        #[cfg(target_arch = "x86_64")]
        "avx512" => (12.0 * 32.0, peaks::avx512),
        #[cfg(target_arch = "x86_64")]
        "avx512bf16" => (12.0 * 64.0, peaks::avx512_bf16),
        #[cfg(target_arch = "x86_64")]
        "avx2" => (12.0 * 16.0, peaks::avx2),
        _ => (2.0, |rounds| {
            black_box((0..rounds).fold(0.5f32, |sum, _| black_box(sum).mul_add(0.5, 0.25)));
        }),
    };
    rate(operations * ROUNDS as f64, || run(black_box(ROUNDS)))
}

/// Chains of one instruction, as many as hide its latency.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the compiler would not leave them alone")]
mod peaks {
    use std::arch::asm;

    macro_rules! chains {
        ($name:ident: $instruction:literal, $register:literal) => {
            pub(super) fn $name(rounds: u64) {
                // SAFETY: registers only. It runs where a kernel with these instructions was found.
                unsafe {
                    asm!(
                        "vzeroall",
                        "2:",
                        concat!($instruction, " ", $register, "0, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "1, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "2, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "3, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "4, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "5, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "6, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "7, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "8, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "9, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "10, ", $register, "12, ", $register, "13"),
                        concat!($instruction, " ", $register, "11, ", $register, "12, ", $register, "13"),
                        "dec {rounds}",
                        "jnz 2b",
                        "vzeroupper",
                        rounds = inout(reg) rounds => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                    );
                }
            }
        };
    }

    chains!(avx2: "vfmadd231ps", "ymm");
    chains!(avx512: "vfmadd231ps", "zmm");
    chains!(avx512_bf16: "vdpbf16ps", "zmm");
}
