//! Experts that PEFT packs in one module: taken apart, a module for each expert of the parameter, and packed again.
//!
//! For `E` experts of rank `r`, PEFT stores `A (r E, in)` with row `e r + k`, and `B (out, r E)` with column `k E + e`.
//! Some trainers order the columns of `B` as the rows of `A`, and say so in `lora_B_layout`.

use std::collections::HashMap;

use super::{Adapter, Experts, Module, Problem, Scaling};
use crate::arch::names::module_of;
use crate::tensor::Factor;
use crate::{Error, Result, TensorRef};

impl Adapter {
    /// The adapter with a module for each expert of a packed parameter. Modules whose configuration does not tell the
    /// number of experts stay packed.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for factors of block types.
    pub(crate) fn split(mut self) -> Result<Self> {
        if !self.modules.iter().any(Module::is_packed) {
            return Ok(self);
        }
        let expert_major = self.config.has_expert_major();
        let mut modules = Vec::new();
        for module in std::mem::take(&mut self.modules) {
            match module.packed_experts() {
                Some(experts) => modules.extend(split(&module, experts, expert_major)?),
                None => modules.push(module),
            }
        }
        self.modules = modules;
        // Packed again, they are in PEFT's order.
        if expert_major && !self.modules.iter().any(Module::is_packed) {
            self.config.moe_b_layout = None;
            self.config.raw.remove("lora_B_layout");
        }
        self.sort();
        Ok(self)
    }

    /// The adapter with the experts of [`Self::split`] packed in one module for each parameter, where they have the
    /// largest rank of them, padded with zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) for experts of several sizes.
    pub(crate) fn packed(mut self) -> Result<Self> {
        if !self.modules.iter().any(|module| matches!(module.experts, Some(Experts::One { .. }))) {
            return Ok(self);
        }
        let mut packed = Vec::new();
        let mut of_path: HashMap<String, usize> = HashMap::new();
        let mut groups: Vec<Vec<Module>> = Vec::new();
        for module in std::mem::take(&mut self.modules) {
            match module.experts {
                Some(Experts::One { .. }) => {
                    let path = module_of(&module.path).to_string();
                    let place = *of_path.entry(path).or_insert(groups.len());
                    if place == groups.len() {
                        groups.push(Vec::new());
                    }
                    groups[place].push(module);
                }
                _ => packed.push(module),
            }
        }
        for group in &groups {
            packed.push(pack(group)?);
        }
        self.modules = packed;
        self.sort();
        Ok(self)
    }
}

impl Module {
    /// The number of experts that it packs, if the configuration tells.
    pub(crate) fn packed_experts(&self) -> Option<usize> {
        let rank = self.config_rank.filter(|_| self.is_packed())? as usize;
        (rank > 0 && self.rank().is_multiple_of(rank)).then(|| self.rank() / rank).filter(|n| *n > 0)
    }
}

fn split(module: &Module, experts: usize, expert_major: bool) -> Result<Vec<Module>> {
    let ((ranks, inputs), (outputs, _)) = (module.a.info().rows_cols(), module.b.info().rows_cols());
    let rank = ranks / experts;
    let one = |expert: usize| {
        let a = Factor::matrix(module.a.clone(), ranks, inputs).take_rows(expert * rank, rank, 1);
        let b = Factor::matrix(module.b.clone(), outputs, ranks);
        let b = if expert_major {
            b.take_cols(expert * rank, rank, 1)
        } else {
            b.take_cols(expert, rank, experts)
        };
        Ok(Module {
            path: format!("{}.{expert}", module.path),
            a: a.to_tensor(vec![rank, inputs])?,
            b: b.to_tensor(vec![outputs, rank])?,
            experts: Some(Experts::One { expert, of: experts }),
            ..module.clone()
        })
    };
    (0..experts).map(one).collect()
}

/// The experts of one parameter, packed. Experts that are missing change nothing.
fn pack(members: &[Module]) -> Result<Module> {
    let number = |module: &Module| match module.experts {
        Some(Experts::One { expert, of }) => (expert, of),
        _ => (0, 1),
    };
    let first = &members[0];
    let (_, experts) = number(first);
    let ((_, inputs), (outputs, _)) = (first.a.info().rows_cols(), first.b.info().rows_cols());
    let rank = members.iter().map(Module::rank).max().unwrap_or(0);
    let scale = first.scale(first.rank());
    let equal = members.iter().all(|module| module.scale(module.rank()) == scale);
    let decoded = [|m: &Module| m.a.info().dtype, |m: &Module| m.b.info().dtype].map(|dtype| {
        let own = dtype(first);
        own.block().elements > 1 || members.iter().any(|module| dtype(module) != own)
    });
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    for module in members {
        let sides = (module.b.info().rows_cols().0, module.a.info().rows_cols().1);
        if sides != (outputs, inputs) {
            let problem =
                Problem::PartSize { rows: sides.0, cols: sides.1, needed_rows: outputs, needed_cols: inputs };
            return Err(Error::from(problem).tensor(&module.path));
        }
        let (expert, own) = (number(module).0, module.rank());
        let a = if decoded[0] { module.a.decoded(1.0)? } else { module.a.clone() };
        let b = match (decoded[1], equal) {
            (false, true) => module.b.clone(),
            (_, true) => module.b.decoded(1.0)?,
            (_, false) => module.b.decoded(module.scale(own) / scale)?,
        };
        rows.push((Factor::matrix(a, own, inputs), expert * rank, 0));
        let b = Factor::matrix(b, outputs, own);
        columns.extend((0..own).map(|k| (b.clone().take_cols(k, 1, 1), 0, k * experts + expert)));
    }
    Ok(Module {
        path: module_of(&first.path).to_string(),
        a: TensorRef::assembled(rows, inputs, vec![experts * rank, inputs])?,
        b: TensorRef::assembled(columns, experts * rank, vec![outputs, experts * rank])?,
        scaling: Scaling::Fixed(scale),
        config_rank: Some(rank as f64),
        experts: Some(Experts::All),
        ..first.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{ModuleKind, natural};
    use crate::tensor::tests::tensor;

    /// Two experts of rank 2, each value with its own digits.
    fn adapter() -> Adapter {
        let (a, b) =
            (tensor("a", &[4, 1], &[1.0, 2.0, 3.0, 4.0]), tensor("b", &[1, 4], &[10., 20., 30., 40.]));
        let module = Module::new("m.experts.down_proj", ModuleKind::Linear, a, b, Scaling::Alpha(4.0));
        let mut adapter = Adapter::of("peft", std::path::Path::new("made"));
        adapter.modules = vec![Module {
            parameter: Some("down_proj".into()),
            experts: Some(Experts::All),
            config_rank: Some(2.0),
            ..module
        }];
        adapter
    }

    fn values(module: &Module) -> (Vec<f32>, Vec<f32>) {
        (module.a.values().unwrap(), module.b.values().unwrap())
    }

    #[test]
    fn experts_are_taken_apart_and_packed_again() {
        let split = adapter().split().unwrap();
        let paths: Vec<&str> = split.modules.iter().map(|m| m.path.as_str()).collect();
        assert_eq!(paths, ["m.experts.down_proj.0", "m.experts.down_proj.1"]);
        assert_eq!(values(&split.modules[0]), (vec![1.0, 2.0], vec![10.0, 30.0]));
        assert_eq!(values(&split.modules[1]), (vec![3.0, 4.0], vec![20.0, 40.0]));
        assert_eq!(split.modules[1].scale(2), 2.0);
        assert_eq!(split.modules[1].key(), "m.experts.down_proj");
        let packed = split.packed().unwrap();
        assert_eq!(values(&packed.modules[0]), values(&adapter().modules[0]));
        assert_eq!((packed.modules[0].rank_of_one(), packed.modules[0].scaling), (2, Scaling::Fixed(2.0)));
    }

    #[test]
    fn columns_of_one_expert_side_by_side_become_those_of_peft() {
        let mut adapter = adapter();
        adapter.config.moe_b_layout = Some("expert_major".into());
        adapter.config.raw.insert("lora_B_layout".into(), "expert_major".into());
        let split = adapter.split().unwrap();
        assert_eq!(values(&split.modules[1]), (vec![3.0, 4.0], vec![30.0, 40.0]));
        assert!(split.config.raw.is_empty());
        assert_eq!(values(&split.packed().unwrap().modules[0]).1, [10.0, 30.0, 20.0, 40.0]);
    }

    #[test]
    fn smaller_ranks_are_padded_and_other_scales_multiplied_in() {
        let mut split = adapter().split().unwrap();
        let one = &mut split.modules[1];
        (one.a, one.b) = (tensor("a", &[1, 1], &[3.0]), tensor("b", &[1, 1], &[20.0]));
        one.scaling = Scaling::Fixed(1.0);
        let packed = split.packed().unwrap();
        assert_eq!(values(&packed.modules[0]), (vec![1.0, 2.0, 3.0, 0.0], vec![10.0, 10.0, 30.0, 0.0]));
        assert!(natural("m.experts.down_proj.2") < natural("m.experts.down_proj.10"));
    }
}
