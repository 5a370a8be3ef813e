//! `--only`, `--skip` and `--weight`: the same bytes as an adapter whose factors were scaled, or removed, by hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Sandbox, edit_json, peft};
use crate::weights::{Tensor, Weights, edit_file, read_folder};

/// An adapter of the fixtures and its base; options; what to do by hand to the tensors whose names hold a text.
type Case = (&'static str, &'static str, &'static str, &'static [(&'static str, f64)]);

/// Powers of two round nothing, so that bytes are the same. Each kind of part is once left out, and once scaled if it
/// has a strength; 0 is for tensors that are removed.
const CASES: &[Case] = &[
    // Low-rank layers.
    ("plain", "llama-bf16", "--skip mlp", &[(".mlp.", 0.0)]),
    (
        "plain",
        "llama-bf16",
        r"--only q_proj --only layers\.1\.mlp --skip up_proj",
        &[("layers.0.mlp", 0.0), ("k_proj", 0.0), ("v_proj", 0.0), ("o_proj", 0.0), ("up_proj", 0.0)],
    ),
    (
        "f32",
        "llama-f32",
        r"--weight layers\.1\.=0.5 --weight self_attn=-4",
        &[("layers.1.", 0.5), ("self_attn", -4.0)],
    ),
    ("f32", "llama-f32", r"--weight layers\.1\.=0", &[("layers.1.", 0.0)]),
    ("rslora", "llama-bf16", "--weight (gate|up)_proj$=2", &[("gate_proj", 2.0), ("up_proj", 2.0)]),
    // Weights stored as `(in, out)`.
    ("gpt2", "gpt2-f32", "--skip mlp --weight c_attn=8", &[(".mlp.", 0.0), ("c_attn", 8.0)]),
    // DoRA, which has no strength.
    ("dora", "llama-bf16", "--skip mlp", &[(".mlp.", 0.0)]),
    ("dora-f32", "llama-f32", "--weight self_attn=0", &[("self_attn", 0.0)]),
    // Biases of factors.
    ("lora-bias", "qwen2-bf16", "--weight q_proj=4 --skip v_proj", &[("q_proj", 4.0), ("v_proj", 0.0)]),
    // Tensors that are saved whole.
    (
        "modules-to-save",
        "llama-bf16",
        "--skip lm_head --skip input_layernorm",
        &[("lm_head", 0.0), ("input_layernorm", 0.0)],
    ),
    (
        "modules-to-save",
        "llama-bf16",
        "--weight ^lm_head$=0 --weight q_proj=2",
        &[("lm_head", 0.0), ("q_proj", 2.0)],
    ),
    // Rows of tokens.
    ("token-indices", "llama-bf16", "--skip embed_tokens", &[("embed_tokens", 0.0)]),
    // Experts that share a module.
    ("moe-params", "qwen3-moe-bf16", "--weight experts=0.5", &[("experts", 0.5)]),
    (
        "moe-params",
        "qwen3-moe-bf16",
        r"--only experts\.gate_up_proj",
        &[("experts.lora", 0.0), ("q_proj", 0.0)],
    ),
    // Embeddings, each side of a tied pair.
    (
        "embed",
        "llama-bf16",
        "--weight embed_tokens=2 --skip lm_head",
        &[("embed_tokens", 2.0), ("lm_head", 0.0)],
    ),
    ("tied-embed", "llama-tied-bf16", "--weight embed=0.5", &[("embed_tokens", 0.5)]),
    ("tied-head", "llama-tied-bf16", "--skip lm_head", &[("lm_head", 0.0)]),
    ("tied-head", "llama-tied-bf16", "--only lm_head --weight head=2", &[("lm_head", 2.0), ("q_proj", 0.0)]),
];

/// The adapter with factors scaled, or parts removed.
fn by_hand(sandbox: &Sandbox, adapter: &Path, out: &str, edits: &[(&str, f64)]) -> PathBuf {
    let folder = sandbox.copy(adapter, out);
    edit_file(&folder.join("adapter_model.safetensors"), |weights| {
        for (name, weight) in edits {
            edit(weights, name, *weight);
        }
    });
    folder
}

fn edit(weights: &mut Weights, part: &str, weight: f64) {
    let before = weights.len();
    let scaled = |name: &str| name.contains("lora_B") || name.contains("lora_embedding_B");
    let mut found = 0;
    weights.retain(|name, _| weight != 0.0 || !name.contains(part));
    for (name, tensor) in weights.iter_mut().filter(|(name, _)| name.contains(part) && scaled(name)) {
        let values: Vec<f64> = tensor.values().iter().map(|value| value * weight).collect();
        *tensor = Tensor::new(tensor.dtype, &tensor.shape, &values);
        found += 1;
        assert!(!name.is_empty());
    }
    assert!(weights.len() < before || found > 0, "`{part}` is in the adapter");
}

#[test]
fn bytes_are_those_of_an_adapter_scaled_by_hand() {
    for (adapter, base, options, edits) in CASES {
        let sandbox = Sandbox::new();
        let (base, adapter) = (peft(&format!("bases/{base}")), peft(&format!("adapters/{adapter}")));
        let hand = by_hand(&sandbox, &adapter, "hand", edits);
        let expected = read_folder(&sandbox.merge(&base, &hand, "expected", ""));
        let found = read_folder(&sandbox.merge(&base, &adapter, "found", options));
        assert_ne!(expected, read_folder(&sandbox.merge(&base, &adapter, "whole", "")), "{options}");
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{options}");
        for (name, tensor) in &expected {
            assert!(*tensor == found[name], "{} {options}: {name}", adapter.display());
        }
        // What was left out counts as the base's, and the rest as the sum.
        let line = format!("verify found --adapter {} --base {}", adapter.display(), base.display());
        let verified = sandbox.run(&format!("{line} {options}"), &[]).ok().stdout;
        assert!(verified.starts_with("exact"), "{options}: {verified}");
        assert_eq!(sandbox.run(&line, &[]).code, Some(1), "{options}");
    }
}

/// Any other factor rounds once more, in f64, than a weight of the whole adapter does.
#[test]
fn a_weight_of_every_module_is_a_weight_of_the_adapter() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-f32"), peft("adapters/f32"));
    let half = PathBuf::from(format!("{}=0.7", adapter.display()));
    let expected = read_folder(&sandbox.merge(&base, &half, "expected", ""));
    let found = read_folder(&sandbox.merge(&base, &adapter, "found", "--weight .=0.7"));
    assert!(expected == found);
    // It multiplies the weight of the adapter.
    let found = read_folder(&sandbox.merge(&base, &half, "product", "--weight .=2 --weight .=0.5"));
    assert!(expected == found);
}

fn report(sandbox: &Sandbox, line: &str) -> Value {
    serde_json::from_str(&sandbox.run(line, &[]).ok().stdout).unwrap()
}

fn inputs(sandbox: &Sandbox) {
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    sandbox.copy(&peft("adapters/modules-to-save"), "saved");
}

#[test]
fn plan_report_and_record_tell() {
    let sandbox = Sandbox::new();
    inputs(&sandbox);
    let options = r"--skip layers\.0\..*[kv]_proj --weight q_proj=0.5";
    let plan = sandbox.run(&format!("merge base adapter=2 -o out -n -v {options}"), &[]).ok().stdout;
    let (head, _) = plan.split_once("\nwould write").unwrap();
    insta::assert_snapshot!(head, @"
    `adapter` (weight 2): 1 left out, 2 with a weight of their own
      model.layers.0.self_attn.q_proj  weight 1
      model.layers.1.self_attn.q_proj  weight 1
      model.layers.0.self_attn.v_proj  left out
    ");
    let run = sandbox.run(&format!("merge base adapter=2 -o out {options}"), &[]).ok();
    insta::assert_snapshot!(run.stdout.lines().next().unwrap(), @"merged `adapter` (weight 2, 3 modules, 1 left out, 2 with a weight of their own)");
    let json = report(&sandbox, &format!("merge base adapter=2 -o again --json {options}"));
    let adapter = &json["adapters"][0];
    assert_eq!((&adapter["left_out"], &adapter["weighted"]), (&1.into(), &2.into()), "{adapter}");
    let record = report(&sandbox, "inspect --json out");
    insta::assert_snapshot!(record["reports"][0]["lineage"]["options"], @r#"{"rounding":"once","tied":"untie","skip":["layers\\.0\\..*[kv]_proj"],"block_weights":["q_proj=0.5"]}"#);
    let verified = sandbox.run(&format!("verify out --base base --adapter adapter=2 {options}"), &[]).ok();
    insta::assert_snapshot!(verified.stdout.lines().take(3).collect::<Vec<_>>().join("\n"), @"
    exact: every byte is that of the sum, rounded once
      `out` against `base` + 2 times `adapter`
      1 module left out, 2 with a weight of their own
    ");
}

#[test]
fn refusals() {
    let sandbox = Sandbox::new();
    inputs(&sandbox);
    sandbox.copy(&peft("adapters/dora"), "dora");
    let lines = [
        "merge base adapter -o out --skip self_atn",
        r"merge base adapter -o out --only layers\.7\.",
        "merge base adapter -o out --skip self_attn",
        "merge base adapter saved -o out --only q_proj --skip norm --weight mlp=0.5",
        "merge base saved -o out --weight lm_head=0.5",
        "merge base dora -o out --weight q_proj=0.5",
        "merge base adapter -o out --weight q_proj",
        "merge base adapter -o out --weight q_proj=much",
        "merge base adapter -o out --skip (q",
        "verify base --base base --adapter adapter --only q_prj",
    ];
    let texts = lines.map(|line| format!("$ lorakit {line}\n{}", sandbox.refused(line)));
    insta::assert_snapshot!(texts.join("\n"), @r#"
    $ lorakit merge base adapter -o out --skip self_atn
    exit 1
    error: `self_atn` matches none of the 4 modules; the nearest is `model.layers.0.self_attn.q_proj`

    hint: `lorakit inspect ADAPTER --verbose` lists the modules of an adapter

    $ lorakit merge base adapter -o out --only layers\.7\.
    exit 1
    error: `layers\.7\.` matches none of the 4 modules; the nearest is `model.layers.0.self_attn.q_proj`

    hint: `lorakit inspect ADAPTER --verbose` lists the modules of an adapter

    $ lorakit merge base adapter -o out --skip self_attn
    exit 1
    error: `adapter`: all of its 4 modules are left out, so nothing of it would be in the output

    hint: `lorakit inspect ADAPTER --verbose` lists the modules of an adapter

    $ lorakit merge base adapter saved -o out --only q_proj --skip norm --weight mlp=0.5
    exit 1
    error: `mlp` matches none of the 12 modules; the nearest is `model.layers.0.self_attn.q_proj`

    hint: `lorakit inspect ADAPTER --verbose` lists the modules of an adapter

    $ lorakit merge base saved -o out --weight lm_head=0.5
    exit 2
    error: `lm_head=0.5` reaches only tensors that replace those of the base, which have no strength: they are taken whole (1) or left out (0)

    $ lorakit merge base dora -o out --weight q_proj=0.5
    exit 1
    error: `dora`: `model.layers.0.self_attn.q_proj`: is a DoRA adapter with weight 0.5; DoRA has no strength other than 1

    hint: serve it beside the base with the library that trained it

    $ lorakit merge base adapter -o out --weight q_proj
    exit 2
    error: invalid value 'q_proj' for '--weight <REGEX=WEIGHT>': `q_proj` is not of the form REGEX=WEIGHT

    For more information, try '--help'.

    $ lorakit merge base adapter -o out --weight q_proj=much
    exit 2
    error: invalid value 'q_proj=much' for '--weight <REGEX=WEIGHT>': the weight `much` is not a finite number

    For more information, try '--help'.

    $ lorakit merge base adapter -o out --skip (q
    exit 2
    error: invalid value '(q' for '--skip <REGEX>': `(q` is not a regular expression: Parsing error at position 2: Opening parenthesis without closing parenthesis

    For more information, try '--help'.

    $ lorakit verify base --base base --adapter adapter --only q_prj
    exit 1
    error: `q_prj` matches none of the 4 modules; the nearest is `model.layers.0.self_attn.q_proj`

    hint: `lorakit inspect ADAPTER --verbose` lists the modules of an adapter
    "#);
}

/// Leaving the output side of a tied pair out must not let the input side's change reach it.
#[test]
fn a_tied_head_that_is_left_out_stays() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-tied-bf16");
    let adapter = sandbox.copy(&peft("adapters/tied-embed"), "adapter");
    edit_json(&adapter.join("adapter_config.json"), |config| config["ensure_weight_tying"] = true.into());
    edit_file(&adapter.join("adapter_model.safetensors"), |weights| {
        let name = |kind: &str| format!("base_model.model.{kind}");
        let get = |part: &str| weights[&name(&format!("model.embed_tokens.{part}"))].clone();
        let turned = |tensor: Tensor| {
            let matrix = tensor.matrix().transposed();
            Tensor::new(tensor.dtype, &[matrix.rows, matrix.cols], &matrix.values)
        };
        let (a, b) = (turned(get("lora_embedding_B")), turned(get("lora_embedding_A")));
        weights.insert(name("lm_head.lora_A.weight"), a);
        weights.insert(name("lm_head.lora_B.weight"), b);
    });
    let whole = read_folder(&sandbox.merge(&base, &adapter, "whole", ""));
    assert!(!whole.contains_key("lm_head.weight"), "trained as one, they stay one");
    let original = &read_folder(&base)["model.embed_tokens.weight"];
    let without = read_folder(&sandbox.merge(&base, &adapter, "without", "--skip lm_head"));
    assert!(without["lm_head.weight"] == *original);
    assert!(without["model.embed_tokens.weight"] == whole["model.embed_tokens.weight"]);
    let uneven = read_folder(&sandbox.merge(&base, &adapter, "uneven", "--weight lm_head=0.5"));
    assert!(uneven["lm_head.weight"] != uneven["model.embed_tokens.weight"]);
}
