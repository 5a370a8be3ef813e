//! A tensor without its bytes.

use crate::DType;

/// Name, type and shape of a tensor. Shapes are outermost-first in every format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

/// Largest dimension of a tensor without values. Its rows take no bytes, so a file may announce any number of them, but
/// the work for each still takes time and memory.
const MAX_HOLLOW_DIMENSION: usize = 1 << 20;

impl TensorInfo {
    /// Number of values of a tensor of that shape. `None` for sizes beyond what is read: the product of the nonzero
    /// ones has more than 64 bits, or one is 0 and another is above 2^20.
    pub fn count(shape: &[usize]) -> Option<u64> {
        let whole = shape.iter().filter(|&&d| d > 0).try_fold(1u64, |n, &d| n.checked_mul(d as u64))?;
        if !shape.contains(&0) {
            return Some(whole);
        }
        shape.iter().all(|&d| d <= MAX_HOLLOW_DIMENSION).then_some(0)
    }

    /// Number of values. Readers have checked that the product does not overflow.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// Number of bytes. Readers have checked that values fill whole blocks.
    pub fn byte_len(&self) -> u64 {
        self.dtype.byte_len(self.elements()).unwrap_or(0)
    }

    /// The shape flattened to a matrix: all dimensions but the first are columns; a vector is one row.
    pub fn rows_cols(&self) -> (usize, usize) {
        match self.shape.as_slice() {
            [] => (1, 1),
            [n] => (1, *n),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_counted_within_bounds() {
        for (shape, count) in [
            (&[][..], Some(1)),
            (&[3, 4, 5], Some(60)),
            (&[0], Some(0)),
            (&[0, 4096, 14_336], Some(0)),
            (&[1 << 20, 0], Some(0)),
            (&[1 << 40, 1 << 20], Some(1 << 60)),
            (&[1 << 40, 1 << 40], None),
            (&[0, 1 << 40], None),
            (&[(1 << 20) + 1, 0, 0], None),
            (&[0, 1 << 20, 1 << 20, 1 << 20, 1 << 20], None),
        ] {
            assert_eq!(TensorInfo::count(shape), count, "{shape:?}");
        }
    }
}
