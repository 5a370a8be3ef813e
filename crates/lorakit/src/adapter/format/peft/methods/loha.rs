//! LoHa (Hyeon-Woo et al. 2021): `(w1_a w1_b) * (w2_a w2_b) * alpha / r`, value by value.

use super::interface::{Layer, Method};
use crate::adapter::format::assemble::{Outcome, Stop, assemble, fault};
use crate::adapter::format::spelling::Part;
use crate::adapter::{Adapter, Module, Scaling};

pub(super) struct LoHa;

/// Ranks that a configuration may state.
const RANKS: (u64, &str) = (65536, "a whole number from 1 to 65536");

const PARTS: &[(&str, Part)] = &[
    ("hada_w1_a", Part::HadaW1A),
    ("hada_w1_b", Part::HadaW1B),
    ("hada_w2_a", Part::HadaW2A),
    ("hada_w2_b", Part::HadaW2B),
    ("hada_t1", Part::HadaT1),
    ("hada_t2", Part::HadaT2),
];

impl Method for LoHa {
    fn peft_type(&self) -> &'static str {
        "LOHA"
    }

    fn name(&self) -> &'static str {
        "LoHa"
    }

    fn read_as(&self) -> &'static str {
        "the LoRA that it equals, whose rank is the square of its rank"
    }

    fn marks(&self) -> &'static [&'static str] {
        &["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"]
    }

    fn has_patterns(&self) -> bool {
        true
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        let first = layer.need("hada_w1_b")?;
        let held = first.info().shape.first().copied().unwrap_or_default();
        adapter.modules.push(module(layer, PARTS, Some(held))?);
        Ok(())
    }
}

/// The module that `parts` of a layer stand for, scaled as PEFT scales it: by alpha / r, whatever is factored. `held` is
/// the rank of the tensors, if they show it.
pub(super) fn module(layer: &Layer<'_>, parts: &[(&str, Part)], held: Option<usize>) -> Outcome<Module> {
    let settings = layer.settings;
    let rank = match settings.ranks.get(layer.path) {
        Some(rank) => rank,
        None => settings.count("r", RANKS, 8)? as f64,
    };
    let alpha = match settings.alphas.get(layer.path) {
        Some(alpha) => alpha,
        None => settings.number("alpha", 8.0)?,
    };
    if let Some(held) = held.filter(|held| *held as f64 != rank) {
        let message =
            format!("has rank {held}, and the configuration says {rank}, by which its alpha is divided");
        return Err(fault("rank-mismatch", message));
    }
    let scale = alpha / rank;
    if !scale.is_finite() {
        return Err(fault("alpha", format!("has a scale of {scale}")));
    }
    let found = parts.iter().filter_map(|(mark, part)| Some((*part, layer.place(mark)?))).collect();
    match assemble(layer.files, layer.path, &found, None, None)? {
        Ok(module) => Ok(Module { scaling: Scaling::Fixed(scale), ..module }),
        Err(fault) => Err(Stop::Fault(fault)),
    }
}
