//! A decoder forward and backward, with adapters on its linears.
//!
//! ```text
//!   pass        whole passes: losses, gradients, logits
//!   decode      passes that go on, token by token, with keys and values of those before (cache)
//!   layer       attention and MLP around the residual stream, and what is kept for the backward pass (stored)
//!   norm  rope  attention  mlp  lora  head      operations, each with its gradient
//!   batch  config  shape  how  memory           documents, what a model is, and how a pass is done
//!   parallel  real  math                        threads, numbers, elementary functions
//! ```
//!
//! Operations are generic over [`Real`]: training computes in f32, and tests compare gradients with finite differences
//! in f64.

mod attention;
mod batch;
mod cache;
mod config;
mod decode;
mod head;
mod how;
mod layer;
mod lora;
mod math;
pub mod memory;
mod mlp;
mod norm;
pub(crate) mod parallel;
mod pass;
mod problem;
mod real;
mod rope;
mod shape;
mod stored;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use math::{pow, sin_cos};

pub use batch::Batch;
pub use cache::Cache;
pub use decode::Decoder;
pub use how::{Dropout, How, Recompute};
pub use layer::Layer;
pub use lora::{Adapter, Linear, Lora};
pub use mlp::Activation;
pub use norm::Norm;
pub use pass::Model;
pub use real::Real;
pub use rope::{Rope, Scaling};
pub use shape::{LayerShape, Shape, Slot};
