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

/// What was expected of blocks counts what ranks lose, also where they are capped.
#[test]
fn a_capped_rank_beside_a_quantised_dtype() {
    let sandbox = Sandbox::new();
    adapter(&sandbox, (Dtype::F32, 16, 0.9));
    let line =
        "reduce adapter -o out.gguf --base base --json --target-size 60kB --rank 4 --dtype q4_0 --dry-run";
    let report: Value = serde_json::from_str(&sandbox.run(line, &[]).ok().stdout).unwrap();
    let [expected, found] =
        [&report["alternatives"][0]["error"], &report["error"]].map(|e| e.as_f64().unwrap());
    assert!(found > 0.3 && (expected / found - 1.0).abs() < 0.1, "{expected} {found}");
}

/// Ranks that stay beside dtypes that do not are a reduction.
#[test]
fn only_what_stays_the_same_is_not_reduced() {
    let sandbox = Sandbox::new();
    adapter(&sandbox, (Dtype::F32, 4, 0.9));
    for (options, same) in [
        ("--rank 4", true),
        ("--rank 4 --dtype keep", true),
        ("--rank 4 --dtype f16", false),
        ("--rank 4 --dtype q8_0", false),
        ("--target-size 12kB --dtype q8_0", false),
    ] {
        let line = format!("reduce adapter -o out.gguf --base base --dry-run {options}");
        let run = sandbox.run(&line, &[]).ok();
        assert!(run.stdout.contains("from rank 4 to 4"), "{options}: {}", run.stdout);
        assert_eq!(run.stderr.contains("nothing was reduced"), same, "{options}: {}", run.stderr);
    }
}

/// A dtype that comes to the same as the present one is not in the table twice.
#[test]
fn dtypes_that_come_to_the_same() {
    let sandbox = Sandbox::new();
    adapter(&sandbox, (Dtype::BF16, 16, 0.8));
    let run = sandbox.run("reduce adapter -o out.gguf --base base --target-size 12kB --dry-run", &[]).ok();
    insta::assert_snapshot!(run.stdout, @"
    reduced `adapter` (peft): 4 modules from rank 16 to 10-16
    7.14 k of 9.22 k parameters keep 99.9 % of the energy; the error is 4.20 % of the norm
    at this size, least is lost with mixed dtypes:

      dtype   rank   error     size
      keep    7-12  8.43 %  12.0 kB
      Q8_0    9-14  4.55 %  11.8 kB
      Q4_0   12-16  5.31 %  11.9 kB
      mixed  10-16  3.90 %  12.0 kB

      module                           rank  to   energy   error   norm
      model.layers.1.mlp.up_proj         16  10   99.2 %  11.0 %  5.588
      model.layers.1.self_attn.q_proj    16  11   99.7 %  8.68 %    6.2
      model.layers.0.mlp.up_proj         16  13   99.8 %  4.14 %   10.2
      model.layers.0.self_attn.q_proj    16  16  100.0 %  0.35 %   17.6

    would write `out.gguf` (12.0 kB, 8 tensors): out.gguf
    ");
}

/// Sizes that cannot be, and dtypes that a format has not.
#[test]
fn refusals() {
    let sandbox = Sandbox::new();
    adapter(&sandbox, (Dtype::F32, 4, 0.9));
    insta::assert_snapshot!(sandbox.refused("reduce adapter -o out.gguf --base base --target-size 1"), @"
    exit 2
    error: `adapter`: does not fit into 1 B: rank 1 everywhere takes 2240 B

    hint: allow at least that: no rank is below 1; a smaller dtype takes less (`--dtype f16`; in GGUF q8_0 and q4_0)
    ");
    insta::assert_snapshot!(sandbox.refused("reduce adapter -o out --target-size 99999999999999999999GB"), @"
    exit 2
    error: invalid value '99999999999999999999GB' for '--target-size <SIZE>': a size must be below 1000000 TB

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.refused("reduce adapter -o out --target-size -1kB"), @"
    exit 2
    error: unexpected argument '-1' found

      tip: `--target-size=-1kB` gives the option that value

    Usage: lorakit reduce [OPTIONS] --output <OUT> <ADAPTER>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.refused("reduce adapter -o out --rank 2 --dtype q4_0"), @"
    exit 2
    error: adapters of the format `peft` are not stored as Q4_0, which is a type of GGUF files; they hold f32, f16 or bf16

    hint: write GGUF, which has that type: `-o NAME.gguf --to gguf --base BASE`; or leave `--dtype` out
    ");
    insta::assert_snapshot!(sandbox.refused("convert adapter -o out --to mlx --dtype q4_0"), @"
    exit 2
    error: adapters of the format `mlx` are not stored as Q4_0, which is a type of GGUF files; they hold f32, f16 or bf16

    hint: write GGUF, which has that type: `-o NAME.gguf --to gguf --base BASE`; or leave `--dtype` out
    ");
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
