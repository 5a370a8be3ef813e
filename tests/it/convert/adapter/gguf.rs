//! Adapters as GGUF files: that a model in GGUF's order of rows computes the same with them, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lorakit_tensor::format::gguf::Value;
use lorakit_tensor::{Checkpoint, DType, Reader, TensorSource};
use safetensors::tensor::Dtype;

use super::copy;
use crate::llama::{Factors, Llama};
use crate::support::{Run, Sandbox, TIMES, edit_json, fixtures, peft, read_json};
use crate::weights::{Matrix, Tensor, Weights, noise, read_folder, write_file};

/// `lorakit convert adapter -o adapter.gguf` of a golden adapter.
fn convert(sandbox: &Sandbox, case: &str, options: &str) -> Run {
    copy(sandbox, case);
    sandbox.run(&format!("convert adapter -o adapter.gguf --to gguf --base base {options}"), &[])
}

/// The factors of a GGUF adapter by Hugging Face's names, as they are stored, and `alpha`.
fn factors(path: &Path) -> (BTreeMap<String, Factors>, f64) {
    const NAMES: &[(&str, &str)] = &[
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ];
    let file = Checkpoint::open(path, &Reader::default()).unwrap();
    let matrix = |name: String| {
        let index = file.find(&name).unwrap();
        let info = &file.tensors()[index];
        let dtype = match info.dtype {
            DType::F32 => Dtype::F32,
            DType::BF16 => Dtype::BF16,
            other => panic!("{other}"),
        };
        let bytes = file.read(index, 0..info.byte_len()).unwrap().into_owned();
        Tensor { dtype, shape: info.shape.clone(), bytes }.matrix()
    };
    let targets = file.tensors().iter().filter_map(|t| t.name.strip_suffix(".weight.lora_a"));
    let all = targets.map(|target| {
        let module = match target.split('.').collect::<Vec<_>>()[..] {
            ["blk", layer, name] => {
                let (_, hf) = NAMES.iter().find(|(gguf, _)| *gguf == name).unwrap();
                format!("model.layers.{layer}.{hf}")
            }
            ["output"] => "lm_head".into(),
            ["token_embd"] => "model.embed_tokens".into(),
            _ => panic!("{target}"),
        };
        let [a, b] = ["lora_a", "lora_b"].map(|half| matrix(format!("{target}.weight.{half}")));
        let a = if target == "token_embd" { a.transposed() } else { a };
        (module, (a, b))
    });
    let alpha = match file.gguf().unwrap().get("adapter.lora.alpha") {
        Some(Value::F32(alpha)) => f64::from(*alpha),
        other => panic!("{other:?}"),
    };
    (all.collect(), alpha)
}

/// GGUF's order by the formula of llama.cpp's converter: `w.reshape(n, 2, d/2).swapaxes(1, 2)`.
fn swapped(matrix: &Matrix, heads: usize) -> Matrix {
    let half = matrix.rows / heads / 2;
    Matrix::from_fn(matrix.rows, matrix.cols, |row, col| {
        let (head, pair, side) = (row / (2 * half), row / 2 % half, row % 2);
        matrix.at(head * 2 * half + side * half + pair, col)
    })
}

/// The base in GGUF's order, whose rotary embedding pairs neighbours, with the factors as they are stored in the file.
fn in_gguf_order(base: &Path, factors: BTreeMap<String, Factors>, alpha: f64) -> Llama {
    let config = read_json(&base.join("config.json"));
    let heads = |key: &str| config[key].as_u64().unwrap() as usize;
    let (query, key) = (heads("num_attention_heads"), heads("num_key_value_heads"));
    assert_ne!(query, key, "a model whose heads share keys");
    Llama::open(base)
        .rotating_neighbours()
        .with_weights(|name, weight| match name {
            _ if name.ends_with("q_proj.weight") => swapped(weight, query),
            _ if name.ends_with("k_proj.weight") => swapped(weight, key),
            _ => weight.clone(),
        })
        .with_factors(factors, alpha)
}

#[test]
fn a_model_in_gguf_order_computes_the_same() {
    for case in ["plain", "rslora", "embed", "attn-r4"] {
        let sandbox = Sandbox::new();
        convert(&sandbox, case, "--dtype f32").ok();
        let (lora, alpha) = factors(&sandbox.path("adapter.gguf"));
        let base = peft("bases/llama-bf16");
        let with = Llama::with_adapter(&base, &peft(&format!("adapters/{case}")));
        let with = with.logits();
        let written = in_gguf_order(&base, lora.clone(), alpha);
        let error = written.logits().distance(&with);
        let effect = Llama::open(&base).logits().distance(&with);
        assert!(error < 1e-6 && effect > 1e-2, "{case}: {error}, {effect}");

        // The same products inside the weights.
        let merged = written.merged().logits().distance(&with);
        assert!(merged < 1e-6, "{case}: merged {merged}");

        // Rows of B in Hugging Face's order are wrong.
        let config = read_json(&base.join("config.json"));
        let heads = |key: &str| config[key].as_u64().unwrap() as usize;
        let unswapped = lora.into_iter().map(|(name, (a, b))| {
            let b = match name.rsplit('.').next().unwrap() {
                "q_proj" => swapped_back(&b, heads("num_attention_heads")),
                "k_proj" => swapped_back(&b, heads("num_key_value_heads")),
                _ => b,
            };
            (name, (a, b))
        });
        let wrong = in_gguf_order(&base, unswapped.collect(), alpha).logits().distance(&with);
        assert!(wrong > 1e-2, "{case}: {wrong}");
    }
}

/// Undoes [`swapped`].
fn swapped_back(matrix: &Matrix, heads: usize) -> Matrix {
    let half = matrix.rows / heads / 2;
    Matrix::from_fn(matrix.rows, matrix.cols, |row, col| {
        let (head, side, pair) = (row / (2 * half), row / half % 2, row % half);
        matrix.at(head * 2 * half + 2 * pair + side, col)
    })
}

#[test]
fn there_and_back() {
    for (case, proof) in [
        ("plain", "bit for bit"),
        ("rslora", "bit for bit"),
        ("patterns", "bit for bit"),
        ("embed", "bit for bit"),
        ("f16", "bit for bit"),
        ("qwen2", "bit for bit"),
        ("moe-params", "bit for bit"),
    ] {
        let sandbox = Sandbox::new();
        let run = convert(&sandbox, case, "").ok();
        assert!(run.stdout.contains(proof), "{case}: {}", run.stdout);
        let run = sandbox.run("convert adapter.gguf -o back --to peft --base base", &[]).ok();
        assert!(run.stdout.contains("bit for bit"), "{case}: {}", run.stdout);
        if ["plain", "rslora", "f16", "qwen2"].contains(&case) {
            let folders = ["back", "adapter"].map(|name| sandbox.path(name));
            assert!(
                read_folder(&folders[0]) == read_folder(&folders[1]),
                "{case}: every factor, byte for byte"
            );
            let [ours, theirs] = folders.map(|folder| read_json(&folder.join("adapter_config.json")));
            assert_eq!(ours, theirs, "{case}");
        }
    }
}

/// A model as a GGUF file says the same about itself as its folder, for every family.
#[test]
fn a_gguf_model_is_a_base() {
    const PROJECTIONS: [&str; 3] = ["q_proj", "qkv_proj", "o_proj"];
    for family in ["llama", "mixtral", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "smollm3"] {
        let sandbox = Sandbox::new();
        let folder = fixtures().join("golden/convert").join(family);
        let weights = read_folder(&folder);
        let path = |name: &str| format!("model.layers.0.self_attn.{name}");
        let there = PROJECTIONS
            .iter()
            .filter_map(|name| Some((path(name), weights.get(&format!("{}.weight", path(name)))?)));
        let adapter = there.flat_map(|(path, weight)| {
            let factor = |half: &str, shape: [usize; 2]| {
                let values = noise(shape[0] as u64, shape[0] * shape[1], 1.0);
                (
                    format!("base_model.model.{path}.lora_{half}.weight"),
                    Tensor::new(Dtype::F32, &shape, &values),
                )
            };
            [factor("A", [4, weight.shape[1]]), factor("B", [weight.shape[0], 4])]
        });
        let adapter: Weights = adapter.collect();
        assert_eq!(adapter.len(), 4, "{family}");
        fs::create_dir(sandbox.path("adapter")).unwrap();
        fs::write(
            sandbox.path("adapter/adapter_config.json"),
            r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8}"#,
        )
        .unwrap();
        write_file(&sandbox.path("adapter/adapter_model.safetensors"), &adapter);
        let gguf = folder.with_file_name(format!("{family}.bf16.gguf"));
        let written = [(&folder, "one.gguf"), (&gguf, "other.gguf")].map(|(base, out)| {
            // The record names the base, which has another name.
            sandbox.run(&format!("convert adapter -o {out} --to gguf --lineage never --base"), &[base]).ok();
            fs::read(sandbox.path(out)).unwrap()
        });
        assert!(written[0] == written[1], "{family}");
    }
}

#[test]
fn merging_a_gguf_adapter_merges_the_same() {
    let sandbox = Sandbox::new();
    convert(&sandbox, "plain", "").ok();
    let [base, adapter, gguf] = ["base", "adapter", "adapter.gguf"].map(|name| sandbox.path(name));
    let ours = sandbox.merge(&base, &gguf, "ours", "");
    let theirs = sandbox.merge(&base, &adapter, "theirs", "");
    assert!(read_folder(&ours) == read_folder(&theirs));
}

#[test]
fn a_summary() {
    let sandbox = Sandbox::new();
    let run = convert(&sandbox, "patterns", "").ok();
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        insta::assert_snapshot!(run.stdout);
    });
    let run =
        sandbox.run("convert adapter -o other.gguf --to gguf --base base --dtype q8_0 --dry-run", &[]).ok();
    insta::assert_snapshot!("a_plan", run.stdout);
}

/// The message of a refusal.
#[track_caller]
fn refused(run: &Run) -> &str {
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
    &run.stderr
}

#[test]
fn refusals() {
    for case in ["dora", "modules-to-save", "tied-embed", "tied-head", "token-indices", "lora-bias"] {
        let sandbox = Sandbox::new();
        let run = convert(&sandbox, case, "");
        insta::assert_snapshot!(format!("refused_{case}"), refused(&run));
        assert_eq!(sandbox.entries(), ["adapter", "base"], "nothing is written");
    }
}

#[test]
fn only_a_base_tells_names_and_rows() {
    let sandbox = Sandbox::new();
    copy(&sandbox, "plain");
    edit_json(&sandbox.path("adapter/adapter_config.json"), |c| {
        c["base_model_name_or_path"] = "owner/model".into()
    });
    let run = sandbox.run("convert adapter -o adapter.gguf --to gguf", &[]);
    insta::assert_snapshot!("refused_without_base", refused(&run));
    sandbox.run("convert adapter -o adapter.gguf --to gguf --base base", &[]).ok();
    let run = sandbox.run("convert adapter.gguf -o back --to peft", &[]);
    insta::assert_snapshot!("refused_back_without_base", refused(&run));
    sandbox.copy(&peft("bases/qwen2-bf16"), "other");
    let run = sandbox.run("convert adapter.gguf -o back --to peft --base other", &[]);
    insta::assert_snapshot!("refused_for_another_family", refused(&run));
    let run = sandbox.run("inspect adapter.gguf", &[]).ok();
    insta::assert_snapshot!("inspected", run.stdout);
}
