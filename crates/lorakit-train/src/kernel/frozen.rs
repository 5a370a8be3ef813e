//! Weights that are not trained.

use std::ops::Range;

use lorakit_quant::Codec;

use super::fetch::fetch;
use super::row::{self, Input, ROWS};

/// A frozen weight `W (rows, cols)`, in whatever form it is stored.
pub trait FrozenMatrix: Send + Sync {
    /// Outputs.
    fn rows(&self) -> usize;
    /// Inputs.
    fn cols(&self) -> usize;
    /// Decodes the columns `cols` of row `row` into `out`. `cols` begins at a multiple of 64, and ends at one or at
    /// the end of the row.
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]);
    /// Begins to read what [`Self::decode`] of the same range needs. It changes no result.
    #[doc(hidden)]
    fn fetch(&self, _row: usize, _cols: Range<usize>) {}
    /// All values, row-major, where they are stored as f32: then nothing needs to be decoded.
    fn plain(&self) -> Option<&[f32]> {
        None
    }
    /// Columns that are stored together: ranges that begin at multiples of it decode fastest. A power of two.
    fn granule(&self) -> usize {
        64
    }
    /// The products of the rows `rows` with each row of `input`: `out` is `(rows, count)`.
    #[doc(hidden)]
    fn products(&self, input: &Input<'_>, rows: Range<usize>, out: &mut [f32]) {
        input.decoded(self, rows, out);
    }
}

/// Weights in f32.
#[derive(Debug, Clone)]
pub struct FloatMatrix {
    /// `(rows, cols)`, row-major.
    pub values: Vec<f32>,
    /// Columns.
    pub cols: usize,
}

impl FrozenMatrix for FloatMatrix {
    fn rows(&self) -> usize {
        PlainMatrix { values: &self.values, cols: self.cols }.rows()
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        PlainMatrix { values: &self.values, cols: self.cols }.decode(row, cols, out);
    }

    fn plain(&self) -> Option<&[f32]> {
        Some(&self.values)
    }

    fn products(&self, input: &Input<'_>, rows: Range<usize>, out: &mut [f32]) {
        input.plain(&self.values, rows, out);
    }
}

/// Values that belong to someone else: the factors of an adapter, say.
#[derive(Debug, Clone, Copy)]
pub struct PlainMatrix<'a> {
    /// `(rows, cols)`, row-major.
    pub values: &'a [f32],
    /// Columns.
    pub cols: usize,
}

impl FrozenMatrix for PlainMatrix<'_> {
    fn rows(&self) -> usize {
        self.values.len().checked_div(self.cols).unwrap_or(0)
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&self.values[row * self.cols..][cols]);
    }

    fn plain(&self) -> Option<&[f32]> {
        Some(self.values)
    }

    fn products(&self, input: &Input<'_>, rows: Range<usize>, out: &mut [f32]) {
        input.plain(self.values, rows, out);
    }
}

/// Weights as a codec of `lorakit-quant` packs them: half floats, and the blocks of GGUF files.
#[derive(Debug, Clone)]
pub struct PackedMatrix<B = Vec<u8>> {
    codec: &'static dyn Codec,
    bytes: B,
    rows: usize,
    cols: usize,
}

impl<B: AsRef<[u8]>> PackedMatrix<B> {
    /// The weight `(rows, cols)` in `bytes`. `None` if they are not as many rows of whole blocks.
    pub fn new(codec: &'static dyn Codec, bytes: B, rows: usize, cols: usize) -> Option<PackedMatrix<B>> {
        let row = codec.dtype().byte_len(cols as u64)?;
        let whole = cols.is_multiple_of(codec.dtype().block().elements);
        let fits = row.checked_mul(rows as u64) == Some(bytes.as_ref().len() as u64);
        (whole && fits).then_some(PackedMatrix { codec, bytes, rows, cols })
    }

    /// The bytes of some blocks of a row.
    fn blocks(&self, row: usize, blocks: Range<usize>) -> &[u8] {
        let block = self.codec.dtype().block();
        let before = row * (self.cols / block.elements);
        &self.bytes.as_ref()[(before + blocks.start) * block.bytes..(before + blocks.end) * block.bytes]
    }
}

impl<B: AsRef<[u8]> + Send + Sync> FrozenMatrix for PackedMatrix<B> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let block = self.codec.dtype().block();
        let (first, end) = (cols.start / block.elements, cols.end.div_ceil(block.elements));
        let bytes = self.blocks(row, first..end);
        if cols.start == first * block.elements && cols.end == end * block.elements {
            return self.codec.decode(bytes, out);
        }
        let mut whole = vec![0.0; (end - first) * block.elements];
        self.codec.decode(bytes, &mut whole);
        out.copy_from_slice(&whole[cols.start - first * block.elements..][..cols.len()]);
    }

    fn fetch(&self, row: usize, cols: Range<usize>) {
        let block = self.codec.dtype().block();
        fetch(self.blocks(row, cols.start / block.elements..cols.end.div_ceil(block.elements)));
    }

    fn granule(&self) -> usize {
        self.codec.dtype().block().elements.next_power_of_two().max(64)
    }

    fn products(&self, input: &Input<'_>, rows: Range<usize>, out: &mut [f32]) {
        let Some((find, x)) = input.packed(self.codec.dtype()) else { return input.decoded(self, rows, out) };
        let bytes = self.bytes.as_ref();
        let width = bytes.len() / self.rows;
        row::each(rows, 1, out, |numbers, out| {
            fetch_after(bytes, width, numbers);
            out.copy_from_slice(&find(row_slices(bytes, width, numbers), x)[..out.len()]);
        });
    }
}

/// Begins to read the rows of `width` bytes that come after some.
pub(super) fn fetch_after(bytes: &[u8], width: usize, rows: [usize; ROWS]) {
    let next = (rows[ROWS - 1] + 1) * width;
    fetch(&bytes[next..bytes.len().min(next + ROWS * width)]);
}

/// Some rows of `width` items each.
pub(super) fn row_slices<T>(items: &[T], width: usize, rows: [usize; ROWS]) -> [&[T]; ROWS] {
    rows.map(|row| &items[row * width..][..width])
}

#[cfg(test)]
mod tests {
    use lorakit_quant::{codec, encoder};
    use lorakit_tensor::DType;

    use super::*;

    /// Every range of every row decodes to what the codec makes of the whole.
    #[test]
    fn ranges_decode_like_the_whole() {
        for dtype in
            [DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4_K, DType::Q6_K]
        {
            let (rows, cols) = (3, 512);
            let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 32.0).collect();
            let mut bytes = vec![0; dtype.byte_len(values.len() as u64).expect("whole blocks") as usize];
            encoder(dtype).expect("has an encoder").encode(&values, &mut bytes);
            let codec = codec(dtype).expect("has a codec");
            let mut whole = vec![0.0; values.len()];
            codec.decode(&bytes, &mut whole);
            let packed = PackedMatrix::new(codec, bytes, rows, cols).expect("whole blocks");
            for (row, cols) in [(0, 0..512), (1, 64..512), (2, 448..512), (1, 128..192), (2, 256..512)] {
                let mut part = vec![f32::NAN; cols.len()];
                packed.decode(row, cols.clone(), &mut part);
                assert_eq!(part, whole[row * 512..][cols], "{dtype}");
            }
            assert!(PackedMatrix::new(codec, vec![0; 7], rows, cols).is_none());
        }
        let q4_k = codec(DType::Q4_K).expect("has a codec");
        assert!(PackedMatrix::new(q4_k, vec![0; 144], 2, 128).is_none(), "a block may not cross rows");
    }
}
