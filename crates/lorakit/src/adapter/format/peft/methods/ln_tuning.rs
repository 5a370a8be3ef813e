//! LN tuning (Zhao et al. 2023): whole layers, usually norms, which replace those of the base.

use super::interface::{Layer, Method};
use crate::adapter::format::assemble::Outcome;
use crate::adapter::{Adapter, Saved};

pub(super) struct LnTuning;

const MARK: &str = "ln_tuning_layers";

impl Method for LnTuning {
    fn peft_type(&self) -> &'static str {
        "LN_TUNING"
    }

    fn name(&self) -> &'static str {
        "LN tuning"
    }

    fn read_as(&self) -> &'static str {
        "layers that replace those of the base"
    }

    fn marks(&self) -> &'static [&'static str] {
        &[MARK]
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        for ((_, leaf), index) in layer.parts {
            let leaf = if leaf.is_empty() { "weight" } else { leaf.as_str() };
            let name = format!("{}.{leaf}", layer.path);
            adapter.saved.push(Saved { name, tensor: layer.files.tensor(*index) });
        }
        Ok(())
    }

    fn has_parameters(&self) -> bool {
        true
    }

    fn stays(&self) -> Option<&'static str> {
        Some(MARK)
    }

    fn is_low_rank(&self) -> bool {
        false
    }
}
