//! Element types of the safetensors and GGUF specifications, with their block geometry.
//!
//! The table is complete, whether or not a codec exists: a tensor of any of these types can be listed, checked
//! and copied.

use std::fmt;

/// How elements are packed: `elements` values are stored together in `bytes` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Values in one block.
    pub elements: usize,
    /// Bytes of one block.
    pub bytes: usize,
}

/// One row of the type table: `(variant, spelling, block elements, block bytes, safetensors, GGUF type id)`.
macro_rules! dtypes {
    ($($variant:ident $name:literal $elements:literal / $bytes:literal $st:literal $ggml:expr;)*) => {
        /// An element type. [`DType::ALL`] lists every one.
        #[allow(non_camel_case_types, reason = "variants are spelled as the specifications spell them")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DType { $(#[doc = concat!("`", $name, "`")] $variant,)* }

        impl DType {
            /// Every type of both specifications.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            /// The spelling of the specification, e.g. `BF16`, `Q4_K`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            /// Values and bytes of one block.
            pub const fn block(self) -> Block {
                match self { $(DType::$variant => Block { elements: $elements, bytes: $bytes },)* }
            }

            /// Whether safetensors files can hold this type.
            pub const fn in_safetensors(self) -> bool {
                match self { $(DType::$variant => $st,)* }
            }

            /// The `ggml_type` number, if GGUF files can hold this type.
            pub const fn ggml_id(self) -> Option<u32> {
                match self { $(DType::$variant => $ggml,)* }
            }
        }
    };
}

dtypes! {
    F64 "F64" 1/8 true Some(28);
    F32 "F32" 1/4 true Some(0);
    F16 "F16" 1/2 true Some(1);
    BF16 "BF16" 1/2 true Some(30);
    F8_E4M3 "F8_E4M3" 1/1 true None;
    F8_E5M2 "F8_E5M2" 1/1 true None;
    F8_E8M0 "F8_E8M0" 1/1 true None;
    F8_E4M3FNUZ "F8_E4M3FNUZ" 1/1 true None;
    F8_E5M2FNUZ "F8_E5M2FNUZ" 1/1 true None;
    F6_E2M3 "F6_E2M3" 4/3 true None;
    F6_E3M2 "F6_E3M2" 4/3 true None;
    F4 "F4" 2/1 true None;
    C64 "C64" 1/8 true None;
    I64 "I64" 1/8 true Some(27);
    U64 "U64" 1/8 true None;
    I32 "I32" 1/4 true Some(26);
    U32 "U32" 1/4 true None;
    I16 "I16" 1/2 true Some(25);
    U16 "U16" 1/2 true None;
    I8 "I8" 1/1 true Some(24);
    U8 "U8" 1/1 true None;
    BOOL "BOOL" 1/1 true None;
    Q4_0 "Q4_0" 32/18 false Some(2);
    Q4_1 "Q4_1" 32/20 false Some(3);
    Q5_0 "Q5_0" 32/22 false Some(6);
    Q5_1 "Q5_1" 32/24 false Some(7);
    Q8_0 "Q8_0" 32/34 false Some(8);
    Q8_1 "Q8_1" 32/36 false Some(9);
    Q2_K "Q2_K" 256/84 false Some(10);
    Q3_K "Q3_K" 256/110 false Some(11);
    Q4_K "Q4_K" 256/144 false Some(12);
    Q5_K "Q5_K" 256/176 false Some(13);
    Q6_K "Q6_K" 256/210 false Some(14);
    Q8_K "Q8_K" 256/292 false Some(15);
    IQ2_XXS "IQ2_XXS" 256/66 false Some(16);
    IQ2_XS "IQ2_XS" 256/74 false Some(17);
    IQ3_XXS "IQ3_XXS" 256/98 false Some(18);
    IQ1_S "IQ1_S" 256/50 false Some(19);
    IQ4_NL "IQ4_NL" 32/18 false Some(20);
    IQ3_S "IQ3_S" 256/110 false Some(21);
    IQ2_S "IQ2_S" 256/82 false Some(22);
    IQ4_XS "IQ4_XS" 256/136 false Some(23);
    IQ1_M "IQ1_M" 256/56 false Some(29);
    TQ1_0 "TQ1_0" 256/54 false Some(34);
    TQ2_0 "TQ2_0" 256/66 false Some(35);
    MXFP4 "MXFP4" 32/17 false Some(39);
    NVFP4 "NVFP4" 64/36 false Some(40);
    Q1_0 "Q1_0" 128/18 false Some(41);
    Q2_0 "Q2_0" 64/18 false Some(42);
}

impl DType {
    /// The type of that name, in any case.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.name().eq_ignore_ascii_case(name))
    }

    /// The type that a safetensors header calls `name` (exact spelling).
    pub fn from_safetensors(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.in_safetensors() && d.name() == name)
    }

    /// The type with that `ggml_type` number.
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.ggml_id() == Some(id))
    }

    /// Whether its values are whole numbers, or true and false.
    pub const fn is_integer(self) -> bool {
        matches!(
            self,
            DType::I64
                | DType::U64
                | DType::I32
                | DType::U32
                | DType::I16
                | DType::U16
                | DType::I8
                | DType::U8
                | DType::BOOL
        )
    }

    /// Bytes of `elements` values, or `None` if they do not fill whole blocks or the product overflows.
    pub const fn byte_len(self, elements: u64) -> Option<u64> {
        let block = self.block();
        if !elements.is_multiple_of(block.elements as u64) {
            return None;
        }
        (elements / block.elements as u64).checked_mul(block.bytes as u64)
    }
}

/// Serialises as its name.
impl serde::Serialize for DType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_unique() {
        for (i, a) in DType::ALL.iter().enumerate() {
            for b in &DType::ALL[i + 1..] {
                assert_ne!(a.name(), b.name());
                assert!(a.ggml_id().is_none() || a.ggml_id() != b.ggml_id(), "{a} {b}");
            }
            assert_eq!(DType::from_name(&a.name().to_lowercase()), Some(*a));
        }
    }

    #[test]
    fn byte_len_counts_whole_blocks() {
        assert_eq!(DType::Q4_K.byte_len(512), Some(288));
        assert_eq!(DType::Q4_K.byte_len(500), None);
        assert_eq!(DType::F4.byte_len(6), Some(3));
        assert_eq!(DType::F64.byte_len(u64::MAX), None);
    }
}
