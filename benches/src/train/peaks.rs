//! The rates of the instructions that kernels use, when nothing else is done.
#![allow(unsafe_code, reason = "the compiler would not leave the instructions alone")]

use std::hint::black_box;

use lorakit_train::kernel::Kernel;

use super::measure::rate;

/// Operations in a nanosecond, of which a multiplication and an addition are two.
pub(super) fn peak(kernel: &Kernel) -> f64 {
    const ROUNDS: u64 = 4_000_000;
    let (operations, run): (f64, fn(u64)) = match kernel.name {
        #[cfg(target_arch = "x86_64")]
        "avx512" => (12.0 * 32.0, chains::avx512),
        #[cfg(target_arch = "x86_64")]
        "avx512bf16" => (12.0 * 64.0, chains::avx512_bf16),
        #[cfg(target_arch = "x86_64")]
        "avx2" => (12.0 * 16.0, chains::avx2),
        _ => (2.0, |rounds| {
            black_box((0..rounds).fold(0.5f32, |sum, _| black_box(sum).mul_add(0.5, 0.25)));
        }),
    };
    rate(operations * ROUNDS as f64, || run(black_box(ROUNDS)))
}

/// Chains of one instruction, as many as hide its latency. All sums stay in registers.
#[cfg(target_arch = "x86_64")]
mod chains {
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
