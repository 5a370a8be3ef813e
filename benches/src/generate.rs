//! Model folders with made-up values of a real model's size and spread.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::bf16;
use lorakit_tensor::format::safetensors;
use lorakit_tensor::{DType, TensorInfo};
use rayon::prelude::*;
use serde_json::Value;

use crate::shape;

/// Values filled at a time.
const PIECE: usize = 1 << 20;
/// Standard deviation of weights and of `lora_A`, as in trained models of this width.
const SPREAD: f32 = 0.02;
/// Size of the deltas relative to the weights.
const RELATIVE_DELTA: f32 = 0.01;

/// Writes the base model of `layers` layers into `folder`.
pub(crate) fn base(folder: &Path, layers: usize) -> io::Result<()> {
    model(folder, ("config.json", shape::base_config(layers)), "model.safetensors", shape::base(layers), 0)
}

/// Writes its adapter into `folder`: trained, so `lora_B` is not zero.
pub(crate) fn adapter(folder: &Path, layers: usize) -> io::Result<()> {
    let config = ("adapter_config.json", shape::adapter_config());
    model(folder, config, "adapter_model.safetensors", shape::adapter(layers), 0)
}

/// Writes a folder of one configuration and one file of these tensors. Another `seed` gives other values.
pub(crate) fn model(
    folder: &Path,
    config: (&str, Value),
    file: &str,
    tensors: Vec<TensorInfo>,
    seed: u64,
) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::write(folder.join(config.0), format!("{:#}\n", config.1))?;
    let layout = safetensors::layout(&[("format".into(), "pt".into())].into(), &tensors)
        .map_err(|e| io::Error::other(e.to_string()))?;
    let out = fs::File::create_new(folder.join(file))?;
    out.write_all_at(&layout.header, 0)?;
    let pieces = tensors.iter().zip(&layout.offsets).enumerate().flat_map(|(t, (tensor, &offset))| {
        let values = tensor.elements() as usize;
        (0..values)
            .step_by(PIECE)
            .map(move |start| (t as u64, tensor, offset, start..(start + PIECE).min(values)))
    });
    pieces.collect::<Vec<_>>().into_par_iter().try_for_each(|(t, tensor, offset, range)| {
        let mut random = Random((seed << 56) + (t << 32) + range.start as u64);
        let (mean, spread) = distribution(tensor);
        let values = range.clone().map(|_| mean + spread * random.next());
        let bytes: Vec<u8> = match tensor.dtype {
            DType::BF16 => values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
            _ => values.flat_map(f32::to_le_bytes).collect(),
        };
        out.write_all_at(&bytes, offset + (range.start * (bytes.len() / range.len())) as u64)
    })
}

/// Mean and standard deviation of a tensor's values.
fn distribution(tensor: &TensorInfo) -> (f32, f32) {
    if tensor.shape.len() == 1 {
        return (1.0, 0.1);
    }
    if tensor.name.contains("lora_B") {
        // A delta is the scaled sum of `r` products.
        let scale = shape::ALPHA as f32 / shape::RANK as f32;
        let products = scale * (shape::RANK as f32).sqrt() * SPREAD;
        return (0.0, RELATIVE_DELTA * SPREAD / products);
    }
    (0.0, SPREAD)
}

/// Deterministic bell-shaped numbers of mean 0 and variance 1, within +-3.5.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f32 {
        // SplitMix64; the sum of its four 16-bit parts is close to normal.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let sum = (0..4).map(|part| (z >> (16 * part)) as u16).map(f32::from).sum::<f32>();
        (sum / 65_536.0 - 2.0) * 3f32.sqrt()
    }
}
