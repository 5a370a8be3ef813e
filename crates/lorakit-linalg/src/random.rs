//! Random numbers by position: Philox4x32-10, a counter-based generator.
//!
//! Each number depends only on the seed and its position, so any part of a matrix can be made on its own, in any order
//! and on any machine, with the same bits.

use ndarray::Array2;

/// Four random words for a counter and a key (Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy as
/// 1, 2, 3*, 2011).
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
        }
        let wide = [u64::from(counter[0]) * 0xd251_1f53, u64::from(counter[2]) * 0xcd9e_8d57];
        let [low, high] = [wide.map(|x| x as u32), wide.map(|x| (x >> 32) as u32)];
        counter = [high[1] ^ counter[1] ^ key[0], low[1], high[0] ^ counter[3] ^ key[1], low[0]];
    }
    counter
}

/// A matrix `(rows, columns)` of independent standard normal values.
///
/// A value depends only on its row, its column and the seed, not on the size of the matrix. It is Box and Muller's
/// transform with the logarithm and cosine of the `libm` crate, whose bits are the same everywhere.
pub fn gaussian(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let key = halves(seed);
    let mut out = Array2::zeros((rows, columns));
    for (i, mut row) in out.rows_mut().into_iter().enumerate() {
        let [row_low, row_high] = halves(i as u64);
        for (j, mut pair) in row.axis_chunks_iter_mut(ndarray::Axis(0), 2).enumerate() {
            let [low, high] = halves(j as u64);
            let values = normal_pair(philox4x32([low, high, row_low, row_high], key));
            pair.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        }
    }
    out
}

fn normal_pair(words: [u32; 4]) -> [f64; 2] {
    const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
    let bits = |high: u32, low: u32| (u64::from(high) << 32 | u64::from(low)) >> 11;
    // From (0, 1], so that the logarithm is finite, and [0, 1).
    let radius = (-2.0 * libm::log((bits(words[0], words[1]) + 1) as f64 * UNIT)).sqrt();
    let angle = std::f64::consts::TAU * (bits(words[2], words[3]) as f64 * UNIT);
    [radius * libm::cos(angle), radius * libm::sin(angle)]
}

fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;

    /// `kat_vectors` of the authors' Random123 1.14.
    #[test]
    fn known_answers() {
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    #[test]
    fn a_value_depends_on_its_place_alone() {
        let large = gaussian(9, 8, 5);
        assert_eq!(gaussian(4, 3, 5), large.slice(s![..4, ..3]));
        assert_ne!(gaussian(9, 8, 6), large);
        assert_ne!(large.row(0), large.row(1));
    }

    /// Values from the same formulas in Python.
    #[test]
    fn known_values_to_the_last_bit() {
        let expected = [
            [0.886497505901441, 0.4393560694379266, -0.15660962291201724, -0.013718678830210418],
            [0.3410315357706154, 3.0136860172395004, 1.5944727689340674, 1.2470360052237481],
        ];
        assert_eq!(gaussian(2, 4, 42), ndarray::arr2(&expected));
        assert_eq!(
            gaussian(8, 8, (1 << 40) + 5).row(7).slice(s![6..]),
            ndarray::aview1(&[0.5749578154522501, 0.4157861347301155])
        );
    }

    #[test]
    fn the_values_are_standard_normal() {
        let x = gaussian(400, 251, 11);
        let count = x.len() as f64;
        let moment = |power: i32| x.iter().map(|x| x.powi(power)).sum::<f64>() / count;
        // Five standard deviations of each sample moment.
        let tolerance = 5.0 / count.sqrt();
        assert!(moment(1).abs() < tolerance, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < tolerance * 2f64.sqrt(), "{}", moment(2));
        assert!(moment(3).abs() < tolerance * 15f64.sqrt(), "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < tolerance * 96f64.sqrt(), "{}", moment(4));
        let beyond = x.iter().filter(|x| x.abs() > 1.959_963_984_540_054).count() as f64 / count;
        assert!((beyond - 0.05).abs() < tolerance * 0.22, "{beyond}");
    }
}
