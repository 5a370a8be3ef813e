//! Matrices of 8-bit floats with scales: which values share one.

use lorakit_quant::codec;
use lorakit_quant::fp8::{self, ScaleRule, Tiles};
use lorakit_tensor::DType;

/// The side of an FP8 tile.
pub(super) const TILE: usize = 128;

/// Values per group of MXFP8 and MXFP4.
pub(super) const GROUP: usize = 32;

/// The values that share a scale in a matrix of 8-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fp8 {
    /// The whole matrix.
    Tensor,
    /// A row: an output channel.
    Row,
    /// A tile of 128 rows and 128 columns.
    Tile,
    /// 32 values of a row, whose scale is a power of two: MXFP8 of the Open Compute Project. Rows divide into such
    /// groups.
    Group,
}

impl Fp8 {
    /// The tiles of a matrix of `cols` columns, where they end within a panel.
    pub(super) fn tiles(self, cols: usize) -> Option<Tiles> {
        let (height, width) = match self {
            Fp8::Tensor => return None,
            Fp8::Row => (1, cols.max(1)),
            Fp8::Tile => (TILE, TILE),
            Fp8::Group => (1, GROUP),
        };
        Some(Tiles { cols, height, width })
    }

    fn rule(self) -> ScaleRule {
        match self {
            Fp8::Tensor | Fp8::Row => ScaleRule::Quotient,
            Fp8::Tile => ScaleRule::Reciprocal,
            Fp8::Group => ScaleRule::PowerOfTwo,
        }
    }

    /// The scale of a matrix whose largest magnitude is `largest`.
    pub(super) fn scale(self, largest: f32) -> f32 {
        self.rule().scale(largest)
    }

    /// Encodes whole rows of tiles of a matrix whose largest magnitude is `largest`, if that is needed; `values` become
    /// what a reader will see.
    pub(super) fn encode(
        self,
        cols: usize,
        largest: f32,
        values: &mut [f32],
        codes: &mut [u8],
        scales: &mut [f32],
    ) {
        let tiles = self.tiles(cols);
        let rule = self.rule();
        match tiles {
            Some(tiles) => tiles.encode(rule, values, codes, scales),
            None => fp8::encode_part(rule, largest, values, codes),
        }
        if let Some(codec) = codec(DType::F8_E4M3) {
            codec.decode(codes, values);
        }
        match tiles {
            Some(tiles) => tiles.scale(scales, 0, values),
            None => values.iter_mut().for_each(|v| *v *= rule.scale(largest)),
        }
    }
}
