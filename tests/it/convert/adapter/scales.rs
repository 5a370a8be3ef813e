//! Scales in formats that store an alpha for each module: whatever PEFT's rule was, `alpha / rank` of the file is what
//! PEFT multiplies by.

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::json;

use crate::support::Sandbox;
use crate::weights::{Tensor, Weights, noise, read_file, write_file};

const MODULES: [(&str, &str); 2] = [
    (
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    ),
    (
        "unet.up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_k",
        "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn2_to_k",
    ),
];

#[test]
fn kohyas_alpha_gives_pefts_scale() {
    for (rslora, patterns, wanted) in [
        (false, false, [6.0 / 4.0; 2]),
        (true, false, [6.0 / 2.0; 2]),
        (false, true, [6.0 / 4.0, 10.0 / 4.0]),
        (true, true, [6.0 / 2.0, 10.0 / 2.0]),
    ] {
        let sandbox = Sandbox::new();
        let mut weights = Weights::new();
        for (i, (path, _)) in MODULES.iter().enumerate() {
            let factor = |seed, shape: &[usize]| Tensor::new(Dtype::F32, shape, &noise(seed, 32, 1.0));
            weights.insert(format!("base_model.model.{path}.lora_A.weight"), factor(i as u64 + 1, &[4, 8]));
            weights.insert(format!("base_model.model.{path}.lora_B.weight"), factor(i as u64 + 9, &[8, 4]));
        }
        fs::create_dir(sandbox.path("adapter")).unwrap();
        write_file(&sandbox.path("adapter/adapter_model.safetensors"), &weights);
        let mut config = json!({
            "peft_type": "LORA", "peft_version": "0.21.2", "r": 4, "lora_alpha": 6, "use_rslora": rslora,
            "target_modules": ["to_q", "to_k"],
        });
        if patterns {
            config["alpha_pattern"] = json!({ "to_k": 10 });
        }
        fs::write(sandbox.path("adapter/adapter_config.json"), config.to_string()).unwrap();
        sandbox.run("convert adapter -o kohya.safetensors --to kohya", &[]).ok();
        let found = read_file(&sandbox.path("kohya.safetensors"));
        for ((_, name), scale) in MODULES.iter().zip(wanted) {
            let rank = found[&format!("{name}.lora_down.weight")].shape[0] as f64;
            let alpha = found[&format!("{name}.alpha")].values()[0];
            assert_eq!(alpha / rank, scale, "{name}, rsLoRA {rslora}, patterns {patterns}");
        }
    }
}
