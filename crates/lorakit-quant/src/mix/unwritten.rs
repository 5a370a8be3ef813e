//! The mixes of `llama-quantize` that are read but not written, and the nearest ones that are written.

use lorakit_tensor::DType;

use super::FileType;

/// A mix whose types are decoded but not encoded: their codebooks are searched with llama.cpp's importances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unwritten {
    /// The spelling of llama.cpp.
    pub name: &'static str,
    /// Bits per weight of Llama-3.1-8B.
    pub bits: f64,
}

impl Unwritten {
    /// Every one, smallest files first, with the bits that llama.cpp's manual says.
    pub const ALL: &'static [Unwritten] = &[
        Unwritten { name: "IQ1_S", bits: 2.00 },
        Unwritten { name: "IQ1_M", bits: 2.15 },
        Unwritten { name: "IQ2_XXS", bits: 2.38 },
        Unwritten { name: "IQ2_XS", bits: 2.59 },
        Unwritten { name: "IQ2_S", bits: 2.74 },
        Unwritten { name: "IQ2_M", bits: 2.93 },
        Unwritten { name: "IQ3_XXS", bits: 3.25 },
        Unwritten { name: "IQ3_XS", bits: 3.50 },
        Unwritten { name: "IQ3_S", bits: 3.66 },
        Unwritten { name: "IQ3_M", bits: 3.76 },
    ];

    /// The mix called `name`, in any case.
    pub fn from_name(name: &str) -> Option<Unwritten> {
        Unwritten::ALL.iter().copied().find(|mix| mix.name.eq_ignore_ascii_case(name))
    }

    /// The two writable mixes whose files are nearest in size, the nearest first.
    pub fn nearest(self) -> [FileType; 2] {
        nearest(general().collect(), FileType::bits, self.bits)
    }
}

/// The two writable types nearest in size to `dtype`, the nearest first.
pub(super) fn nearest_types(dtype: DType) -> [DType; 2] {
    let mut types: Vec<DType> = general().map(FileType::dtype).collect();
    types.sort();
    types.dedup();
    nearest(types, bits_of, bits_of(dtype))
}

/// The two of `candidates` whose `bits` are nearest to `wanted`; of two equally near, the larger first.
fn nearest<T: Copy>(mut candidates: Vec<T>, bits: impl Fn(T) -> f64, wanted: f64) -> [T; 2] {
    let distance = |candidate: T| (bits(candidate) - wanted).abs();
    candidates.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)).then(bits(b).total_cmp(&bits(a))));
    [candidates[0], candidates[1]]
}

fn bits_of(dtype: DType) -> f64 {
    dtype.block().bytes as f64 * 8.0 / dtype.block().elements as f64
}

/// The mixes that suit any model: ternary ones hold only models that were trained for them.
fn general() -> impl Iterator<Item = FileType> {
    FileType::ALL.iter().copied().filter(|mix| !matches!(mix, FileType::TQ1_0 | FileType::TQ2_0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{MixError, writable};
    use crate::{codec, encoder};

    #[test]
    fn every_type_that_is_read_and_not_written_is_listed() {
        for dtype in DType::ALL.iter().filter(|d| d.ggml_id().is_some()) {
            let read_only = codec(*dtype).is_some() && encoder(*dtype).is_none();
            assert_eq!(read_only, Unwritten::from_name(dtype.name()).is_some(), "{dtype}");
            assert_eq!(
                read_only,
                matches!(writable(dtype.name()), Err(MixError::ReadOnly { .. })),
                "{dtype}"
            );
        }
        for mix in Unwritten::ALL {
            assert_eq!(FileType::from_name(mix.name), None);
        }
        assert!(Unwritten::ALL.is_sorted_by(|a, b| a.bits < b.bits));
    }

    #[test]
    fn the_nearest_can_be_written_and_are_nearest_in_size() {
        let nearest = |name: &str| Unwritten::from_name(name).unwrap().nearest();
        assert_eq!(nearest("iq2_xxs"), [FileType::Q2_K_S, FileType::Q2_K]);
        assert_eq!(nearest("IQ3_M"), [FileType::Q3_K_S, FileType::Q3_K_M]);
        assert_eq!(nearest_types(DType::IQ2_XXS), [DType::Q2_K, DType::Q3_K]);
        for mix in Unwritten::ALL {
            assert!(mix.nearest().iter().all(|near| encoder(near.dtype()).is_some()), "{}", mix.name);
        }
    }
}
