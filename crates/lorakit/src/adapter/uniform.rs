//! One rank and one scale for all modules, for readers that support only one: vLLM, TGI; and scales as numbers, which do
//! not depend on how they are read.

use super::format::most_common;
use super::{Adapter, Module, Scaling};
use crate::tensor::Factor;
use crate::{Result, TensorRef};

impl Adapter {
    /// The same deltas with all factors padded with zeros to the largest rank, and with the scale that most modules
    /// have. The other modules get a multiplied `B`, in F32.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for factors of block types, which cannot be padded.
    pub(crate) fn uniform(mut self) -> Result<Self> {
        let rank = self.modules.iter().map(Module::rank).max().unwrap_or(0);
        let scale = most_common(self.modules.iter().map(|m| m.scale(m.rank()))).unwrap_or(1.0);
        for module in &mut self.modules {
            let times = module.scale(module.rank()) / scale;
            if times != 1.0 {
                module.b = module.b.decoded(times)?;
            }
            if module.rank() < rank {
                module.a = padded(&module.a, rank, 0)?;
                module.b = padded(&module.b, rank, 1)?;
            }
            (module.scaling, module.config_rank) = (Scaling::Fixed(scale), None);
        }
        Ok(self)
    }
}

impl Adapter {
    /// The same, with the scale of each module as a number.
    pub(crate) fn with_fixed_scales(mut self) -> Self {
        for module in &mut self.modules {
            module.scaling = Scaling::Fixed(module.scale(module.rank_of_one()));
        }
        self
    }
}

impl Module {
    /// The rank by which alpha is divided: for experts that PEFT packs in one module, that of one of them.
    pub(crate) fn rank_of_one(&self) -> usize {
        let of_expert = self.config_rank.filter(|_| self.is_packed()).map(|rank| rank as usize);
        of_expert.unwrap_or_else(|| self.rank())
    }
}

/// `tensor` padded to `rank` rows (`axis` 0) or columns (`axis` 1) with zeros at the end.
fn padded(tensor: &TensorRef, rank: usize, axis: usize) -> Result<TensorRef> {
    let (rows, cols) = tensor.info().rows_cols();
    let mut shape = tensor.info().shape.clone();
    shape[axis] = rank;
    let width = if axis == 0 { cols } else { rank };
    TensorRef::assembled(vec![(Factor::matrix(tensor.clone(), rows, cols), 0, 0)], width, shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::tests::tensor;

    #[test]
    fn zeros_follow_the_values() {
        let factor = tensor("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(padded(&factor, 3, 0).unwrap().values().unwrap(), [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
        let wide = padded(&factor, 3, 1).unwrap();
        assert_eq!(
            (wide.info().shape.as_slice(), wide.values().unwrap()),
            (&[2, 3][..], vec![1.0, 2.0, 0.0, 3.0, 4.0, 0.0])
        );
    }
}
