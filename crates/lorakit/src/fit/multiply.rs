//! Layers whose weights are multiplied: which tensors these are, and which side the factors are for.

use lorakit_tensor::TensorInfo;

use super::edit::{Change, Edit};
use super::index::Found;
use super::misfit::{Misfit, ambiguous, unmatched};
use super::problem::Reason;
use super::resolver::Resolver;
use crate::adapter::{Adapter, Multiplied, Multiplier};
use crate::plan;
use crate::plan::Multiply;

/// The weight that is multiplied, and the bias if factors are for outputs.
pub(super) fn fit(base: &Resolver<'_>, adapter: &Adapter, layer: &Multiplied) -> Result<Vec<Edit>, Misfit> {
    let name = format!("{}.weight", layer.path);
    let index = match base.resolve(&name, |_| true) {
        Found::One(index) => index,
        Found::Several(names) => return Err(ambiguous(&name, &names)),
        Found::Absent => return Err(unmatched(&name)),
    };
    let weight = &base.tensors[index];
    let transposed = weight.shape.len() == 2
        && base.stored_transposed(&layer.path).unwrap_or(adapter.config.fan_in_fan_out);
    let (how, factors) = match &layer.by {
        Multiplier::Outputs(factors) if transposed => (Multiply::Columns { each: 1 }, factors),
        Multiplier::Outputs(factors) => (Multiply::Rows, factors),
        Multiplier::Inputs(factors) if transposed => (Multiply::Rows, factors),
        Multiplier::Inputs(factors) => (Multiply::Columns { each: kernel(weight) }, factors),
        Multiplier::Blocks(_) | Multiplier::SharedBlock(_) if transposed => {
            return Err(Misfit::new(&layer.path, Reason::RotatedOutputs));
        }
        // The live model of PEFT folds rotated patches, which is not what its merged kernel does.
        Multiplier::Blocks(_) | Multiplier::SharedBlock(_) if kernel(weight) != 1 => {
            return Err(Misfit::new(&layer.path, Reason::RotatedKernel { base: weight.shape.clone() }));
        }
        Multiplier::Blocks(blocks) | Multiplier::SharedBlock(blocks) => {
            (Multiply::Blocks { size: blocks.info().shape.get(1).copied().unwrap_or(1) }, blocks)
        }
    };
    let (rows, cols) = weight.rows_cols();
    let found = factors.info().elements() as usize;
    let (reached, needed) = match (how, &layer.by) {
        (Multiply::Rows, _) => (found, rows),
        (Multiply::Columns { each }, _) => (found * each, cols),
        (Multiply::Blocks { size }, Multiplier::SharedBlock(_)) => (cols - cols % size, cols),
        (Multiply::Blocks { size }, _) => (found / size, cols),
    };
    if reached != needed {
        return Err(Misfit::new(&layer.path, Reason::Factors { found, base: weight.shape.clone() }));
    }
    let change = |how| Change::Multiply(plan::Multiplied { factors: factors.clone(), how });
    let edit = |index: usize, how| Edit {
        target: base.tensors[index].name.clone(),
        base: Some(index),
        origin: layer.path.clone(),
        change: change(how),
    };
    let mut edits = vec![edit(index, how)];
    let bias = weight.name.strip_suffix("weight").and_then(|module| base.exact(&format!("{module}bias")));
    if let (Some(bias), Multiplier::Outputs(_)) = (bias, &layer.by) {
        if base.tensors[bias].elements() != found as u64 {
            let (base, adapter) = (base.tensors[bias].shape.clone(), vec![found]);
            return Err(Misfit::new(&layer.path, Reason::Bias { base, adapter }));
        }
        edits.push(edit(bias, Multiply::Columns { each: 1 }));
    }
    Ok(edits)
}

/// Values of one kernel: 1 for a linear layer.
fn kernel(weight: &TensorInfo) -> usize {
    weight.shape.iter().skip(2).product()
}
