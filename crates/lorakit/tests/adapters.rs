//! Every adapter format to every adapter format, on adapters that PEFT wrote: the delta of each module, computed here
//! in f64 from PEFT's own files by PEFT's own rule, is the same after any journey.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use lorakit::ErrorKind;
use lorakit::ops::convert::adapter::{AdapterOptions, AdapterReport, compute};
use lorakit::plan::Silent;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Formats of language models.
const FORMATS: &[&str] = &["peft", "gguf", "mlx", "torchtune"];
/// An adapter, its base, and the formats that have a place for all of it.
const CASES: &[(&str, &str, &[&str])] = &[
    ("plain", "llama-bf16", FORMATS),
    ("attn-r4", "llama-bf16", FORMATS),
    ("all-r8-second", "llama-bf16", FORMATS),
    ("rslora", "llama-bf16", FORMATS),
    ("patterns", "llama-bf16", FORMATS),
    ("layers-subset", "llama-bf16", FORMATS),
    ("f16", "llama-f16", FORMATS),
    ("f32", "llama-f32", FORMATS),
    ("qwen2", "qwen2-bf16", FORMATS),
    ("embed", "llama-bf16", &["peft", "gguf", "mlx"]),
    ("moe-params", "qwen3-moe-bf16", &["peft", "gguf", "mlx"]),
    ("dora", "llama-bf16", &["peft", "mlx", "torchtune"]),
    ("dora-f32", "llama-f32", &["peft", "mlx", "torchtune"]),
    ("lora-bias", "qwen2-bf16", &["peft"]),
    ("modules-to-save", "llama-bf16", &["peft"]),
    ("token-indices", "llama-bf16", &["peft"]),
    ("tied-save", "llama-tied-bf16", &["peft"]),
];

type Matrix = (usize, usize, Vec<f64>);

fn golden(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/peft").join(kind).join(name)
}

/// The path of each format's output.
fn output(folder: &Path, name: &str, format: &str) -> PathBuf {
    let file = match format {
        "gguf" => format!("{name}.gguf"),
        "kohya" => format!("{name}.safetensors"),
        _ => name.to_string(),
    };
    folder.join(file)
}

fn convert(source: &Path, output: &Path, to: &str, base: &str) -> lorakit::Result<AdapterReport> {
    let options =
        AdapterOptions::new(source, output, to).with_base(Some(golden("bases", base))).with_threads(1);
    compute(&options, &Silent)?.run(1, &Silent)
}

/// The tensors of a PEFT folder as matrices.
fn tensors(folder: &Path) -> BTreeMap<String, (Matrix, Vec<u8>)> {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = |view: &safetensors::tensor::TensorView<'_>| {
        let values: Vec<f64> = match view.dtype() {
            Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()).into())
                .collect(),
            Dtype::BF16 => view
                .data()
                .chunks_exact(2)
                .map(|b| f32::from_bits(u32::from(b[1]) << 24 | u32::from(b[0]) << 16).into())
                .collect(),
            Dtype::F16 => {
                view.data().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f64()).collect()
            }
            other => panic!("{other:?}"),
        };
        let rows = view.shape().first().copied().unwrap_or(1);
        (rows, values.len() / rows.max(1), values)
    };
    file.tensors().into_iter().map(|(name, view)| (name, (matrix(&view), view.data().to_vec()))).collect()
}

/// The number by which PEFT multiplies the product of `path`, and its rank.
fn scale(config: &Value, path: &str, rank: usize) -> f64 {
    let pattern = |name: &str| {
        let matches = |key: &str| Regex::new(&format!(r"^(.*\.)?({key})$")).unwrap().is_match(path).unwrap();
        config[name].as_object().and_then(|map| map.iter().find(|(k, _)| matches(k))?.1.as_f64())
    };
    let alpha = pattern("alpha_pattern").unwrap_or_else(|| config["lora_alpha"].as_f64().unwrap());
    let rank = rank as f64;
    alpha / if config["use_rslora"] == true { rank.sqrt() } else { rank }
}

fn product((rows, rank, b): &Matrix, (_, cols, a): &Matrix, scale: f64) -> Matrix {
    let mut out = vec![0.0; rows * cols];
    for i in 0..*rows {
        for k in 0..*rank {
            for j in 0..*cols {
                out[i * cols + j] += scale * b[i * rank + k] * a[k * cols + j];
            }
        }
    }
    (*rows, *cols, out)
}

/// The delta of every module, with each expert by itself; and everything else, as bytes.
fn deltas(folder: &Path) -> (BTreeMap<String, Matrix>, BTreeMap<String, Vec<u8>>) {
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
    let mut tensors = tensors(folder);
    let (mut deltas, mut others) = (BTreeMap::new(), BTreeMap::new());
    while let Some((name, (first, bytes))) = tensors.pop_first() {
        let other = name.replace("lora_A", "lora_B").replace("embedding_A", "embedding_B");
        let half = tensors.remove(&other).filter(|_| other != name);
        let Some((b, _)) = half else {
            others.insert(name, bytes);
            continue;
        };
        let path = name.trim_start_matches("base_model.model.").split(".lora_").next().unwrap().to_string();
        let Some(experts) =
            path.split_once(".experts").filter(|(_, rest)| matches!(*rest, "" | ".base_layer"))
        else {
            let scale = scale(&config, &path, first.0);
            deltas.insert(path, product(&b, &first, scale));
            continue;
        };
        unpack(&mut deltas, experts, &first, &b, &config);
    }
    (deltas, others)
}

/// `target_parameters`: A `(E*r, in)` with row `e*r + k`, B `(out, r*E)` with column `k*E + e`; `gate_up_proj` innermost.
fn unpack(
    deltas: &mut BTreeMap<String, Matrix>,
    (path, rest): (&str, &str),
    a: &Matrix,
    b: &Matrix,
    config: &Value,
) {
    let rank = config["r"].as_u64().unwrap() as usize;
    let experts = a.0 / rank;
    for e in 0..experts {
        let one_a = (rank, a.1, a.2[e * rank * a.1..(e + 1) * rank * a.1].to_vec());
        let column = |i: usize, k: usize| b.2[i * b.1 + k * experts + e];
        let one_b: Vec<f64> = (0..b.0).flat_map(|i| (0..rank).map(move |k| column(i, k))).collect();
        let (rows, cols, delta) = product(&(b.0, rank, one_b), &one_a, scale(config, path, rank));
        let name = |leaf: &str| format!("{path}.experts.{e}.{leaf}");
        match rest {
            "" => drop(deltas.insert(name("down_proj"), (rows, cols, delta))),
            _ => {
                let (gate, up) = delta.split_at(delta.len() / 2);
                deltas.insert(name("gate_proj"), (rows / 2, cols, gate.to_vec()));
                deltas.insert(name("up_proj"), (rows / 2, cols, up.to_vec()));
            }
        }
    }
}

#[track_caller]
fn assert_same(before: &Path, after: &Path, journey: &str) {
    let ((before, others), (mut after, after_others)) = (deltas(before), deltas(after));
    for (path, (rows, cols, delta)) in &before {
        let (other_rows, other_cols, other) =
            after.remove(path).unwrap_or_else(|| panic!("{journey}: `{path}` is lost"));
        assert_eq!((*rows, *cols), (other_rows, other_cols), "{journey}: `{path}`");
        let off: f64 = delta.iter().zip(&other).map(|(x, y)| (x - y).powi(2)).sum();
        let whole: f64 = delta.iter().map(|x| x * x).sum();
        let error = if whole == 0.0 { off.sqrt() } else { (off / whole).sqrt() };
        assert!(error <= 1e-6, "{journey}: `{path}` is {error:e} off");
    }
    // A format may need modules that the adapter does not have: they do nothing.
    for (path, (_, _, delta)) in after {
        assert!(delta.iter().all(|v| *v == 0.0), "{journey}: `{path}` came out of nothing");
    }
    // Copies of the base's weights need not come along.
    let own = |others: BTreeMap<String, Vec<u8>>| -> Vec<(String, Vec<u8>)> {
        others.into_iter().filter(|(name, _)| !name.ends_with("base_layer.weight")).collect()
    };
    assert_eq!(own(others), own(after_others), "{journey}");
}

#[test]
fn every_format_to_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for (name, base, legal) in CASES {
        let source = golden("adapters", name);
        for first in FORMATS {
            let one = output(folder.path(), &format!("{name}-{first}"), first);
            let outcome = convert(&source, &one, first, base);
            if !legal.contains(first) {
                let kind = outcome.map(drop).unwrap_err().kind();
                let refused = matches!(kind, ErrorKind::Inexpressible | ErrorKind::Unsupported);
                assert!(refused, "{name} to {first}: {kind:?}");
                assert!(!one.exists(), "{name} to {first}");
                continue;
            }
            let report = outcome.unwrap_or_else(|e| panic!("{name} to {first}: {e}"));
            assert!(report.errors.iter().all(|e| e.error <= 1e-6), "{name} to {first}");
            for second in *legal {
                let journey = format!("{name} by {first} and {second}");
                let two = output(folder.path(), &format!("{name}-{first}-{second}"), second);
                convert(&one, &two, second, base).unwrap_or_else(|e| panic!("{journey}: {e}"));
                let back = folder.path().join(format!("{name}-{first}-{second}-back"));
                convert(&two, &back, "peft", base).unwrap_or_else(|e| panic!("{journey}: {e}"));
                assert_same(&source, &back, &journey);
            }
        }
    }
}

/// If no scale has to be multiplied in, a journey does not change a single byte of a factor.
#[test]
fn factors_keep_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let plain =
        ["plain", "attn-r4", "all-r8-second", "rslora", "f16", "f32", "qwen2", "dora", "dora-f32", "embed"];
    for (name, base, legal) in CASES.iter().filter(|(name, ..)| plain.contains(name)) {
        let source = golden("adapters", name);
        for format in *legal {
            let one = output(folder.path(), &format!("{name}-{format}"), format);
            convert(&source, &one, format, base).unwrap();
            let back = folder.path().join(format!("{name}-{format}-back"));
            let report = convert(&one, &back, "peft", base).unwrap();
            assert!(report.errors.iter().all(|e| e.error == 0.0), "{name} from {format}");
            let own = |folder: &Path| {
                let mut tensors = tensors(folder);
                tensors.retain(|name, _| !name.ends_with("base_layer.weight"));
                tensors
            };
            assert_eq!(own(&source), own(&back), "{name} by {format}");
        }
    }
}

/// One rank and one scale for all modules: the same deltas, and a configuration without patterns.
#[test]
fn uniform_factors_are_the_same_deltas() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["patterns", "rslora", "plain"] {
        let source = golden("adapters", name);
        let output = folder.path().join(name);
        let options = AdapterOptions::new(source.clone(), &output, "peft").with_uniform(true).with_threads(1);
        compute(&options, &Silent).unwrap().run(1, &Silent).unwrap();
        assert_same(&source, &output, name);
        let config: Value =
            serde_json::from_slice(&std::fs::read(output.join("adapter_config.json")).unwrap()).unwrap();
        for pattern in ["rank_pattern", "alpha_pattern"] {
            assert!(config[pattern].as_object().is_none_or(serde_json::Map::is_empty), "{name}: {pattern}");
        }
    }
}

/// Settings for which a format has no field travel along: PEFT's configuration comes back, with unknown entries too.
#[test]
fn unknown_fields_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let golden_folder = golden("adapters", "plain");
    std::fs::copy(golden_folder.join("adapter_model.safetensors"), source.join("adapter_model.safetensors"))
        .unwrap();
    let config = std::fs::read(golden_folder.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["of_a_later_version"] = serde_json::json!({"kept": [1, 2.5, "three"]});
    std::fs::write(source.join("adapter_config.json"), config.to_string()).unwrap();
    for format in FORMATS {
        let one = output(folder.path(), format, format);
        convert(&source, &one, format, "llama-bf16").unwrap();
        let back = folder.path().join(format!("{format}-back"));
        convert(&one, &back, "peft", "llama-bf16").unwrap();
        let text = std::fs::read(back.join("adapter_config.json")).unwrap();
        let returned: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(returned, config, "{format}");
    }
}

/// Modules of a LoRA for Stable Diffusion 1.5 as sd-scripts writes it: name, shapes of down and up, alpha.
const KOHYA: &[(&str, &[usize], &[usize], f32)] = &[
    ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", &[4, 32], &[24, 4], 2.0),
    ("lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj", &[8, 16], &[40, 8], 8.0),
    ("lora_unet_mid_block_attentions_0_proj_in", &[4, 16, 1, 1], &[16, 4, 1, 1], 3.0),
    ("lora_unet_down_blocks_0_resnets_0_conv1", &[4, 8, 3, 3], &[12, 4, 1, 1], 1.0),
    ("lora_te_text_model_encoder_layers_3_self_attn_q_proj", &[4, 20], &[20, 4], 4.0),
];

fn write_kohya(path: &Path) {
    let mut seed = 1u32;
    let mut tensor = |shape: &[usize]| {
        let values = (0..shape.iter().product::<usize>()).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 8_388_608.0 - 1.0
        });
        values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
    };
    let mut data: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, down, up, alpha) in KOHYA {
        data.push((format!("{name}.lora_down.weight"), down.to_vec(), tensor(down)));
        data.push((format!("{name}.lora_up.weight"), up.to_vec(), tensor(up)));
        data.push((format!("{name}.alpha"), Vec::new(), alpha.to_le_bytes().to_vec()));
    }
    let views = data.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let metadata = [("ss_output_name".to_string(), "kept".to_string())].into_iter().collect();
    std::fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

/// The delta of each module of a kohya file: `alpha / rank * up * down`.
fn kohya_deltas(path: &Path) -> BTreeMap<String, Matrix> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = |name: &str| {
        let view = file.tensor(name).unwrap();
        let values: Vec<f64> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect();
        let rows = view.shape().first().copied().unwrap_or(1);
        (rows, values.len() / rows, values)
    };
    let names = file.names();
    let modules = names.iter().filter_map(|name| name.strip_suffix(".lora_down.weight"));
    let delta = |name: &str| {
        let down = matrix(&format!("{name}.lora_down.weight"));
        let scale = matrix(&format!("{name}.alpha")).2[0] / down.0 as f64;
        product(&matrix(&format!("{name}.lora_up.weight")), &down, scale)
    };
    modules.map(|name| (name.to_string(), delta(name))).collect()
}

#[test]
fn every_format_of_diffusion_models_to_every_other() {
    const FORMATS: &[&str] = &["kohya", "diffusers", "peft"];
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.safetensors");
    write_kohya(&source);
    let convert = |from: &Path, name: &str, to: &str| {
        let path = output(folder.path(), name, to);
        let options = AdapterOptions::new(from, &path, to).with_threads(1);
        let run = compute(&options, &Silent).and_then(|convert| convert.run(1, &Silent));
        run.unwrap_or_else(|e| panic!("{name}: {e} {:?}", e.detail_lines()));
        path
    };
    let before = kohya_deltas(&source);
    for first in FORMATS {
        let one = convert(&source, first, first);
        for second in FORMATS {
            let two = convert(&one, &format!("{first}-{second}"), second);
            let back = convert(&two, &format!("{first}-{second}-back"), "kohya");
            let after = kohya_deltas(&back);
            assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
            for ((path, (.., x)), (.., y)) in before.iter().zip(after.values()) {
                let off: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
                let whole: f64 = x.iter().map(|x| x * x).sum();
                let error = (off / whole).sqrt();
                assert!(error <= 1e-6, "{first} and {second}: `{path}` is {error:e} off");
            }
            let bytes = std::fs::read(&back).unwrap();
            let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
            assert_eq!(header.metadata().as_ref().unwrap()["ss_output_name"], "kept", "{first} and {second}");
        }
    }
}
