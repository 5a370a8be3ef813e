//! 4-bit blocks that run over the ends of rows and pieces: the bytes that the encoder makes of the whole tensor at once.

use std::fs;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::json;

use lorakit_quant::bnb::FourBit;
use lorakit_quant::bnb::double_quant::{self, Rounding};

use crate::support::Sandbox;
use crate::weights::{Tensor, Weights, noise, write_file};

const NAME: &str = "model.layers.0.self_attn.q_proj.weight";

#[test]
fn blocks_run_over_the_ends_of_rows() {
    // 40 and 24 columns do not divide into blocks of 64, nor these into 256 scales; 13 x 24 leaves a part of a block.
    for (rows, cols) in [(1000, 40), (500, 24), (13, 24), (64, 512)] {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("model")).unwrap();
        // Rows differ in size, so that a block that is cut elsewhere has another scale.
        let mut values = noise(3, rows * cols, 1.0);
        values.iter_mut().enumerate().for_each(|(i, v)| *v *= 1.0 + (i / cols % 7) as f64);
        let tensor = Tensor::new(Dtype::BF16, &[rows, cols], &values);
        let stored: Vec<f32> = tensor.values().iter().map(|v| *v as f32).collect();
        write_file(&sandbox.path("model/model.safetensors"), &Weights::from([(NAME.into(), tensor)]));
        let config = json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16" });
        fs::write(sandbox.path("model/config.json"), config.to_string()).unwrap();
        for (kind, name) in [(FourBit::Nf4, "nf4"), (FourBit::Fp4, "fp4")] {
            for (block, nested) in [(64, false), (64, true), (128, true)] {
                let what = format!("{name} {rows} x {cols}, blocks of {block}, nested {nested}");
                let double = if nested { "--double-quant" } else { "" };
                let line =
                    format!("quantize model -o out --force --type {name} --block-size {block} {double}");
                sandbox.run(&line, &[]).ok();
                let file = fs::read(sandbox.path("out/model.safetensors")).unwrap();
                let file = SafeTensors::deserialize(&file).unwrap();
                let part = |suffix: &str| file.tensor(&format!("{NAME}{suffix}")).unwrap().data().to_vec();
                let mut codes = vec![0; stored.len().div_ceil(2)];
                let mut scales = vec![0.0; stored.len().div_ceil(block)];
                kind.encode(&stored, block, &mut codes, &mut scales);
                assert!(part("") == codes, "{what}: codes");
                let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
                if nested {
                    let offset = double_quant::offset(&scales);
                    let mut codes = vec![0; scales.len()];
                    let mut outer = vec![0.0; scales.len().div_ceil(double_quant::BLOCK)];
                    double_quant::encode(&scales, offset, Rounding::Nearest, &mut codes, &mut outer);
                    assert!(part(".absmax") == codes, "{what}: codes of scales");
                    assert!(part(".nested_absmax") == bytes(&outer), "{what}: scales of scales");
                } else {
                    assert!(part(".absmax") == bytes(&scales), "{what}: scales");
                }
            }
        }
    }
}
