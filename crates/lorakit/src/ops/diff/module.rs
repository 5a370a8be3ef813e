//! A module of two adapters, side by side.

use lorakit_tensor::DType;

use super::{State, Sums};
use crate::adapter::{Module, ModuleKind};

/// The modules of one path.
#[derive(Debug, Clone)]
pub struct ModuleDiff {
    /// The path, in A if A has it.
    pub path: String,
    /// What became of the delta `scale B A`.
    pub state: State,
    /// What A has.
    pub a: Option<ModuleSide>,
    /// What B has.
    pub b: Option<ModuleSide>,
    /// Of the two deltas, zero for one that is missing; `None` if factors hold NaN or infinity.
    pub sums: Option<Sums>,
}

/// A module of one adapter.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ModuleSide {
    /// Its rank.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f64,
    /// The dtypes of its factors `A` and `B`.
    pub dtypes: (DType, DType),
    /// Outputs and inputs of its delta, as the weight has them.
    pub shape: (usize, usize),
}

impl ModuleDiff {
    /// Whether both adapters have it, in the same shape.
    pub fn shared(&self) -> bool {
        matches!((&self.a, &self.b), (Some(a), Some(b)) if a.shape == b.shape)
    }
}

impl ModuleSide {
    pub(super) fn of(module: &Module) -> Self {
        let (outputs, inputs) = (module.b.info().rows_cols().0, module.a.info().rows_cols().1);
        ModuleSide {
            rank: module.rank(),
            scale: module.scale(module.rank()),
            dtypes: (module.a.info().dtype, module.b.info().dtype),
            shape: match module.kind {
                ModuleKind::Linear => (outputs, inputs),
                ModuleKind::Embedding => (inputs, outputs),
            },
        }
    }
}
