//! The table of mixes. llama-quantize writes all of them but `NVFP4`, which llama.cpp reads.

use std::fmt;

use lorakit_tensor::DType;

use super::role::Role;

/// One row per mix: `Variant [aliases] id default-type needs-importance bits "about"`.
macro_rules! file_types {
    ($($variant:ident [$($alias:literal),*] $id:literal $dtype:ident $needs:literal $bits:literal $about:literal;)*)
    => {
        /// A mix: the type that most tensors get, and rules for the others. [`FileType::ALL`] lists every one.
        #[allow(non_camel_case_types, reason = "variants are spelled as llama.cpp spells them")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FileType { $(#[doc = $about] $variant,)* }

        impl FileType {
            /// Every mix, smallest files first.
            pub const ALL: &'static [FileType] = &[$(FileType::$variant,)*];

            /// The spelling of llama.cpp, e.g. `Q4_K_M`.
            pub const fn name(self) -> &'static str {
                match self { $(FileType::$variant => stringify!($variant),)* }
            }

            /// Other names of the same mix.
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $(FileType::$variant => &[$($alias),*],)* }
            }

            /// The number in `general.file_type` (`llama_ftype`).
            pub const fn id(self) -> u32 {
                match self { $(FileType::$variant => $id,)* }
            }

            /// The type of the tensors that no rule covers.
            pub const fn dtype(self) -> DType {
                match self { $(FileType::$variant => DType::$dtype,)* }
            }

            /// Whether the tool refuses to write this mix without an importance matrix.
            pub const fn needs_importance(self) -> bool {
                match self { $(FileType::$variant => $needs,)* }
            }

            /// Whether the tool refuses to write a tensor of this mix as `dtype` without importances for it.
            pub fn needs_importance_of(self, tensor: &str, dtype: DType) -> bool {
                let looked_up = matches!(Role::of(tensor), Role::TokenEmbedding | Role::Output);
                self == FileType::Q2_K_S && dtype == DType::Q2_K && !looked_up
            }

            /// Bits per weight of Llama-3.1-8B in this mix.
            pub const fn bits(self) -> f64 {
                match self { $(FileType::$variant => $bits,)* }
            }

            /// What the mix is for, in a few words.
            pub const fn about(self) -> &'static str {
                match self { $(FileType::$variant => $about,)* }
            }
        }
    };
}

file_types! {
    TQ1_0 [] 36 TQ1_0 false 2.19 "ternary weights of models trained so, 1.7 bits each";
    TQ2_0 [] 37 TQ2_0 false 2.52 "ternary weights of models trained so, faster than TQ1_0";
    Q2_K_S [] 21 Q2_K true 2.97 "2-bit blocks, few exceptions";
    Q2_K [] 10 Q2_K false 3.16 "2-bit blocks, 3 bits where it hurts: large loss";
    Q3_K_S [] 11 Q3_K false 3.64 "3-bit blocks throughout: large loss";
    Q3_K_M ["Q3_K"] 12 Q3_K false 4.00 "3-bit blocks, 4 and 5 bits where it hurts";
    Q3_K_L [] 13 Q3_K false 4.30 "3-bit blocks, 5 bits where it hurts";
    IQ4_XS [] 30 IQ4_XS false 4.46 "4-bit codebook in blocks of 256: the smallest with 4 bits";
    Q4_0 [] 2 Q4_0 false 4.63 "4-bit blocks of 32, one scale: simple and fast";
    NVFP4 [] 39 NVFP4 false 4.63 "4-bit floats with 8-bit scales for each 16";
    Q4_K_S [] 14 Q4_K false 4.67 "4-bit blocks, 5 bits in the first layers";
    IQ4_NL [] 25 IQ4_NL false 4.68 "4-bit codebook in blocks of 32: for rows that 256 does not divide";
    Q4_K_M ["Q4_K"] 15 Q4_K false 4.89 "4-bit blocks, 6 bits where it hurts: the usual choice";
    Q4_1 [] 3 Q4_1 false 5.10 "4-bit blocks of 32, scale and minimum";
    Q5_0 [] 8 Q5_0 false 5.57 "5-bit blocks of 32, one scale";
    Q5_K_S [] 16 Q5_K false 5.57 "5-bit blocks throughout: small loss";
    Q5_K_M ["Q5_K"] 17 Q5_K false 5.70 "5-bit blocks, 6 bits where it hurts: small loss";
    Q5_1 [] 9 Q5_1 false 6.04 "5-bit blocks of 32, scale and minimum";
    Q6_K [] 18 Q6_K false 6.56 "6-bit blocks: very small loss";
    MXFP4_MOE ["MXFP4"] 38 MXFP4 false 8.50 "4-bit floats for experts, Q8_0 for the rest";
    Q8_0 [] 7 Q8_0 false 8.50 "8-bit blocks of 32: nearly lossless";
    F16 [] 1 F16 false 16.00 "16-bit floats";
    BF16 [] 32 BF16 false 16.00 "16-bit floats with the range of f32";
    F32 [] 0 F32 false 32.00 "32-bit floats";
}

impl FileType {
    /// The mix with that name or alias, in any case.
    pub fn from_name(name: &str) -> Option<FileType> {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        FileType::ALL
            .iter()
            .copied()
            .find(|mix| is(mix.name()) || mix.aliases().iter().any(|alias| is(alias)))
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{Facts, MixOptions, choose};
    use lorakit_tensor::TensorInfo;

    #[test]
    fn names_and_ids_are_unique() {
        for (i, a) in FileType::ALL.iter().enumerate() {
            for name in a.aliases().iter().chain([&a.name()]) {
                assert_eq!(FileType::from_name(&name.to_lowercase()), Some(*a));
            }
            assert!(FileType::ALL[i + 1..].iter().all(|b| a.id() != b.id()), "{a}");
        }
        assert_eq!(FileType::from_name("Q4"), None);
    }

    fn llama_3_1_8b() -> Vec<TensorInfo> {
        let info =
            |name: String, shape: &[usize]| TensorInfo { name, dtype: DType::F16, shape: shape.into() };
        let mut tensors = vec![
            info("output.weight".into(), &[128_256, 4096]),
            info("token_embd.weight".into(), &[128_256, 4096]),
        ];
        for layer in 0..32 {
            for (name, rows, columns) in [
                ("attn_k", 1024, 4096),
                ("attn_output", 4096, 4096),
                ("attn_q", 4096, 4096),
                ("attn_v", 1024, 4096),
                ("ffn_down", 4096, 14_336),
                ("ffn_gate", 14_336, 4096),
                ("ffn_up", 14_336, 4096),
            ] {
                tensors.push(info(format!("blk.{layer}.{name}.weight"), &[rows, columns]));
            }
        }
        tensors
    }

    #[test]
    fn bits_are_those_of_llama_3_1_8b() {
        let tensors = llama_3_1_8b();
        let facts = Facts { architecture: "llama".into(), layers: 32, heads: 32, heads_kv: 8, experts: 0 };
        let values: u64 = tensors.iter().map(TensorInfo::elements).sum();
        let mut last = 0.0;
        for mix in FileType::ALL {
            let choices = choose(*mix, &facts, &MixOptions::default(), &tensors).unwrap();
            let bytes: u64 =
                tensors.iter().zip(choices).map(|(t, c)| c.dtype.byte_len(t.elements()).unwrap()).sum();
            let bits = bytes as f64 * 8.0 / values as f64;
            assert!((bits - mix.bits()).abs() < 0.005, "{mix}: {bits:.2}");
            assert!(mix.bits() >= last, "{mix} is smaller than the one before");
            last = mix.bits();
        }
    }
}
