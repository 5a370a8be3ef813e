//! Matrix products. Matrices are row-major slices; a weight `W` is `(out, in)`, rows of `X` and `Y` are tokens.
//!
//! What each value is, is defined by the loops of this module and not by how fast they are done: with
//! [`Compute::F32`], one chain of fused multiply-adds over the inner dimension, in order, from what is there (or zero).
//! With [`Compute::Bf16`], operands are rounded to bf16 (to nearest even), and pairs `2 j`, `2 j + 1` of the inner
//! dimension are added as `vdpbf16ps` does: the odd one first, then the even one, each a fused multiply-add, with
//! denormal operands and results as zeros.

mod frozen;
mod reference;

pub use frozen::{FloatMatrix, FrozenMatrix};
pub use reference::{add_outer, times, times_transposed};

/// The type of the operands of products with frozen weights. Sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// f32 operands.
    #[default]
    F32,
    /// bf16 operands.
    Bf16,
}

/// How products are computed.
#[derive(Debug, Clone, Copy)]
pub struct Products {
    /// The type of operands.
    pub compute: Compute,
    /// Number of threads; it changes no byte.
    pub threads: usize,
}
