//! How much of a delta survives being stored: the table of the documentation, measured on Gaussian weights.
//!
//! A base whose values are points of a grid swallows small deltas when it is written back to that grid; a base of
//! floats does not, whatever the grid.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use lorakit::TensorRef;
use lorakit::inside::Factor;
use lorakit::plan::{
    Compute, Container, Fp8, LowRank, OutputTensor, Packer, Plan, Recipe, Silent, Target, overall,
};
use lorakit_quant::bnb::FourBit;
use lorakit_quant::{codec, encoder};
use lorakit_tensor::format::{gguf, safetensors};
use lorakit_tensor::{Checkpoint, DType, ReadMode, Reader, TensorInfo};

const ROWS: usize = 256;
const COLS: usize = 1024;
const RANK: usize = 16;

const NF4: Form = Form::Packed(Packer::FourBit { kind: FourBit::Nf4, block: 64, nested: false });
const NF4_NESTED: Form = Form::Packed(Packer::FourBit { kind: FourBit::Nf4, block: 64, nested: true });

/// How a matrix is stored.
#[derive(Debug, Clone, Copy)]
enum Form {
    Blocks(DType),
    Packed(Packer),
}

use Form::Blocks;

/// Base, output, and the share that survives of deltas with 0.5, 1, 2 and 5 % of the weights' norm.
const TABLE: &[(Form, Form, [f64; 4])] = &[
    (NF4, NF4_NESTED, [0.01, 0.01, 0.02, 0.28]),
    (Blocks(DType::Q4_0), Blocks(DType::Q4_0), [0.03, 0.03, 0.03, 0.23]),
    (Blocks(DType::Q4_K), Blocks(DType::Q4_K), [0.01, 0.01, 0.03, 0.32]),
    (Blocks(DType::Q4_K), Blocks(DType::Q5_K), [0.33, 0.45, 0.70, 0.99]),
    (Blocks(DType::Q4_K), Blocks(DType::Q6_K), [0.93, 0.95, 0.99, 1.00]),
    (Blocks(DType::Q4_K), Blocks(DType::Q8_0), [1.00, 1.00, 1.00, 1.00]),
    (Blocks(DType::Q8_0), Blocks(DType::Q8_0), [0.65, 0.98, 1.00, 1.00]),
    (NF4, Blocks(DType::Q4_K), [0.65, 0.61, 0.64, 0.84]),
    (NF4, Blocks(DType::Q8_0), [0.98, 1.00, 1.00, 1.00]),
    (Blocks(DType::F32), NF4, [1.0; 4]),
    (Blocks(DType::F32), NF4_NESTED, [1.0; 4]),
    (Blocks(DType::F32), Blocks(DType::Q4_0), [1.0; 4]),
    (Blocks(DType::F32), Blocks(DType::Q4_K), [1.0; 4]),
    (Blocks(DType::F32), Blocks(DType::Q5_K), [1.0; 4]),
    (Blocks(DType::F32), Blocks(DType::Q6_K), [1.0; 4]),
    (Blocks(DType::F32), Blocks(DType::Q8_0), [1.0; 4]),
    (Blocks(DType::F32), Blocks(DType::IQ4_NL), [1.0; 4]),
    (Blocks(DType::F32), Blocks(DType::MXFP4), [1.0; 4]),
    (Blocks(DType::F32), Form::Packed(Packer::Fp8(Fp8::Tensor)), [1.0; 4]),
    (Blocks(DType::F32), Form::Packed(Packer::Fp8(Fp8::Row)), [1.0; 4]),
    (Blocks(DType::F32), Form::Packed(Packer::Fp8(Fp8::Tile)), [1.0; 4]),
    (Blocks(DType::F32), Form::Packed(Packer::Fp8(Fp8::Group)), [1.0; 4]),
];

#[test]
fn retention_is_that_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    for (base, output, expected) in TABLE {
        for (percent, expected) in [0.5, 1.0, 2.0, 5.0].into_iter().zip(expected) {
            let found = retention(folder.path(), *base, *output, percent / 100.0);
            assert!(
                (found - expected).abs() < 0.07,
                "{base:?} to {output:?}, {percent} %: {found:.3}, and {expected} was expected"
            );
        }
    }
}

fn retention(folder: &Path, base: Form, output: Form, ratio: f64) -> f64 {
    let mut weights = gaussian(1, ROWS * COLS);
    store(base, &mut weights);
    let (b, a) = (gaussian(2, ROWS * RANK), gaussian(3, RANK * COLS));
    let source = folder.join("source.safetensors");
    write(&source, &[("w", [ROWS, COLS], &weights), ("b", [ROWS, RANK], &b), ("a", [RANK, COLS], &a)]);
    let source = Arc::new(Checkpoint::open(&source, &Reader::new(ReadMode::Positioned)).unwrap());
    let tensor = |index| TensorRef::new(source.clone(), index);
    // The norms of W and of B * A, both made of independent unit Gaussians.
    let scale = ratio / (RANK as f64).sqrt();
    let term = LowRank {
        rows: 0..ROWS,
        b: Factor::matrix(tensor(1), ROWS, RANK),
        a: Factor::matrix(tensor(2), RANK, COLS),
        scale,
    };
    let compute = Compute { terms: vec![term], ..Compute::cast(tensor(0)) };
    let info = |dtype| TensorInfo { name: "w.weight".into(), dtype, shape: vec![ROWS, COLS] };
    let metadata = gguf::Metadata::default();
    let (name, container, tensors) = match output {
        Blocks(dtype) => {
            let recipe = Recipe::Compute(Box::new(compute));
            ("out.gguf", Container::Gguf(metadata), vec![OutputTensor { info: info(dtype), recipe }])
        }
        Form::Packed(packing) => {
            let tensors = OutputTensor::packed(info(DType::F32), compute, packing, DType::F32);
            let container =
                Container::Safetensors { stem: "model", metadata: [].into(), max_shard: u64::MAX };
            ("out.safetensors", container, tensors)
        }
    };
    let plan =
        Plan::new(Target::File(folder.join(name)), true, &Reader::default(), container, tensors, vec![])
            .unwrap();
    let written = plan.write(2, &Silent).unwrap();
    overall(&written.report().retention).ratio().unwrap()
}

/// Replaces `values` with the values that a reader gets after they were stored in `form`.
fn store(form: Form, values: &mut [f32]) {
    match form {
        Blocks(dtype) => {
            let mut bytes = vec![0; dtype.byte_len(values.len() as u64).unwrap() as usize];
            encoder(dtype).unwrap().encode(values, &mut bytes);
            codec(dtype).unwrap().decode(&bytes, values);
        }
        Form::Packed(_) => {
            let (mut codes, mut scales) = (vec![0; values.len() / 2], vec![0.0; values.len() / 64]);
            FourBit::Nf4.encode(values, 64, &mut codes, &mut scales);
            FourBit::Nf4.decode(&codes, &scales, 64, 0, values);
        }
    }
}

fn write(path: &Path, tensors: &[(&str, [usize; 2], &[f32])]) {
    let infos: Vec<TensorInfo> = tensors
        .iter()
        .map(|(name, shape, _)| TensorInfo { name: (*name).into(), dtype: DType::F32, shape: shape.to_vec() })
        .collect();
    let mut bytes = safetensors::layout(&[].into(), &infos).unwrap().header;
    for (_, _, values) in tensors {
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    std::fs::write(path, bytes).unwrap();
}

/// Numbers from the unit Gaussian; the same seed gives the same numbers.
fn gaussian(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut normal = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..n).map(|_| normal() as f32).collect()
}
