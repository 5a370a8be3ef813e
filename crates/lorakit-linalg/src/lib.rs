//! Linear algebra of low-rank adapters, on `ndarray` views of f64.

#![deny(missing_docs)]

mod backend;
mod dense;
mod error;
mod product;
#[cfg(test)]
mod testing;

pub use dense::{Qr, Svd, from_f32, singular_values, svd, thin_qr};
pub use error::{Error, ErrorKind, Result};
pub use product::{
    Term, difference_norm, inner_product, product_norm, product_singular_values, product_svd, residual_norm,
    stack,
};
