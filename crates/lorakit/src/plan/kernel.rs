//! The arithmetic of a merge, written so that the compiler vectorises it and every machine gets the same bits:
//! sums run in a fixed order, and multiply-adds are fused everywhere or nowhere.
//!
//! `B * A` is summed over the rank in order, fused, from zero, and scaled afterwards. That is what the BLAS under
//! PyTorch computes for LoRA's small ranks, so merges equal PEFT's bit for bit.

use multiversion::multiversion;
use multiversion::target::selected_target;

use super::retention::Retention;

/// Columns that are computed together.
pub(super) const LANES: usize = 16;
/// Rows that share one pass over `A`.
pub(super) const ROWS: usize = 4;

/// The instructions that sums use on this machine: the widest of those that the program is compiled for. Every choice
/// gives the same bits.
pub fn vector_code() -> &'static str {
    match vector_bits() {
        512 => "AVX-512",
        256 => "AVX2 and FMA",
        _ if cfg!(target_arch = "x86_64") => "SSE2",
        _ if cfg!(target_arch = "aarch64") => "NEON",
        _ => "none",
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn vector_bits() -> u32 {
    let target = selected_target!();
    if target.supports_feature_str("avx512f") {
        512
    } else if target.supports_feature_str("avx2") {
        256
    } else {
        128
    }
}

/// Packs `a`, row-major `(rank, cols)`, into strips of [`LANES`] columns: `[strip][k][lane]`, zero-padded.
pub(super) fn pack(a: &[f32], rank: usize, cols: usize) -> Vec<f32> {
    let strips = cols.div_ceil(LANES);
    let mut packed = vec![0.0; strips * rank * LANES];
    for (s, strip) in packed.chunks_exact_mut(rank.max(1) * LANES).enumerate() {
        let from = s * LANES;
        let width = LANES.min(cols - from);
        for (k, lanes) in strip.chunks_exact_mut(LANES).enumerate() {
            lanes[..width].copy_from_slice(&a[k * cols + from..][..width]);
        }
    }
    packed
}

/// Adds `scale * b * a` to `delta`: `delta` is `(rows, cols)`, `b` is `(rows, rank)`, `a` packed by [`pack`].
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn add_low_rank(delta: &mut [f32], b: &[f32], a: &[f32], rank: usize, cols: usize, scale: f32) {
    if rank == 0 || cols == 0 {
        return;
    }
    let (a, _) = a.as_chunks::<LANES>();
    // The factors of a few rows, by `k`: the inner loop then walks two slices and checks no index.
    let mut tile = vec![[0f32; ROWS]; rank];
    for (delta, b) in delta.chunks_mut(ROWS * cols).zip(b.chunks(ROWS * rank)) {
        for (i, row) in b.chunks_exact(rank).enumerate() {
            tile.iter_mut().zip(row).for_each(|(factors, &factor)| factors[i] = factor);
        }
        // The last tile may lack rows; whatever is in their place is computed and dropped.
        let rows = delta.len() / cols;
        for (s, strip) in a.chunks_exact(rank).enumerate() {
            let sums = products(&tile, strip);
            let from = s * LANES;
            let width = LANES.min(cols - from);
            if rows == ROWS && width == LANES {
                for (i, sum) in sums.iter().enumerate() {
                    add_scaled(&mut delta[i * cols + from..][..LANES], sum, scale);
                }
            } else {
                for (i, sum) in sums.iter().enumerate().take(rows) {
                    add_scaled(&mut delta[i * cols + from..][..width], sum, scale);
                }
            }
        }
    }
}

/// `(ROWS, rank)` times `(rank, LANES)`; the sums stay in registers.
#[inline(always)]
fn products(tile: &[[f32; ROWS]], strip: &[[f32; LANES]]) -> [[f32; LANES]; ROWS] {
    let mut sums = [[0f32; LANES]; ROWS];
    for (factors, lanes) in tile.iter().zip(strip) {
        for (sum, &factor) in sums.iter_mut().zip(factors) {
            for (x, &y) in sum.iter_mut().zip(lanes) {
                *x = factor.mul_add(y, *x);
            }
        }
    }
    sums
}

#[inline(always)]
fn add_scaled(out: &mut [f32], sum: &[f32; LANES], scale: f32) {
    out.iter_mut().zip(sum).for_each(|(x, y)| *x += scale * y);
}

/// `out[i] = w[i] + delta[i]`. Returns whether every sum is finite, which it is only if `w` and `delta` are.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn add(out: &mut [f32], w: &[f32], delta: &[f32]) -> bool {
    let mut bad = 0;
    for ((o, &w), &d) in out.iter_mut().zip(w).zip(delta) {
        *o = w + d;
        bad |= not_finite(*o);
    }
    bad == 0
}

/// 1 for a NaN or an infinity, else 0: without a branch, so that loops over it are vectorised.
#[inline(always)]
fn not_finite(value: f32) -> u32 {
    const EXPONENT: u32 = 0x7f80_0000;
    u32::from(value.to_bits() & EXPONENT == EXPONENT)
}

/// How much of `delta`, added to `before`, is left in the stored values, `after`.
///
/// Its sums are not finite if a value of `after` is not, or if squares are beyond f32.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn retained(before: &[f32], after: &[f32], delta: &[f32]) -> Retention {
    // f32 lanes over short pieces, f64 over the pieces: fast, and exact enough for a ratio.
    const PIECE: usize = 64 * LANES;
    let mut sums = Retention::default();
    for ((before, after), delta) in before.chunks(PIECE).zip(after.chunks(PIECE)).zip(delta.chunks(PIECE)) {
        let mut k = [0f32; LANES];
        let mut w = [0f32; LANES];
        let mut b = [0f32; LANES];
        let mut m = [0u32; LANES];
        let mut s = [0u32; LANES];
        let full = delta.len() / LANES * LANES;
        for ((before, after), delta) in
            before.chunks_exact(LANES).zip(after.chunks_exact(LANES)).zip(delta.chunks_exact(LANES))
        {
            for l in 0..LANES {
                let d = delta[l];
                k[l] += (after[l] - before[l]) * d;
                w[l] += d * d;
                b[l] += before[l] * before[l];
                m[l] += u32::from(d != 0.0);
                s[l] += u32::from((d != 0.0) & (after[l] == before[l]));
            }
        }
        for l in full..delta.len() {
            let d = delta[l];
            let lane = l - full;
            k[lane] += (after[l] - before[l]) * d;
            w[lane] += d * d;
            b[lane] += before[l] * before[l];
            m[lane] += u32::from(d != 0.0);
            s[lane] += u32::from((d != 0.0) & (after[l] == before[l]));
        }
        sums.kept += k.iter().map(|&x| f64::from(x)).sum::<f64>();
        sums.whole += w.iter().map(|&x| f64::from(x)).sum::<f64>();
        sums.base += b.iter().map(|&x| f64::from(x)).sum::<f64>();
        sums.moved += m.iter().map(|&x| u64::from(x)).sum::<u64>();
        sums.unchanged += s.iter().map(|&x| u64::from(x)).sum::<u64>();
    }
    sums
}

/// Computes the sums of [`retained`] again, for values whose squares are beyond f32.
pub(super) fn retained_wide(before: &[f32], after: &[f32], delta: &[f32], sums: &mut Retention) {
    (sums.kept, sums.whole, sums.base) = (0.0, 0.0, 0.0);
    for ((&before, &after), &delta) in before.iter().zip(after).zip(delta) {
        let (before, delta) = (f64::from(before), f64::from(delta));
        sums.kept += (f64::from(after) - before) * delta;
        sums.whole += delta * delta;
        sums.base += before * before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_rank_product_equals_the_plain_loops() {
        for (rows, rank, cols) in [(1, 1, 1), (4, 3, 16), (7, 16, 37), (9, 2, 129)] {
            let value = |i: usize| ((i * 2654435761) % 1000) as f32 / 500.0 - 1.0;
            let b: Vec<f32> = (0..rows * rank).map(value).collect();
            let a: Vec<f32> = (0..rank * cols).map(|i| value(i + 7)).collect();
            let mut delta = vec![0.5; rows * cols];
            add_low_rank(&mut delta, &b, &pack(&a, rank, cols), rank, cols, 0.3);
            for i in 0..rows {
                for j in 0..cols {
                    let sum = (0..rank).fold(0f32, |s, k| b[i * rank + k].mul_add(a[k * cols + j], s));
                    assert_eq!(delta[i * cols + j], 0.5 + 0.3 * sum, "({i}, {j}) of {rows}x{rank}x{cols}");
                }
            }
        }
    }

    #[test]
    fn retention_counts_what_rounding_kept() {
        let sums = retained(&[1.0, 1.0, 1.0], &[1.5, 1.0, 1.0], &[0.5, 0.25, 0.0]);
        let expected = Retention { kept: 0.25, whole: 0.3125, base: 3.0, moved: 2, unchanged: 1 };
        assert_eq!(sums, expected);
    }

    #[test]
    fn large_squares_are_summed_in_f64() {
        let (before, delta) = ([1e25, 1.0], [1e20, 0.0]);
        let mut sums = retained(&before, &[1e25 + 1e20, 1.0], &delta);
        assert!(!sums.is_finite());
        retained_wide(&before, &[1e25 + 1e20, 1.0], &delta, &mut sums);
        assert!(sums.is_finite() && sums.moved == 1);
        assert!((sums.base / 1e50 - 1.0).abs() < 1e-6 && (sums.whole / 1e40 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn sums_that_are_no_numbers_are_seen() {
        let mut out = [0.0; 3];
        assert!(add(&mut out, &[1.0, 2.0, 3.0], &[0.5, 0.0, -3.0]));
        assert_eq!(out, [1.5, 2.0, 0.0]);
        for (w, d) in
            [(f32::NAN, 1.0), (1.0, f32::INFINITY), (f32::INFINITY, f32::NEG_INFINITY), (3e38, 3e38)]
        {
            assert!(!add(&mut out, &[1.0, w, 1.0], &[1.0, d, 1.0]));
        }
    }
}
