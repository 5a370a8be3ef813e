//! Image and video models: merged into the checkpoint that one has, whatever names it and the adapter use.
//!
//! Expected values are `W + weight * (scale * B A + D)` in f64, with the rows of fused layers written out by hand.
//! Factors are small multiples of 1/8, so F32 holds every sum exactly.

mod deltas;
mod names;
mod written;

use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use crate::support::Sandbox;
use crate::weights::{Matrix, Tensor, Weights, read_file, write_file};

/// Small multiples of 1/8 that differ with the name.
fn values(name: &str, n: usize) -> Vec<f64> {
    let seed: usize = name.bytes().enumerate().map(|(i, b)| (i + 1) * usize::from(b)).sum();
    (0..n).map(|i| ((i * 37 + i * i * 11 + seed) % 17) as f64 / 8.0 - 1.0).collect()
}

fn tensor(name: &str, shape: &[usize]) -> (String, Tensor) {
    (name.into(), Tensor::new(Dtype::F32, shape, &values(name, shape.iter().product())))
}

/// The factors of a layer of `out` outputs and `inputs` inputs, of rank 2, with these endings of names.
fn factors(name: &str, out: usize, inputs: usize, [a, b]: [&str; 2]) -> [(String, Tensor); 2] {
    [tensor(&format!("{name}.{a}"), &[2, inputs]), tensor(&format!("{name}.{b}"), &[out, 2])]
}

const PEFT: [&str; 2] = ["lora_A.weight", "lora_B.weight"];
const KOHYA: [&str; 2] = ["lora_down.weight", "lora_up.weight"];

/// `B A` of the factors of that name.
fn product(file: &Weights, name: &str, [a, b]: [&str; 2]) -> Matrix {
    let matrix = |part: &str| file[&format!("{name}.{part}")].matrix();
    matrix(b).times(&matrix(a))
}

/// Writes a file.
fn file(sandbox: &Sandbox, name: &str, tensors: impl IntoIterator<Item = (String, Tensor)>) -> PathBuf {
    let path = sandbox.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_file(&path, &tensors.into_iter().collect());
    path
}

/// Merges, and returns what the merge adds to each tensor that it changes.
fn added(sandbox: &Sandbox, base: &Path, adapter: &Path, options: &str) -> Vec<(String, Vec<f64>)> {
    let out = if base.is_dir() { "out" } else { "out.safetensors" };
    let merged = sandbox.merge(base, adapter, out, &format!("--force {options}"));
    let inside = |path: &Path| match path.is_dir() {
        true => {
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
            read_file(&files[0])
        }
        false => read_file(path),
    };
    let (before, after) = (inside(base), inside(&merged));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "names are kept");
    let change = |(name, tensor): (&String, &Tensor)| {
        let change: Vec<f64> = after[name].values().iter().zip(tensor.values()).map(|(x, y)| x - y).collect();
        change.iter().any(|v| *v != 0.0).then(|| (name.clone(), change))
    };
    before.iter().filter_map(change).collect()
}
