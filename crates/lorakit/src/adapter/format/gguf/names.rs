//! The tensor of the base to which each module belongs.

use std::collections::HashMap;

use lorakit_tensor::TensorInfo;

use super::Problem;
use crate::adapter::{Adapter, Module, ModuleKind};
use crate::arch::names::{is_head, last, unwrapped};
use crate::arch::{Architecture, Heads, Match, Role};
use crate::{Base, Error, Result};

/// The name endings of the two factors.
pub(super) const HALVES: [&str; 2] = [".lora_a", ".lora_b"];

/// The facts that decide names and the order of rows.
pub(super) struct Facts<'a> {
    pub(super) family: &'static Architecture,
    pub(super) heads: Heads,
    /// Number of experts in a layer; 0 if there are none.
    pub(super) experts: usize,
    layers: usize,
    tied: bool,
    /// Shapes of the base's tensors as matrices, as far as they are known.
    shapes: HashMap<&'a str, (usize, usize)>,
}

/// A module, and the rule for its weight.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) module: &'a Module,
    pub(super) found: Match<'static>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(base: &'a Base) -> Result<Self> {
        let (family, _) = base.family()?;
        // A model without an output matrix uses its embedding.
        let is_output = |info: &TensorInfo| info.name.strip_suffix(".weight").is_some_and(is_head);
        let headless = !base.tensors.is_empty() && !base.tensors.iter().any(is_output);
        Ok(Facts {
            family,
            heads: base.heads()?,
            experts: base.experts()?.unwrap_or(0),
            layers: base.layers()?,
            tied: base.tied() || headless,
            shapes: base.tensors.iter().map(|info| (info.name.as_str(), info.rows_cols())).collect(),
        })
    }

    /// The place of every module, in the order of the adapter.
    ///
    /// # Errors
    /// `ErrorKind::Inexpressible` or `ErrorKind::Shape`, with one line for each module without a place.
    pub(super) fn place<'m>(&self, adapter: &'m Adapter) -> Result<Vec<Placed<'m>>> {
        let (mut placed, mut lost, mut misfits) = (Vec::new(), Vec::new(), Vec::new());
        for module in &adapter.modules {
            let line = |why: &str| format!("{}  {why}", module.path);
            match self.found(module) {
                Ok(found) => {
                    misfits.extend(self.misfit(module, found).map(|why| line(&why)));
                    placed.push(Placed { module, found });
                }
                Err(why) => lost.push(line(&why)),
            }
        }
        let (problem, lines) = match (lost.len(), misfits.len()) {
            (0, 0) => return Ok(placed),
            (0, count) => (Problem::Misfits { count }, misfits),
            (count, _) => (Problem::Placeless { count, family: self.family.gguf() }, lost),
        };
        Err(Error::from(problem).at(&adapter.path).details(lines))
    }

    /// The rule for the weight of `module`, or why llama.cpp would not use it.
    fn found(&self, module: &Module) -> std::result::Result<Match<'static>, String> {
        let family = self.family;
        let mut names = unwrapped(&module.path).into_iter();
        let Some(found) = names.find_map(|path| family.match_hf(&format!("{path}.weight"))) else {
            let why = match last(&module.path) {
                "kv_b_proj" => "llama.cpp splits and transposes it for each head, which no LoRA can follow",
                _ if self.tied && is_head(&module.path) => TIED_HEAD,
                _ => "llama.cpp has no such tensor",
            };
            return Err(why.into());
        };
        let embedding = module.kind == ModuleKind::Embedding;
        match found.rule.role {
            Role::Embed if self.tied => return Err(TIED_EMBEDDING.into()),
            Role::Head if self.tied => return Err(TIED_HEAD.into()),
            Role::Norm => return Err("llama.cpp ignores what an adapter says of norms".into()),
            Role::Embed if !embedding => {
                return Err("is an embedding, but its factors are those of a linear layer".into());
            }
            role if role != Role::Embed && embedding => {
                return Err("is not an embedding, but its factors are those of one".into());
            }
            _ => {}
        }
        if let Some(layer) = found.layer.filter(|layer| *layer >= self.layers) {
            return Err(format!("the base has {} layers, and this is number {layer}", self.layers));
        }
        match found.expert {
            Some(expert) if expert >= self.experts => {
                Err(format!("the base has {} experts in a layer, and this is number {expert}", self.experts))
            }
            _ => Ok(found),
        }
    }

    /// How the shape of `module` differs from that of its weight, if that is known.
    fn misfit(&self, module: &Module, found: Match<'_>) -> Option<String> {
        let hf_name = found.hf_name()?;
        let own = format!("{}.weight", module.path);
        let &(rows, cols) = self.shapes.get(own.as_str()).or_else(|| self.shapes.get(hf_name.as_str()))?;
        let (outputs, inputs) = (module.b.info().shape[0], module.a.info().shape[1]);
        let (outputs, inputs) = match module.kind {
            ModuleKind::Linear => (outputs, inputs),
            ModuleKind::Embedding => (inputs, outputs),
        };
        ((outputs, inputs) != (rows, cols))
            .then(|| format!("changes a matrix of {outputs} x {inputs}, and the base's is {rows} x {cols}"))
    }
}

const TIED_EMBEDDING: &str =
    "input and output embedding are one tensor in this base, and llama.cpp stops at such a LoRA";
const TIED_HEAD: &str =
    "input and output embedding are one tensor in this base, so a GGUF model has no output matrix";
