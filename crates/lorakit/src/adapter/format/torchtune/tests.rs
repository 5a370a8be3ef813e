use serde_json::{Value, json};

use super::super::testing::{Folder, Given, base, counted, held, json, read, tensors};
use super::*;

fn model(class: &str) -> Value {
    json!({"architectures": [class], "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
           "hidden_size": 8, "intermediate_size": 3, "tie_word_embeddings": false})
}

fn config(r: usize, alpha: f64) -> Value {
    json!({"r": r, "lora_alpha": alpha, "target_modules": ["q_proj"], "peft_type": "LORA",
           "base_model_name_or_path": "org/model"})
}

/// An adapter for q with 2 heads of 4 rows, whose `B` and magnitudes are numbered in torchtune's order.
fn query(folder: &Folder) -> std::path::PathBuf {
    let given: [Given<'_>; 3] = [
        ("layers.0.attn.q_proj.lora_a.weight", &[1, 2], &[5.0, 6.0]),
        ("layers.0.attn.q_proj.lora_b.weight", &[8, 1], &counted(8)),
        ("layers.0.attn.q_proj.magnitude", &[8], &counted(8)),
    ];
    folder.adapter("tune", "adapter_model.safetensors", config(1, 4.0), &given)
}

#[test]
fn rows_of_q_are_in_metas_order_where_the_converter_permutes() {
    let folder = Folder::new();
    let source = query(&folder);
    for class in ["LlamaForCausalLM", "MistralForCausalLM", "Gemma2ForCausalLM"] {
        let mut model = model(class);
        model["head_dim"] = 4.into();
        let adapter = read(&source, Some(&base(model.clone()))).unwrap();
        let module = &adapter.modules[0];
        assert_eq!((module.path.as_str(), module.scale(1)), ("model.layers.0.self_attn.q_proj", 4.0));
        // `view(heads, d / 2, 2).transpose(1, 2)`, as torchtune's exporter does it.
        let hf = vec![1.0, 3.0, 2.0, 4.0, 5.0, 7.0, 6.0, 8.0];
        assert_eq!(held(&module.b), (vec![8, 1], hf.clone()), "{class}");
        assert_eq!(held(module.magnitude.as_ref().unwrap()), (vec![8], hf));
        let base = folder.base(class, &model);
        let peft = folder.convert(&source, &format!("{class}-peft"), "peft", Some(&base)).unwrap();
        let again = folder.convert(&peft, &format!("{class}-again"), "torchtune", Some(&base)).unwrap();
        let file = "adapter_model.safetensors";
        assert_eq!(tensors(&again.join(file)), tensors(&source.join(file)));
        assert_eq!(
            json(&again.join("adapter_config.json")),
            config(1, 4.0).tap(|c| c["lora_alpha"] = 4.into())
        );
    }
    for class in ["Qwen2ForCausalLM", "Qwen3ForCausalLM"] {
        let adapter = read(&source, Some(&base(model(class)))).unwrap();
        assert_eq!(held(&adapter.modules[0].b).1, counted(8), "{class}");
    }
    let error = read(&source, None).unwrap().check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsBase);
    let error = read(&source, Some(&base(model("MixtralForCausalLM")))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().ends_with("which torchtune does not have"), "{error}");
}

trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for Value {}

#[test]
fn every_layer_has_its_name() {
    let folder = Folder::new();
    let names = [
        ("layers.1.attn.v_proj", "model.layers.1.self_attn.v_proj"),
        ("layers.1.attn.output_proj", "model.layers.1.self_attn.o_proj"),
        ("layers.1.mlp.w1", "model.layers.1.mlp.gate_proj"),
        ("layers.1.mlp.w2", "model.layers.1.mlp.down_proj"),
        ("layers.1.mlp.w3", "model.layers.1.mlp.up_proj"),
        ("output", "lm_head"),
    ];
    let keys: Vec<[String; 2]> =
        names.iter().map(|(own, _)| ["a", "b"].map(|half| format!("{own}.lora_{half}.weight"))).collect();
    let ones = [1.0];
    let given: Vec<Given<'_>> =
        keys.iter().flatten().map(|key| (key.as_str(), [1, 1].as_slice(), ones.as_slice())).collect();
    let source = folder.adapter("tune", "adapter_model.safetensors", config(1, 1.0), &given);
    // None of these depends on the base.
    let adapter = read(&source, None).unwrap();
    for (_, hf) in names {
        assert!(adapter.modules.iter().any(|module| module.path == hf), "{hf}");
    }
    let peft = folder.convert(&source, "peft", "peft", None).unwrap();
    let again = folder.convert(&peft, "again", "torchtune", None).unwrap();
    let file = "adapter_model.safetensors";
    assert_eq!(tensors(&again.join(file)), tensors(&source.join(file)));
}

#[test]
fn fused_layers_are_put_together_and_split() {
    let folder = Folder::new();
    let given: [Given<'_>; 6] = [
        ("layers.0.attn.q_proj.lora_a.weight", &[1, 2], &[1.0, 2.0]),
        ("layers.0.attn.q_proj.lora_b.weight", &[8, 1], &counted(8)),
        ("layers.0.attn.v_proj.lora_a.weight", &[1, 2], &[3.0, 4.0]),
        ("layers.0.attn.v_proj.lora_b.weight", &[4, 1], &counted(4)),
        ("layers.0.mlp.w2.lora_a.weight", &[1, 3], &counted(3)),
        ("layers.0.mlp.w2.lora_b.weight", &[8, 1], &counted(8)),
    ];
    let source = folder.adapter("tune", "adapter_model.safetensors", config(1, 2.0), &given);
    let model = model("Phi3ForCausalLM");
    let adapter = read(&source, Some(&base(model.clone()))).unwrap();
    let paths: Vec<_> =
        adapter.modules.iter().map(|m| (m.path.as_str(), m.rank(), m.scale(m.rank()))).collect();
    assert_eq!(
        paths,
        [("model.layers.0.mlp.down_proj", 1, 2.0), ("model.layers.0.self_attn.qkv_proj", 2, 2.0)]
    );
    let qkv = &adapter.modules[1];
    assert_eq!(held(&qkv.a), (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]));
    let b = qkv.b.values().unwrap();
    assert_eq!((b.len(), &b[14..18], &b[24..28]), (32, &[8.0, 0.0, 0.0, 0.0][..], &[0.0, 1.0, 0.0, 2.0][..]));

    let base = folder.base("phi", &model);
    let peft = folder.convert(&source, "peft", "peft", Some(&base)).unwrap();
    let written = json(&peft.join("adapter_config.json"));
    assert_eq!(written["rank_pattern"], json!({"layers\\.0\\.self_attn\\.qkv_proj": 2}));
    assert_eq!(folder.plan(&peft, "x", "torchtune", None).unwrap_err().kind(), ErrorKind::NeedsBase);
    // All three have a copy of A now: k was not adapted, so the rank cannot be divided among them.
    let again = folder.convert(&peft, "again", "torchtune", Some(&base)).unwrap();
    let written = tensors(&again.join("adapter_model.safetensors"));
    assert_eq!(written[0].1, [2, 2]);
    assert_eq!(written[1], ("layers.0.attn.k_proj.lora_b.weight".into(), vec![4, 2], vec![0.0; 8]));
}

#[test]
fn one_rank_and_one_alpha_are_for_all() {
    let folder = Folder::new();
    let peft = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "rank_pattern": {"o_proj": 1}});
    let name = |module: &str, x: &str| format!("base_model.model.model.layers.0.{module}.lora_{x}.weight");
    let source = folder.adapter(
        "peft",
        "adapter_model.safetensors",
        peft,
        &[
            (&name("self_attn.v_proj", "A"), &[2, 1], &[1.0, 2.0]),
            (&name("self_attn.v_proj", "B"), &[1, 2], &[1.0, 2.0]),
            (&name("self_attn.o_proj", "A"), &[1, 1], &[3.0]),
            (&name("self_attn.o_proj", "B"), &[1, 1], &[4.0]),
        ],
    );
    let out = folder.convert(&source, "tune", "torchtune", None).unwrap();
    let written = tensors(&out.join("adapter_model.safetensors"));
    assert_eq!(written[0], ("layers.0.attn.output_proj.lora_a.weight".into(), vec![2, 1], vec![3.0, 0.0]));
    assert_eq!((&written[1].2, &written[3].2), (&vec![4.0, 0.0], &vec![0.5, 1.0]));
    let written = json(&out.join("adapter_config.json"));
    assert_eq!((&written["r"], &written["lora_alpha"]), (&json!(2), &json!(4)));
    assert_eq!(written["target_modules"], json!(["o_proj", "v_proj"]));
    // PEFT's configuration has travelled along.
    let back = json(&folder.convert(&out, "back", "peft", None).unwrap().join("adapter_config.json"));
    assert_eq!((&back["r"], &back["peft_type"]), (&json!(2), &json!("LORA")));
}

#[test]
fn what_torchtune_lacks_is_refused() {
    let folder = Folder::new();
    let name = |module: &str, x: &str| format!("base_model.model.model.{module}.lora_{x}.weight");
    let peft = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let source = folder.adapter(
        "peft",
        "adapter_model.safetensors",
        peft,
        &[
            (&name("layers.0.mlp.gate", "A"), &[1, 1], &[1.0]),
            (&name("layers.0.mlp.gate", "B"), &[1, 1], &[1.0]),
        ],
    );
    let error = folder.plan(&source, "x", "torchtune", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inexpressible);
    assert_eq!(error.detail_lines(), ["model.layers.0.mlp.gate  no layer that torchtune adapts"]);

    let given: [Given<'_>; 3] = [
        ("layers.0.attn.q_proj.lora_a.weight", &[1, 1], &[1.0]),
        ("layers.0.attn.q_proj.lora_b.weight", &[7, 1], &[1.0; 7]),
        ("decoder.layers.0.attn.v_proj.lora_a.weight", &[1, 1], &[1.0]),
    ];
    let source = folder.adapter("odd", "adapter_model.safetensors", config(1, 1.0), &given);
    let adapter = read(&source, Some(&base(model("LlamaForCausalLM")))).unwrap();
    let faults: Vec<_> = adapter.findings.iter().map(|fault| fault.to_string()).collect();
    assert_eq!(
        faults,
        [
            "`decoder.layers.0.attn.v_proj.lora_a.weight`: is not part of a low-rank module",
            "`model.layers.0.self_attn.q_proj`: has 7 rows, which are not 2 heads of an even number of rows",
        ]
    );
    let unscaled = folder.adapter("unscaled", "adapter_model.safetensors", json!({"r": 1}), &given);
    assert_eq!(read(&unscaled, None).unwrap_err().kind(), ErrorKind::Config);
}
