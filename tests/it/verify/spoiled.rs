//! Merges that were spoiled in ways that hide: many values by a little, and tensors that no adapter touches.

use std::fs;

use safetensors::SafeTensors;

use super::verify;
use crate::support::{Sandbox, peft};
use crate::weights::{Weights, edit_file};

const TENSOR: &str = "model.layers.0.mlp.up_proj.weight";

/// A share of the values moved by a few steps of the dtype: one step is what kernels differ by, three are not.
#[test]
fn many_values_by_a_few_steps() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let name = adapter.display().to_string();
    for (every, steps, holds) in [
        (1, 1, true),
        (3, 1, true),
        (3, 2, false),
        (3, 3, false),
        (10, 3, false),
        (100, 4, false),
        (50, 8, false),
    ] {
        let out = format!("merged-{every}-{steps}");
        let merged = sandbox.merge(&base, &adapter, &out, "");
        edit_file(&merged.join("model.safetensors"), |weights: &mut Weights| {
            let words = weights.get_mut(TENSOR).unwrap().bytes.as_chunks_mut::<2>().0;
            for (i, word) in words.iter_mut().step_by(every).enumerate() {
                let bits = u16::from_le_bytes(*word);
                // Up and down in turn, so that no scale explains it.
                *word = if i % 2 == 0 { bits + steps } else { bits - steps }.to_le_bytes();
            }
        });
        let report = verify(&sandbox, &merged, &base, &name);
        assert_eq!(report["holds"], holds, "each {every}th by {steps}: {report}");
    }
}

/// Where another kernel left all values a step away, a thousandth of them may be a little further, as where summands
/// cancel; not more of them, and none by many steps.
#[test]
fn few_values_by_more_than_the_others() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let name = adapter.display().to_string();
    for (every, steps, holds) in [(1501, 3, true), (21, 3, false), (1501, 40, false)] {
        let merged = sandbox.merge(&base, &adapter, &format!("merged-{every}-{steps}"), "");
        edit_file(&merged.join("model.safetensors"), |weights: &mut Weights| {
            let words = weights.get_mut(TENSOR).unwrap().bytes.as_chunks_mut::<2>().0;
            for (i, word) in words.iter_mut().enumerate() {
                let (bits, by) = (u16::from_le_bytes(*word), if i % every == 0 { steps } else { 1 });
                *word = if i % 2 == 0 { bits + by } else { bits - by }.to_le_bytes();
            }
        });
        let report = verify(&sandbox, &merged, &base, &name);
        assert_eq!(report["holds"], holds, "each {every}th by {steps}: {report}");
    }
}

/// A tensor of a quantised model is not the base's, or the sum, if its scales, or its codes, are not.
#[test]
fn tensors_of_a_quantised_model() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/attn-r4"));
    let name = adapter.display().to_string();
    let merged = sandbox.merge(&base, &adapter, "merged", "--quantize nf4");
    assert_eq!(verify(&sandbox, &merged, &base, &name)["holds"], true);
    let file = merged.join("model.safetensors");
    let good = fs::read(&file).unwrap();
    type Fault = (&'static str, fn(&mut [u8]));
    let faults: [Fault; 5] = [
        (".absmax", |bytes| {
            let scales = bytes.as_chunks_mut::<4>().0;
            scales.iter_mut().for_each(|b| *b = (f32::from_le_bytes(*b) * 2.0).to_le_bytes());
        }),
        // Scales that are like the right ones: the error stays below what two bits may have.
        (".absmax", |bytes| bytes.as_chunks_mut::<4>().0.reverse()),
        (".absmax", |bytes| bytes.as_chunks_mut::<4>().0.rotate_left(1)),
        (".absmax", |bytes| bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
        ("", |bytes| bytes.reverse()),
    ];
    let tensors = [
        ("model.layers.0.mlp.up_proj.weight", "changed"),
        ("model.layers.0.self_attn.q_proj.weight", "other"),
    ];
    for (at, (part, spoil), (tensor, wanted)) in
        faults.iter().enumerate().flat_map(|(at, fault)| tensors.map(|tensor| (at, fault, tensor)))
    {
        let wanted = if at == 3 { "non_finite" } else { wanted };
        let place = {
            let opened = SafeTensors::deserialize(&good).unwrap();
            let data = opened.tensor(&format!("{tensor}{part}")).unwrap().data();
            let start = data.as_ptr() as usize - good.as_ptr() as usize;
            start..start + data.len()
        };
        let mut bad = good.clone();
        spoil(&mut bad[place]);
        fs::write(&file, bad).unwrap();
        let report = verify(&sandbox, &merged, &base, &name);
        assert_eq!(report["holds"], false, "`{part}` {report}");
        let state = report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == tensor).unwrap();
        assert_eq!(state["state"], wanted, "{tensor}{part}");
    }
}
