//! Weights as `F8_E4M3` with scales in a separate tensor: FP8 of whole tensors, rows or blocks, and MXFP8.
//!
//! ```text
//! X.weight            F8_E4M3 [rows, cols]
//! X.weight_scale_inv  F32 [ceil(rows / 128), ceil(cols / 128)]      blocks (DeepSeek-V3); also BF16, F8_E8M0
//! X.weight_scale      F32 [rows, 1]  or  [1]                        rows, or one for all (compressed-tensors)
//!                     U8  [rows, cols / 32]                         MXFP8: the exponents of E8M0
//!
//! value = code · scale of its tile
//! ```
//!
//! All are tiles of a matrix; only their size differs. Despite its name, `weight_scale_inv` is a factor, not a divisor.

use crate::float::{INFINITY, absmax};
use crate::float8::f32_to_e4m3;

/// The largest value of `F8_E4M3`.
pub const MAX: f32 = 448.0;

/// A matrix cut into tiles of `height` rows and `width` columns with one scale each. Tiles at the lower and right
/// edge may be smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of a tile.
    pub height: usize,
    /// Columns of a tile.
    pub width: usize,
}

/// How the scale of a tile follows from its largest magnitude, and the codes from the scale. A tile of zeros has the
/// scale 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleRule {
    /// `1 / (1 / largest · 448)`; values are multiplied by its reciprocal, `1 / largest · 448`. The `weight_scale_inv`
    /// of transformers.
    Reciprocal,
    /// The same, raised to a power of two, which E8M0 holds exactly; values are multiplied by its reciprocal. The
    /// scale format `ue8m0` of transformers.
    PowerOfTwo,
    /// `largest / 448`; values are divided by it. The `weight_scale` of compressed-tensors.
    Quotient,
}

impl Tiles {
    /// Tiles across one row of the matrix.
    pub fn per_row(&self) -> usize {
        self.cols.div_ceil(self.width)
    }

    /// Multiplies values by the scales of their tiles. The first value is value `skip` of the first row of tiles in
    /// `scales`, which holds [`Self::per_row`] scales for each row of tiles.
    ///
    /// # Panics
    /// If `scales` end before the values do, or if a tile has no rows or columns.
    pub fn scale(&self, scales: &[f32], skip: usize, values: &mut [f32]) {
        wide! {
            fn scale_row(scales: &[f32], width: usize, skip: usize, values: &mut [f32]) {
                let (first, rest) = values.split_at_mut((width - skip).min(values.len()));
                first.iter_mut().for_each(|v| *v *= scales[0]);
                for (tile, scale) in rest.chunks_mut(width).zip(&scales[1..]) {
                    tile.iter_mut().for_each(|v| *v *= scale);
                }
            }
        }
        let (mut at, mut rest) = (skip, values);
        while !rest.is_empty() {
            let col = at % self.cols;
            let (row, after) = rest.split_at_mut((self.cols - col).min(rest.len()));
            let tile_row = at / self.cols / self.height * self.per_row();
            let scales = &scales[tile_row + col / self.width..tile_row + self.per_row()];
            scale_row(scales, self.width, col % self.width, row);
            at += row.len();
            rest = after;
        }
    }

    /// Encodes whole rows of a matrix from the first row of a tile on: `F8_E4M3` codes, and [`Self::per_row`] scales
    /// for each row of tiles. Values that are not finite become NaN.
    ///
    /// # Panics
    /// If `values` and `codes` are not the same number of whole rows, or `scales` not one for each of their tiles.
    pub fn encode(&self, rule: ScaleRule, values: &[f32], codes: &mut [u8], scales: &mut [f32]) {
        let rows = values.len() / self.cols.max(1);
        assert_eq!(values.len(), rows * self.cols);
        assert_eq!(codes.len(), values.len());
        assert_eq!(scales.len(), rows.div_ceil(self.height) * self.per_row());
        if values.is_empty() {
            return;
        }
        let strip = self.height.min(rows) * self.cols;
        let strips = values.chunks(strip).zip(codes.chunks_mut(strip));
        for ((values, codes), scales) in strips.zip(scales.chunks_mut(self.per_row())) {
            let mut largest = vec![0.0; scales.len()];
            for row in values.chunks_exact(self.cols) {
                for (tile, largest) in row.chunks(self.width).zip(&mut largest) {
                    *largest = absmax(tile).max(*largest);
                }
            }
            let scalings: Vec<Scaling> = largest.iter().map(|largest| rule.scaling(*largest)).collect();
            scales.iter_mut().zip(&scalings).for_each(|(scale, scaling)| *scale = scaling.scale);
            for (row, codes) in values.chunks_exact(self.cols).zip(codes.chunks_exact_mut(self.cols)) {
                let tiles = row.chunks(self.width).zip(codes.chunks_mut(self.width));
                tiles.zip(&scalings).for_each(|((tile, codes), scaling)| scaling.encode(tile, codes));
            }
        }
    }
}

/// The scale of one tile, and how values are brought into the range of the codes.
#[derive(Clone, Copy)]
struct Scaling {
    scale: f32,
    /// The factor for values; if there is none, they are divided by the scale.
    factor: Option<f32>,
}

impl ScaleRule {
    /// The scale of a tile whose largest magnitude is `largest`.
    pub fn scale(self, largest: f32) -> f32 {
        self.scaling(largest).scale
    }

    fn scaling(self, largest: f32) -> Scaling {
        if largest == 0.0 {
            return Scaling { scale: 1.0, factor: Some(1.0) };
        }
        // PyTorch divides a number by a tensor by multiplying with the reciprocal. Below `448 / f32::MAX`, transformers
        // makes NaNs.
        let factor = (1.0 / largest * MAX).min(f32::MAX);
        let inverse = 1.0 / factor;
        match self {
            ScaleRule::Reciprocal => Scaling { scale: inverse, factor: Some(factor) },
            ScaleRule::PowerOfTwo => {
                let power =
                    f32::from_bits(inverse.max(f32::MIN_POSITIVE).to_bits().wrapping_add((1 << 23) - 1));
                let power = f32::from_bits(power.to_bits() & INFINITY);
                Scaling { scale: power, factor: Some(1.0 / power) }
            }
            ScaleRule::Quotient => Scaling { scale: largest / MAX, factor: None },
        }
    }
}

impl Scaling {
    fn encode(self, values: &[f32], codes: &mut [u8]) {
        wide! {
            fn multiplied(values: &[f32], factor: f32, codes: &mut [u8]) {
                for (code, value) in codes.iter_mut().zip(values) {
                    *code = f32_to_e4m3((value * factor).clamp(-MAX, MAX));
                }
            }
        }
        wide! {
            fn divided(values: &[f32], scale: f32, codes: &mut [u8]) {
                for (code, value) in codes.iter_mut().zip(values) {
                    *code = f32_to_e4m3((value / scale).clamp(-MAX, MAX));
                }
            }
        }
        match self.factor {
            Some(factor) => multiplied(values, factor, codes),
            None => divided(values, self.scale, codes),
        }
    }
}

/// The largest magnitude of `values`, from which [`encode_part`] derives the scale of a tile; NaN if any value is NaN.
pub fn largest(values: &[f32]) -> f32 {
    wide! {
        fn largest_of(values: &[f32]) -> f32 {
            absmax(values)
        }
    }
    largest_of(values)
}

/// Encodes part of a tile whose largest magnitude, over all its parts, is `largest`.
///
/// # Panics
/// If there are not as many `codes` as `values`.
pub fn encode_part(rule: ScaleRule, largest: f32, values: &[f32], codes: &mut [u8]) {
    assert_eq!(codes.len(), values.len());
    rule.scaling(largest).encode(values, codes);
}

/// The E8M0 exponent of a power-of-two scale.
pub fn e8m0(scale: f32) -> u8 {
    (scale.to_bits() >> 23) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use lorakit_tensor::DType;

    const BLOCKS: Tiles = Tiles { cols: 300, height: 128, width: 128 };

    fn matrix() -> Vec<f32> {
        (0..200 * 300).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / (300.0 + (i / 4000) as f32)).collect()
    }

    fn decode(tiles: Tiles, codes: &[u8], scales: &[f32], skip: usize, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        codec(DType::F8_E4M3).unwrap().decode(&codes[skip..skip + count], &mut values);
        tiles.scale(scales, skip, &mut values);
        values
    }

    #[test]
    fn tiles_at_the_edge_are_smaller() {
        let values = matrix();
        for (height, width) in [(128, 128), (200, 300), (1, 300), (1, 32), (3, 7)] {
            let tiles = Tiles { cols: 300, height, width };
            let scales: Vec<f32> =
                (0..200usize.div_ceil(height) * tiles.per_row()).map(|i| 1.0 + i as f32).collect();
            let expected: Vec<f32> = (0..values.len())
                .map(|i| values[i] * scales[i / 300 / height * tiles.per_row() + i % 300 / width])
                .collect();
            for (start, end) in [(0, values.len()), (1, 2), (127, 129), (299, 40_000), (38_399, 38_401)] {
                let mut part = values[start..end].to_vec();
                let row = start / 300 / height;
                tiles.scale(&scales[row * tiles.per_row()..], start - row * height * 300, &mut part);
                assert_eq!(part, expected[start..end], "{height}x{width} {start}..{end}");
            }
        }
    }

    #[test]
    fn the_largest_of_a_tile_is_the_largest_code() {
        let values = matrix();
        for rule in [ScaleRule::Reciprocal, ScaleRule::Quotient, ScaleRule::PowerOfTwo] {
            let (mut codes, mut scales) = (vec![0; values.len()], [0.0; 6]);
            BLOCKS.encode(rule, &values, &mut codes, &mut scales);
            let largest = values[..128 * 300].chunks(300).flat_map(|row| &row[..128]);
            let largest = largest.fold(0f32, |a, v| a.max(v.abs()));
            match rule {
                ScaleRule::Reciprocal => assert_eq!(scales[0], 1.0 / (1.0 / largest * 448.0)),
                ScaleRule::Quotient => assert_eq!(scales[0], largest / 448.0),
                ScaleRule::PowerOfTwo => {
                    assert_eq!(scales[0], f32::from_bits(u32::from(e8m0(scales[0])) << 23));
                    assert!(scales[0] >= largest / 448.0 && scales[0] < largest / 224.0);
                }
            }
            for (value, decoded) in values.iter().zip(decode(BLOCKS, &codes, &scales, 0, values.len())) {
                assert!(
                    (value - decoded).abs() <= value.abs() / 16.0 + largest / 448.0 / 512.0,
                    "{value} {decoded}"
                );
            }
        }
    }

    #[test]
    fn parts_are_encoded_like_the_whole() {
        let values = matrix();
        let largest_of_all = largest(&values);
        for rule in [ScaleRule::Reciprocal, ScaleRule::Quotient, ScaleRule::PowerOfTwo] {
            let (mut codes, mut scales) = (vec![0; values.len()], [0.0]);
            Tiles { cols: 300, height: 200, width: 300 }.encode(rule, &values, &mut codes, &mut scales);
            let mut parts = vec![0; values.len()];
            for (values, codes) in values.chunks(7001).zip(parts.chunks_mut(7001)) {
                encode_part(rule, largest_of_all, values, codes);
            }
            assert_eq!((parts, rule.scale(largest_of_all)), (codes, scales[0]), "{rule:?}");
        }
        assert!(largest(&[1.0, f32::NAN, -2.0]).is_nan());
        assert_eq!(largest(&[]), 0.0);
    }

    #[test]
    fn strange_tiles_do_not_panic() {
        let tiles = Tiles { cols: 2, height: 1, width: 2 };
        let values = [0.0, -0.0, f32::NAN, 1.0, f32::INFINITY, 1.0, 1e-40, 0.0];
        for rule in [ScaleRule::Reciprocal, ScaleRule::Quotient, ScaleRule::PowerOfTwo] {
            let (mut codes, mut scales) = ([9; 8], [9.0; 4]);
            tiles.encode(rule, &values, &mut codes, &mut scales);
            assert_eq!((codes[..2].to_vec(), scales[0]), (vec![0, 0x80], 1.0));
            assert_eq!((codes[2] & 0x7f, codes[4] & 0x7f, codes[7]), (0x7f, 0x7f, 0), "{rule:?}");
        }
        Tiles { cols: 0, height: 1, width: 1 }.encode(ScaleRule::Quotient, &[], &mut [], &mut []);
    }
}
