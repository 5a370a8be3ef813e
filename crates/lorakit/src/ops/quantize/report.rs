//! A quantisation, and the available types, for programs.

use lorakit_quant::mix::FileType;
use serde::Serialize;

use super::{QuantType, Quantize};
use crate::Finding;
use crate::plan::{Chosen, Report, WriteReport};

/// What a quantisation does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct QuantizeReport<'q> {
    /// What each tensor becomes, in file order.
    pub types: &'q [Chosen],
    /// Things worth telling the user.
    pub findings: &'q [Finding],
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'q>>,
}

impl Quantize {
    /// What `run`, a run of this plan, did.
    pub fn report<'q>(&'q self, run: &'q Report) -> QuantizeReport<'q> {
        QuantizeReport { written: Some(self.plan.report(run)), ..self.preview() }
    }

    /// What is known before a run.
    pub fn preview(&self) -> QuantizeReport<'_> {
        QuantizeReport { types: &self.chosen, findings: &self.notes, written: None }
    }
}

/// The types that a model can be quantised to.
#[derive(Debug, Clone, Serialize)]
pub struct TypeList {
    /// Mixes of GGUF files, then packings of folders.
    pub types: Vec<TypeInfo>,
}

/// A type that a model can be quantised to.
#[derive(Debug, Clone, Serialize)]
pub struct TypeInfo {
    /// Its name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Bits per weight: for a mix, of Llama-3.1-8B; for a packing, of a linear layer.
    pub bits: f64,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// What is written: `gguf` or `safetensors`.
    pub format: &'static str,
    /// Whether it requires an importance matrix.
    pub needs_imatrix: bool,
}

impl TypeList {
    /// Every type.
    pub fn all() -> Self {
        let mixes = FileType::ALL.iter().map(|mix| TypeInfo {
            name: mix.name(),
            aliases: mix.aliases(),
            bits: mix.bits(),
            about: mix.about(),
            format: "gguf",
            needs_imatrix: mix.needs_importance(),
        });
        let packed = QuantType::PACKED.iter().map(|packed| TypeInfo {
            name: packed.name,
            aliases: &[],
            bits: packed.bits,
            about: packed.about,
            format: "safetensors",
            needs_imatrix: false,
        });
        TypeList { types: mixes.chain(packed).collect() }
    }
}
