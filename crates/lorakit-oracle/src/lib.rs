//! The references of tests, made without lorakit: stored weights as matrices of f64, a Llama that computes logits with
//! an adapter next to its weights or inside them, and the meaning of "equal".
//!
//! ```
//! use lorakit_oracle::weights::Matrix;
//!
//! let (b, a) = (Matrix::from_fn(3, 1, |i, _| i as f64), Matrix::from_fn(1, 2, |_, j| j as f64 + 1.0));
//! assert_eq!(b.times(&a).row(2), [2.0, 4.0]);
//! ```

#![deny(missing_docs)]
#![allow(clippy::unwrap_used, clippy::get_unwrap, reason = "a test fails by panicking")]

pub mod llama;
pub mod near;
pub mod weights;

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Names in `folder`, sorted.
///
/// # Panics
/// If it cannot be listed, or a name is not UTF-8.
pub fn entries(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A parsed JSON file.
///
/// # Panics
/// If it cannot be read or parsed.
pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
