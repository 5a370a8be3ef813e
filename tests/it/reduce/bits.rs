//! A size is spent on rank and on bits: never worse than on rank alone.

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::Sandbox;
use crate::weights::{Tensor, Weights, noise, write_file};

/// Two layers whose modules have spectra that fall by `fall` from one triplet to the next, about.
fn adapter(sandbox: &Sandbox, (dtype, rank, fall): (Dtype, usize, f64)) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 64,
        "tie_word_embeddings": false,
    });
    for (name, file, text) in [
        ("base", "config.json", config),
        (
            "adapter",
            "adapter_config.json",
            json!({ "peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj", "up_proj"] }),
        ),
    ] {
        fs::create_dir_all(sandbox.path(name)).unwrap();
        fs::write(sandbox.path(name).join(file), text.to_string()).unwrap();
    }
    let mut weights = Weights::new();
    let modules = [
        ("0.self_attn.q_proj", 64),
        ("0.mlp.up_proj", 96),
        ("1.self_attn.q_proj", 64),
        ("1.mlp.up_proj", 96),
    ];
    for (seed, (name, out)) in (1..).zip(modules) {
        let falling = |values: Vec<f64>, component: &dyn Fn(usize) -> usize| -> Vec<f64> {
            values.iter().enumerate().map(|(i, v)| v * fall.sqrt().powi(component(i) as i32)).collect()
        };
        let a = falling(noise(seed, rank * 64, 1.0 / seed as f64), &|i| i / 64);
        let b = falling(noise(seed + 10, out * rank, 1.0), &|i| i % rank);
        let key = format!("base_model.model.model.layers.{name}");
        weights.insert(format!("{key}.lora_A.weight"), Tensor::new(dtype, &[rank, 64], &a));
        weights.insert(format!("{key}.lora_B.weight"), Tensor::new(dtype, &[out, rank], &b));
    }
    write_file(&sandbox.path("adapter/adapter_model.safetensors"), &weights);
}

/// The report of a reduction to `size`, which is kept, and the size of the file.
fn reduced(sandbox: &Sandbox, size: u64, dtype: &str) -> Option<Value> {
    let line = format!(
        "reduce adapter -o out.gguf --force --to gguf --base base --json --target-size {size} --dtype {dtype}"
    );
    let run = sandbox.run(&line, &[]);
    if run.code != Some(0) {
        assert!(run.stderr.contains("does not fit"), "{}", run.stderr);
        return None;
    }
    assert!(fs::metadata(sandbox.path("out.gguf")).unwrap().len() <= size);
    Some(serde_json::from_str(&run.stdout).unwrap())
}

#[test]
fn rank_and_bits_lose_no_more_than_rank_alone() {
    let cases = [(Dtype::F32, 8, 0.5), (Dtype::F16, 16, 0.8), (Dtype::BF16, 16, 1.0), (Dtype::F16, 40, 0.95)];
    let mut better = 0;
    for case in cases {
        let sandbox = Sandbox::new();
        adapter(&sandbox, case);
        sandbox.run("convert adapter -o whole.gguf --to gguf --base base --dtype f16", &[]).ok();
        let whole = fs::metadata(sandbox.path("whole.gguf")).unwrap().len();
        for share in [2, 4] {
            let Some(traded) = reduced(&sandbox, whole / share, "auto") else {
                assert!(
                    ["keep", "f16"].iter().all(|dtype| reduced(&sandbox, whole / share, dtype).is_none())
                );
                continue;
            };
            let error = |report: &Value| report["error"].as_f64().unwrap();
            for alone in ["keep", "f16"] {
                let Some(alone) = reduced(&sandbox, whole / share, alone) else { continue };
                assert!(error(&traded) <= error(&alone), "{case:?} {share} {traded} {alone}");
                better += usize::from(error(&traded) < 0.9 * error(&alone));
            }
            // What was expected, and what it came to.
            let alternatives = traded["alternatives"].as_array().unwrap();
            let chosen: Vec<_> = alternatives.iter().filter(|one| one["chosen"] == true).collect();
            assert_eq!(chosen.len(), 1);
            assert!((error(chosen[0]) / error(&traded) - 1.0).abs() < 0.2, "{case:?} {traded}");
            assert!(alternatives.iter().all(|one| error(one) >= error(chosen[0])));
            assert!(alternatives.iter().all(|one| one["bytes"].as_u64().unwrap() <= whole / share));
        }
    }
    assert!(better > 4, "{better}");
}

#[test]
fn the_choice_is_told() {
    let sandbox = Sandbox::new();
    adapter(&sandbox, (Dtype::F16, 16, 0.8));
    let run = sandbox
        .run("reduce adapter -o out.gguf --to gguf --base base --target-size 12kB --dry-run", &[])
        .ok();
    insta::assert_snapshot!(run.stdout);
    // Other formats have no types to choose from, and other rules no size.
    for line in ["-o out --target-size 12kB", "-o out.gguf --to gguf --base base --rank 2"] {
        let run = sandbox.run(&format!("reduce adapter {line} --json --dry-run"), &[]).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert!(report.get("alternatives").is_none(), "{report}");
        assert_eq!(report["modules"][0]["dtypes"], json!(["F16", "F16"]));
    }
}
