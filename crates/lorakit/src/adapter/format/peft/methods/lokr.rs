//! LoKr (Yeh et al. 2023): the Kronecker product of `w1` and `w2`, each whole or in factors, times `alpha / r`.

use super::interface::{Layer, Method};
use super::loha::module;
use crate::adapter::Adapter;
use crate::adapter::format::assemble::{Outcome, fault};
use crate::adapter::format::spelling::Part;

pub(super) struct LoKr;

const PARTS: &[(&str, Part)] = &[
    ("lokr_w1", Part::LokrW1),
    ("lokr_w1_a", Part::LokrW1A),
    ("lokr_w1_b", Part::LokrW1B),
    ("lokr_w2", Part::LokrW2),
    ("lokr_w2_a", Part::LokrW2A),
    ("lokr_w2_b", Part::LokrW2B),
    ("lokr_t2", Part::LokrT2),
];

impl Method for LoKr {
    fn peft_type(&self) -> &'static str {
        "LOKR"
    }

    fn name(&self) -> &'static str {
        "LoKr"
    }

    fn read_as(&self) -> &'static str {
        "the LoRA that it equals, whose rank is the product of the ranks of both parts"
    }

    fn marks(&self) -> &'static [&'static str] {
        &["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"]
    }

    fn has_patterns(&self) -> bool {
        true
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        let rows = |mark: &str| layer.get(mark).and_then(|tensor| tensor.info().shape.first().copied());
        // `torch.kron` of a matrix and three dimensions pairs the wrong ones.
        if layer.get("lokr_w2").is_some_and(|tensor| tensor.info().shape.len() == 3) {
            let message = "is a LoKr of a one-dimensional convolution, whose Kronecker product PEFT takes along the \
                           wrong dimensions";
            return Err(fault("foreign-method", message));
        }
        let held = rows("lokr_w1_b").or_else(|| rows("lokr_w2_b"));
        adapter.modules.push(module(layer, PARTS, held)?);
        Ok(())
    }
}
