//! Adapters on their way in and out: fresh ones, those of any format that `lorakit` reads, and the PEFT folder that
//! training leaves.

mod fresh;
mod problem;
mod random;
mod read;
mod reload;
mod write;

pub use fresh::{Fresh, Layers, Targets, fresh};
pub use read::{of, read};
pub use reload::{Reloaded, reload};
pub use write::{Written, step, write};

#[cfg(test)]
mod tests;
