//! Linear algebra of low-rank adapters, on `ndarray` views of f64.
//!
//! A LoRA adds `scale · B A` to a weight `(m, n)`, with `B (m, r)` and `A (r, n)`. Nearly all there is to know about
//! that product is in its factors, at a cost of `O((m + n) r²)`: a spectrum ([`product_singular_values`]), the best
//! truncation ([`product_svd`]), a norm ([`product_norm`]), a distance ([`difference_norm`]), a sum ([`stack`]), how
//! several relate to one another ([`Coordinates`]). A matrix without factors, such as the difference of two models,
//! streams through [`randomized_svd`] and [`spectral_norm`]. [`rank`] and [`water_filling`] say how many triplets to keep.
//!
//! ```
//! use lorakit_linalg::{difference_norm, product_svd, rank};
//! use ndarray::array;
//!
//! let b = array![[1.0, 0.1], [2.0, 0.0], [2.0, -0.1]]; // (3, 2)
//! let a = array![[3.0, 4.0], [0.0, 0.1]]; // (2, 2)
//!
//! let svd = product_svd(b.view(), a.view())?;
//! let keep = rank::for_relative_error(&svd.s, 0.01);
//! assert_eq!(keep, 1);
//!
//! let (small_b, small_a) = svd.truncated(keep).factors();
//! let error = difference_norm((1.0, b.view(), a.view()), (1.0, small_b.view(), small_a.view()))?;
//! assert!(error < 0.01 * 15.0);
//! # Ok::<(), lorakit_linalg::Error>(())
//! ```
//!
//! # Results
//!
//! Everything runs on the calling thread, and callers compute modules in parallel: results do not depend on the
//! number of threads. They may differ in their last digits between kinds of processor, whose vectors differ in
//! width. Matrices that come back are row-major. Errors describe values and shapes; the caller adds the tensor's name.
//!
//! # LAPACK
//!
//! With the feature `lapack`, [`thin_qr`] and [`svd`] go through `ndarray-linalg` to the LAPACK in the system's
//! OpenBLAS (on Debian: `apt-get install libopenblas-dev pkg-config`):
//!
//! ```text
//! OPENBLAS_NUM_THREADS=1 cargo test -p lorakit-linalg --features lapack
//! ```
//!
//! One test compares both libraries. OpenBLAS starts its own threads; with one, results do not depend on their number.

#![deny(missing_docs)]

pub mod random;
pub mod rank;

mod angles;
mod backend;
mod budget;
mod coordinates;
mod dense;
mod entry;
mod error;
mod even;
mod krylov;
mod problem;
mod product;
mod randomized;
mod signs;
#[cfg(test)]
mod testing;
mod triangle;

pub use angles::principal_angles;
pub use backend::faer::product;
pub use budget::{Allocation, Spectrum, water_filling};
pub use coordinates::{Coordinates, Mixed};
pub use dense::{Qr, Svd, from_f32, singular_values, svd, thin_qr};
pub use entry::Entry;
pub use error::{Error, ErrorKind, Result};
pub use krylov::spectral_norm;
pub use product::{
    Decomposed, Term, difference_norm, distance_to, inner_product, product_norm, product_singular_values,
    product_svd, residual_norm, stack, truncated_product_svd,
};
pub use randomized::{LinearOperator, projection_residual, randomized_svd};
pub use signs::{Signs, compare_signs};
