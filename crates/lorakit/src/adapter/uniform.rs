//! One rank and one scale for all modules, for readers that know no others: vLLM, TGI.

use super::format::most_common;
use super::{Adapter, Module, Scaling};
use crate::tensor::Factor;
use crate::{Result, TensorRef};

impl Adapter {
    /// The same deltas with factors of the largest rank, padded with zeros, and the scale that most modules have; B of
    /// the others is multiplied and F32.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for factors that cannot be padded: of block types.
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

/// `tensor` with zeros after its last row (`axis` 0) or column (`axis` 1), up to `rank` of them.
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
