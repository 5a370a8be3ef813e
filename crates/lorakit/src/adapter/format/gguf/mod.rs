//! GGUF LoRA: the adapters that llama.cpp and Ollama load with a GGUF model (`llama.cpp/src/llama-adapter.cpp`).
//!
//! ```text
//! blk.3.attn_q.weight.lora_a       (r, in)      = A
//! blk.3.attn_q.weight.lora_b       (out, r)     = B, its rows in the order of the GGUF model
//! blk.3.ffn_up_exps.weight.lora_a  (E, r, in)   of all experts of the layer
//! token_embd.weight.lora_a         (vocab, r)   = A transposed
//! adapter.lora.alpha               one for the file; scale = alpha / r, or 1 if it is 0 or absent
//! ```
//!
//! Factors are F32, F16, BF16, or blocks of Q8_0 or Q4_0, which `ggml_mul_mat` and `ggml_get_rows` read like those of a
//! model. The rows of B are as long as the rank, so most ranks leave B without whole blocks, and F16.
//!
//! There is no place for biases, magnitudes or tensors that are saved whole. An adapter holds neither the heads that
//! order the rows of q and k nor the Hugging Face spelling of names: only its base tells them.

mod header;
mod names;
mod problem;
mod read;
mod stack;
#[cfg(test)]
mod tests;
mod write;

use lorakit_tensor::DType;

use super::{AdapterFormat, Draft, DraftOptions};
use crate::adapter::{Adapter, Files, Module, ModuleKind};
use crate::{Base, Result};
use names::HALVES;
use problem::Problem;

/// GGUF LoRA.
#[derive(Debug)]
pub(crate) struct Gguf;

impl AdapterFormat for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn title(&self) -> &'static str {
        "a .gguf file for llama.cpp and Ollama; needs the base model"
    }

    fn ending(&self) -> Option<&'static str> {
        Some("gguf")
    }

    fn needs_base(&self) -> bool {
        true
    }

    fn marks(&self, name: &str, files: &Files) -> bool {
        let says = |metadata| header::text(metadata, header::TYPE) == Some(header::ADAPTER);
        files.is_gguf()
            && (HALVES.iter().any(|half| name.ends_with(half)) || files.source.gguf().is_some_and(says))
    }

    fn read(&self, files: &Files, base: Option<&Base>) -> Result<Adapter> {
        read::adapter(self.name(), files, base)
    }

    fn one_alpha(&self) -> bool {
        true
    }

    fn blocks(&self) -> &'static [DType] {
        stack::BLOCKS
    }

    fn stored_as(&self, module: &Module, rank: usize, asked: DType) -> [DType; 2] {
        // An embedding's A is transposed in the file, which would cut its blocks.
        let row_of_a = if module.kind == ModuleKind::Embedding { 1 } else { module.a.info().rows_cols().1 };
        [stack::fitting(asked, row_of_a), stack::fitting(asked, rank)]
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        write::draft(adapter, options)
    }

    #[cfg(test)]
    fn problems(&self) -> Vec<crate::Error> {
        Problem::samples().into_iter().map(crate::Error::from).collect()
    }
}
