//! Adapters that are made, read and written.

use std::path::{Path, PathBuf};

use lorakit::lineage::{self, Lineage, Record, Role};
use lorakit::ops::merge::{self, MergeOptions, Sum};
use lorakit::plan::{Content, SideFile, Silent};
use lorakit::{DType, Reader};
use lorakit_tensor::Checkpoint;
use sha2::{Digest, Sha256};

use super::*;
use crate::Error;
use crate::base::{Base, Quant};
use crate::data::Text;
use crate::kernel::{Compute, Products};
use crate::model::{Adapter, Shape, Slot};

const PRODUCTS: Products = Products { compute: Compute::F32, threads: 2 };

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn base(name: &str, quant: Quant) -> Base {
    Base::open(&fixture(name), quant, 2, &Silent).unwrap()
}

fn shape() -> Shape {
    Shape::from_config(&std::fs::read(fixture("tiny-orders/config.json")).unwrap()).unwrap()
}

fn usual() -> Fresh {
    let (targets, layers) = (Targets::AllLinear, Layers::All);
    Fresh { targets, layers, rank: 4, alpha: 8.0, rslora: false, seed: 42 }
}

fn told(error: &Error) -> String {
    let lines = error.detail_lines().iter().map(|line| format!("\n    {line}"));
    let text = error.to_string();
    let text = text.rsplit("`: ").next().unwrap_or_default();
    format!("{}: {text}{}", error.kind().name(), lines.collect::<String>())
}

/// Which linears an adapter has, as `layer.slot`.
fn places(adapter: &Adapter<f32>) -> Vec<String> {
    let of_layer = |(at, layer): (usize, &[Option<_>; 7])| {
        let there = Slot::ALL.into_iter().zip(layer).filter(|(_, lora)| lora.is_some());
        there.map(|(slot, _)| format!("{at}.{slot:?}")).collect::<Vec<_>>()
    };
    adapter.layers.iter().enumerate().flat_map(of_layer).collect()
}

#[test]
fn a_fresh_adapter_is_the_same_everywhere() {
    let adapter = fresh(&shape(), &usual()).unwrap();
    assert_eq!(places(&adapter).len(), 28);
    for loras in &adapter.layers {
        for (slot, lora) in Slot::ALL.into_iter().zip(loras.iter().flatten()) {
            let bound = 1.0 / (shape().size(slot).1 as f32).sqrt();
            assert!(lora.a.iter().all(|x| x.abs() <= bound) && lora.b.iter().all(|x| *x == 0.0));
            assert_eq!(
                (lora.scale, lora.a.len() / 4, lora.b.len() / 4),
                (2.0, shape().size(slot).1, shape().size(slot).0)
            );
        }
    }
    let bytes: Vec<u8> = adapter.factors().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let digest: String = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    insta::assert_snapshot!(digest, @"acc0becb71f9f0d6");
    // What a linear starts from does not depend on which others are trained, nor on the rank beyond its rows.
    let some =
        Fresh { layers: Layers::Last(1), targets: Targets::of(&["down_proj"]), rslora: true, ..usual() };
    let some = fresh(&shape(), &some).unwrap();
    let of = |adapter: &Adapter<f32>| adapter.layers[3][Slot::Down as usize].clone().unwrap();
    assert_eq!(of(&some).a, of(&adapter).a);
    assert_eq!(of(&some).scale, 4.0);
    assert_ne!(of(&fresh(&shape(), &Fresh { seed: 43, ..usual() }).unwrap()).a, of(&adapter).a);
}

#[test]
fn targets_and_layers_are_what_was_asked_for() {
    let chosen = |targets: &[&str], layers: &str| {
        let (targets, layers) = (Targets::of(targets), Layers::parse(layers).unwrap());
        fresh(&shape(), &Fresh { targets, layers, ..usual() }).map(|adapter| places(&adapter).join(" "))
    };
    let found = |targets: &[&str], layers: &str| chosen(targets, layers).unwrap();
    let refused = |targets: &[&str], layers: &str| told(&chosen(targets, layers).unwrap_err());
    assert_eq!(found(&["q_proj", "mlp.up_proj"], "1-2"), "1.Query 1.Up 2.Query 2.Up");
    assert_eq!(found(&["model.layers.2.self_attn.v_proj"], "all"), "2.Value");
    assert_eq!(found(&["all-linear"], "last:1").split(' ').count(), 7);
    assert_eq!(found(&["o_proj"], "0, 2-3"), "0.Output 2.Output 3.Output");
    insta::assert_snapshot!(refused(&["qproj"], "all"), @"Usage: no linear is called `qproj`; the known ones are all-linear, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
    insta::assert_snapshot!(refused(&["proj"], "all"), @"Usage: no linear is called `proj`; the known ones are all-linear, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
    insta::assert_snapshot!(refused(&["q_proj", "lm_head"], "all"), @"Unsupported: `lm_head` is not trained: only the linears of layers are, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
    insta::assert_snapshot!(refused(&[], "all"), @"Usage: no linear is to be trained");
    insta::assert_snapshot!(refused(&["all-linear"], "2-4"), @"Usage: `2-4` names layers that the model does not have: it has 4, counted from 0");
    insta::assert_snapshot!(refused(&["all-linear"], "last:5"), @"Usage: `last:5` names layers that the model does not have: it has 4, counted from 0");
    insta::assert_snapshot!(refused(&["model.layers.0.self_attn.q_proj"], "1-2"), @"Usage: no linear is to be trained");
    for text in ["", "first:2", "3-1", "1,,2", "-1", "last:"] {
        assert_eq!(told(&Layers::parse(text).unwrap_err()).split(':').next(), Some("Usage"), "{text}");
    }
    for wanted in [
        Fresh { rank: 0, ..usual() },
        Fresh { rank: 70_000, ..usual() },
        Fresh { alpha: f64::NAN, ..usual() },
    ] {
        assert_eq!(fresh(&shape(), &wanted).unwrap_err().kind(), lorakit::ErrorKind::Usage);
    }
}

/// An adapter with something in B.
fn trained(base: &Base, wanted: &Fresh) -> Adapter<f32> {
    let mut adapter = fresh(&base.model.shape, wanted).unwrap();
    for (at, factor) in adapter.factors_mut().enumerate().filter(|(at, _)| at % 2 == 1) {
        factor
            .iter_mut()
            .enumerate()
            .for_each(|(i, value)| *value = ((at + i * 37) % 101) as f32 / 4e3 - 0.0125);
    }
    adapter
}

fn written(output: &Path, base: &Base, dtype: DType) -> Written {
    let step = step(base, None, Lineage::default(), &Silent).unwrap().with("lr", 2e-4);
    let (output, beside) = (output.to_path_buf(), Vec::new());
    Written { output, replace: false, dtype, rslora: false, dropout: 0.0, step, beside }
}

fn record(folder: &Path) -> Record {
    let reader = Reader::default();
    let file = Checkpoint::open(&folder.join("adapter_model.safetensors"), &reader).unwrap();
    lineage::read(&file, &reader).0.unwrap().record().unwrap()
}

#[test]
fn what_is_written_is_what_was_trained() {
    let temporary = tempfile::tempdir().unwrap();
    let output = temporary.path().join("out");
    let base = base("tiny-orders", Quant::Nf4 { double: true });
    for (dtype, rslora, layers) in [
        (DType::F32, false, Layers::All),
        (DType::BF16, true, Layers::Last(2)),
        (DType::F16, false, Layers::Ranges(vec![(0, 0), (2, 3)])),
    ] {
        let wanted = Fresh { rank: 6, alpha: 9.0, rslora, layers, ..usual() };
        let adapter = trained(&base, &wanted);
        let settings = SideFile { name: "run.yaml".into(), content: Content::bytes(b"lr: 2e-4\n".to_vec()) };
        let options = Written {
            rslora,
            dropout: 0.05,
            replace: true,
            beside: vec![settings],
            ..written(&output, &base, dtype)
        };
        write(&adapter, &base, &options, 2, &Silent).unwrap();
        let (opened, again) = read(&output, &base).unwrap();
        assert_eq!(places(&again), places(&adapter));
        if dtype == DType::F32 {
            assert!(again == adapter);
        }
        assert_eq!(
            (opened.config.alpha, opened.config.r, opened.config.use_rslora),
            (Some(9.0), Some(6), rslora)
        );
        assert_eq!(opened.config.base_model.as_deref(), Some("tiny-orders"));

        let tokens = [1, 5, 9, 200, 17];
        let reloaded = reload(&output, &adapter, dtype, &base, &tokens, PRODUCTS).unwrap();
        println!("{dtype}: {reloaded:?}");
        assert!(reloaded.holds() && (reloaded.rounding == 0.0) == (dtype == DType::F32), "{reloaded:?}");
        let none = fresh(&base.model.shape, &Fresh { rslora, ..wanted }).unwrap();
        let idle = reload(&output, &none, dtype, &base, &tokens, PRODUCTS).unwrap();
        assert!(!idle.holds() && idle.off > 0.0);

        for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            let copied = std::fs::read(output.join(name)).unwrap();
            assert_eq!(copied, std::fs::read(fixture("tiny-orders").join(name)).unwrap(), "{name}");
        }
        assert_eq!(std::fs::read(output.join("run.yaml")).unwrap(), b"lr: 2e-4\n");
        let record = record(&output);
        assert_eq!((record.verb.as_str(), record.parents.len()), ("train", 1));
        let parent = &record.parents[0];
        assert_eq!((parent.role, parent.name.as_str()), (Role::Base, "tiny-orders"));
        assert_eq!(parent.weights.as_ref(), Some(&base.weights));
        let form = parent.trained_as.as_ref().unwrap();
        assert_eq!((form.quant.as_str(), &form.weights), ("nf4", &base.trained_on));
    }
    let config = std::fs::read_to_string(output.join("adapter_config.json")).unwrap();
    insta::assert_snapshot!(config, @r#"
    {
      "base_model_name_or_path": "tiny-orders",
      "bias": "none",
      "fan_in_fan_out": false,
      "inference_mode": true,
      "init_lora_weights": true,
      "lora_alpha": 9,
      "lora_dropout": 0.05,
      "modules_to_save": null,
      "peft_type": "LORA",
      "r": 6,
      "target_modules": [
        "model.layers.0.mlp.down_proj",
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.self_attn.k_proj",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.2.mlp.down_proj",
        "model.layers.2.mlp.gate_proj",
        "model.layers.2.mlp.up_proj",
        "model.layers.2.self_attn.k_proj",
        "model.layers.2.self_attn.o_proj",
        "model.layers.2.self_attn.q_proj",
        "model.layers.2.self_attn.v_proj",
        "model.layers.3.mlp.down_proj",
        "model.layers.3.mlp.gate_proj",
        "model.layers.3.mlp.up_proj",
        "model.layers.3.self_attn.k_proj",
        "model.layers.3.self_attn.o_proj",
        "model.layers.3.self_attn.q_proj",
        "model.layers.3.self_attn.v_proj"
      ],
      "task_type": "CAUSAL_LM",
      "use_rslora": false
    }
    "#);
    let card = std::fs::read_to_string(output.join("README.md")).unwrap();
    insta::assert_snapshot!(card, @r#"
    ---
    base_model_relation: adapter
    library_name: peft
    tags:
    - lora
    - lorakit
    ---

    <!-- lorakit: begin. This section is written by lorakit and replaced by its next run. -->
    # LoRA adapter for `tiny-orders`

    Made with [lorakit](https://github.com/lorakit/lorakit): trained on `tiny-orders` as nf4 (lr 0.0002).

    | | |
    |---|---|
    | Base model | `tiny-orders` |
    | Rank | 6 |
    | Scale (alpha / rank) | 1.5 |
    | Modules | 21 |
    | Values in factors | 43,776 |
    | Size | 93.2 kB |
    | Stored as | F16 |

    To load it:

    ```python
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = "tiny-orders"
    adapter = "."  # this folder, or the repository that holds it
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    tokenizer = AutoTokenizer.from_pretrained(base)
    ```
    <!-- lorakit: end -->
    "#);
}

#[test]
fn a_refinement_names_its_parent() {
    let temporary = tempfile::tempdir().unwrap();
    let base = base("tiny-orders", Quant::Bf16);
    let (first, second) = (temporary.path().join("first"), temporary.path().join("second"));
    write(&trained(&base, &usual()), &base, &written(&first, &base, DType::BF16), 1, &Silent).unwrap();
    let (parent, adapter) = read(&first, &base).unwrap();
    let step = step(&base, Some(&parent), Lineage::default(), &Silent).unwrap();
    write(&adapter, &base, &Written { step, ..written(&second, &base, DType::BF16) }, 1, &Silent).unwrap();
    let record = record(&second);
    let parent = &record.parents[1];
    assert_eq!((parent.role, parent.name.as_str()), (Role::Adapter, "first"));
    assert!(parent.weights.is_some() && parent.lineage.is_some() && parent.sha256.len() == 1);
    let text = std::fs::read_to_string(second.join("README.md")).unwrap();
    let made = text.lines().find(|line| line.starts_with("Made with")).unwrap_or_default();
    insta::assert_snapshot!(made, @"Made with [lorakit](https://github.com/lorakit/lorakit): trained on `tiny-orders` as bf16, starting from the adapter `first`.");
}

#[test]
fn an_output_that_is_there_is_not_replaced() {
    let temporary = tempfile::tempdir().unwrap();
    let base = base("tiny-orders", Quant::Keep);
    let output = temporary.path().join("out");
    let adapter = trained(&base, &usual());
    let options = written(&output, &base, DType::BF16);
    write(&adapter, &base, &options, 1, &Silent).unwrap();
    let error = write(&adapter, &base, &options, 1, &Silent).unwrap_err();
    insta::assert_snapshot!(told(&error), @"Exists: exists");
    let nothing = Adapter::none(&base.model.shape);
    insta::assert_snapshot!(told(&write(&nothing, &base, &options, 1, &Silent).unwrap_err()), @"Damaged: has no factors, so there is nothing to save");
    let mut broken = adapter.clone();
    broken.layers[1][2].as_mut().unwrap().b[3] = f32::NAN;
    let options = Written { output: temporary.path().join("other"), ..options };
    insta::assert_snapshot!(told(&write(&broken, &base, &options, 1, &Silent).unwrap_err()), @"NonFinite: comes to NaN at row 0, column 3 when it is computed");
    assert!(!options.output.exists());
}

#[test]
fn only_products_on_linears_are_trained() {
    let refused = |base_name: &str, adapter: &str| {
        let base = base(&format!("golden/peft/bases/{base_name}"), Quant::Keep);
        let error = read(&fixture(&format!("golden/peft/adapters/{adapter}")), &base)
            .map(drop)
            .expect_err("it is refused");
        let text = told(&error);
        text.lines().take(3).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(refused("llama-bf16", "dora"), @r"
    Unsupported: 14 of 14 parts of the adapter are not products of factors on whole weights, and only these are trained
        model.layers.0.mlp.down_proj  uses DoRA
        model.layers.0.mlp.gate_proj  uses DoRA
    ");
    insta::assert_snapshot!(refused("llama-bf16", "modules-to-save"), @r"
    Unsupported: 6 of 8 parts of the adapter are not products of factors on whole weights, and only these are trained
        base_model.model.lm_head.weight  is saved whole
        base_model.model.model.layers.0.input_layernorm.weight  is saved whole
    ");
    insta::assert_snapshot!(refused("llama-bf16", "token-indices"), @r"
    Unsupported: 1 of 3 parts of the adapter are not products of factors on whole weights, and only these are trained
        model.embed_tokens  replaces rows of tokens
    ");
    insta::assert_snapshot!(refused("llama-tied-bf16", "tied-embed"), @r"
    Unsupported: 2 of 4 parts of the adapter are not products of factors on whole weights, and only these are trained
        model.embed_tokens  is saved whole
        model.embed_tokens  changes `model.embed_tokens.weight`, which another part changes too
    ");
    insta::assert_snapshot!(refused("qwen2-bf16", "plain"), @r"
    Shape: does not fit the base model: 14 of 14 parts of the adapter differ in shape
        model.layers.0.mlp.down_proj  base [96, 160], adapter [128, 192]
        model.layers.0.mlp.gate_proj  base [160, 96], adapter [192, 128]
    ");
    let missing =
        read(&fixture("golden"), &base("tiny-orders", Quant::Keep)).map(drop).expect_err("it is refused");
    assert_eq!(missing.kind(), lorakit::ErrorKind::NoAdapter);
}

/// What an adapter learned is for the form of the base that it was trained on.
#[test]
fn a_merge_says_that_the_base_has_another_form() {
    let temporary = tempfile::tempdir().unwrap();
    let notes = |quant: Quant, name: &str| {
        let output = temporary.path().join(name);
        let base = base("tiny-orders", quant);
        write(&trained(&base, &usual()), &base, &written(&output, &base, DType::BF16), 1, &Silent).unwrap();
        let sum = Sum::new(fixture("tiny-orders"), [(output, 1.0)]);
        let merge = merge::plan(&MergeOptions::new(sum, temporary.path().join("merged")), &Silent).unwrap();
        let notes = merge.notes.iter().filter(|note| note.code == "other-form");
        notes.map(|note| note.message.clone()).collect::<String>()
    };
    insta::assert_snapshot!(notes(Quant::Nf4 { double: true }, "nf4"), @"was trained on `tiny-orders` as nf4, and this base is stored as bf16: what it learned makes up for the rounding of that form, which the merged model does not have");
    assert_eq!(notes(Quant::Keep, "keep"), "");
    assert_eq!(notes(Quant::Bf16, "bf16"), "");
}

/// `tiny-json-lora` was trained on the weights in bf16.
#[test]
fn orders_are_answered_as_by_the_peer() {
    let answered = |quant: Quant| {
        let base = base("tiny-orders", quant);
        let (_, adapter) = read(&fixture("tiny-json-lora"), &base).unwrap();
        let text = Text::of(base.opened().folder(), &|name| base.text.read(name)).unwrap();
        let rows = std::fs::read_to_string(fixture("tiny-json/heldout.jsonl")).unwrap();
        let right = |row: &&str| {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let messages = row["messages"].as_array().unwrap();
            let prompt = text.prompt(&messages[..1], None).unwrap();
            let answer = base.model.greedy(&adapter, &prompt, &text.ends, 80, PRODUCTS);
            text.tokenizer.decode(&answer, true).unwrap() == messages[1]["content"].as_str().unwrap()
        };
        (rows.lines().filter(right).count(), rows.lines().count())
    };
    assert_eq!(answered(Quant::Bf16), (60, 60));
    assert_eq!(answered(Quant::Nf4 { double: true }), (43, 60));
}

/// Ranks and alphas that differ from module to module.
#[test]
fn each_module_has_its_own_scale() {
    let base = base("golden/peft/bases/llama-bf16", Quant::Keep);
    let (opened, adapter) = read(&fixture("golden/peft/adapters/patterns"), &base).unwrap();
    let mut scales: Vec<f64> = adapter.layers.iter().flatten().flatten().map(|lora| lora.scale).collect();
    scales.sort_by(f64::total_cmp);
    scales.dedup();
    assert!(scales.len() > 1, "{scales:?}");
    let mut expected: Vec<f64> = opened.modules.iter().map(|module| module.scale(module.rank())).collect();
    expected.sort_by(f64::total_cmp);
    expected.dedup();
    assert_eq!(scales, expected);
}
