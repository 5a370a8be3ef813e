use serde_json::json;

use super::super::testing::{Folder, base, counted, held, json, read, tensors};
use super::*;
use crate::ErrorKind;

const Q: &str = "model.layers.1.self_attn.q_proj";

fn llama(tied: bool) -> serde_json::Value {
    json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 4,
           "num_attention_heads": 2, "hidden_size": 4, "tie_word_embeddings": tied})
}

fn config(rank: usize, scale: f64) -> serde_json::Value {
    json!({"fine_tune_type": "lora", "num_layers": 3, "model": "org/name", "iters": 100,
           "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.05, "keys": ["self_attn.q_proj"]}})
}

#[test]
fn factors_are_transposed_both_ways() {
    let folder = Folder::new();
    let (a, b) = (format!("{Q}.lora_a"), format!("{Q}.lora_b"));
    let given = [(a.as_str(), [3, 2].as_slice(), counted(6)), (b.as_str(), [2, 4].as_slice(), counted(8))];
    let given: Vec<_> = given.iter().map(|(n, s, v)| (*n, *s, v.as_slice())).collect();
    let source = folder.adapter("mlx", "adapters.safetensors", config(2, 20.0), &given);

    let adapter = read(&source, None).unwrap();
    let module = &adapter.modules[0];
    assert_eq!((adapter.format, module.path.as_str(), module.scale(2)), ("mlx", Q, 20.0));
    assert_eq!(held(&module.a), (vec![2, 3], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
    assert_eq!(held(&module.b), (vec![4, 2], vec![1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0]));
    assert_eq!((adapter.config.alpha, adapter.config.base_model.as_deref()), (Some(40.0), Some("org/name")));

    let peft = folder.convert(&source, "peft", "peft", None).unwrap();
    let again = folder.convert(&peft, "again", "mlx", None).unwrap();
    let file = "adapters.safetensors";
    assert_eq!(tensors(&again.join(file)), tensors(&source.join(file)));
    // The settings that only mlx-lm knows have travelled along.
    let written = json(&again.join("adapter_config.json"));
    assert_eq!((&written["iters"], &written["num_layers"]), (&json!(100), &json!(3)));
    assert_eq!(written["lora_parameters"], config(2, 20.0)["lora_parameters"]);
}

#[test]
fn ranks_are_padded_and_scales_multiplied_in() {
    let folder = Folder::new();
    let peft = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"],
                      "rank_pattern": {"v_proj": 1}, "alpha_pattern": {"v_proj": 1}, "lora_dropout": 0.1});
    let v = "model.layers.2.self_attn.v_proj";
    let names = [Q, v].map(|m| ["A", "B"].map(|x| format!("base_model.model.{m}.lora_{x}.weight")));
    let source = folder.adapter(
        "peft",
        "adapter_model.safetensors",
        peft.clone(),
        &[
            (&names[0][0], &[2, 3], &counted(6)),
            (&names[0][1], &[2, 2], &counted(4)),
            (&names[1][0], &[1, 3], &counted(3)),
            (&names[1][1], &[2, 1], &counted(2)),
        ],
    );
    let base = folder.base("base", &llama(true));
    let convert = folder.plan(&source, "mlx", "mlx", Some(&base)).unwrap();
    assert_eq!(
        convert.output.mapped[1].how,
        ["transposed", "rank 1 padded to 2 with zeros", "lora_b times 0.5"]
    );
    let mlx = folder.convert(&source, "mlx", "mlx", Some(&base)).unwrap();
    let written = tensors(&mlx.join("adapters.safetensors"));
    assert_eq!(written[2], (format!("{v}.lora_a"), vec![3, 2], vec![1.0, 0.0, 2.0, 0.0, 3.0, 0.0]));
    assert_eq!(written[3], (format!("{v}.lora_b"), vec![2, 2], vec![0.5, 1.0, 0.0, 0.0]));
    let written = json(&mlx.join("adapter_config.json"));
    assert_eq!(
        written,
        json!({"fine_tune_type": "lora", "num_layers": 3,
               "lora_parameters": {"rank": 2, "scale": 2.0, "dropout": 0.1,
                                   "keys": ["self_attn.q_proj", "self_attn.v_proj"]}})
    );
    // PEFT's configuration comes back, except for the ranks, which are all the same now.
    let back = json(&folder.convert(&mlx, "back", "peft", None).unwrap().join("adapter_config.json"));
    assert_eq!((&back["target_modules"], &back["r"]), (&peft["target_modules"], &json!(2)));
    assert_eq!((&back["lora_alpha"], &back["alpha_pattern"]), (&json!(4), &json!({})));
}

#[test]
fn experts_are_stacked_as_they_are() {
    let folder = Folder::new();
    let stack = "model.layers.0.block_sparse_moe.switch_mlp.gate_proj";
    let (a, b) = (format!("{stack}.lora_a"), format!("{stack}.lora_b"));
    let source = folder.adapter(
        "mlx",
        "adapters.safetensors",
        config(1, 2.0),
        &[(&a, &[2, 1, 3], &counted(6)), (&b, &[2, 2, 1], &counted(4))],
    );
    let adapter = read(&source, None).unwrap();
    let paths: Vec<_> = adapter.modules.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(
        paths,
        ["model.layers.0.block_sparse_moe.experts.0.w1", "model.layers.0.block_sparse_moe.experts.1.w1"]
    );
    assert_eq!(held(&adapter.modules[1].a), (vec![1, 3], vec![4.0, 5.0, 6.0]));
    assert_eq!(held(&adapter.modules[1].b), (vec![2, 1], vec![3.0, 4.0]));
    let peft = folder.convert(&source, "peft", "peft", None).unwrap();
    let again = folder.convert(&peft, "again", "mlx", None).unwrap();
    let file = "adapters.safetensors";
    assert_eq!(tensors(&again.join(file)), tensors(&source.join(file)));

    // With different scales, and with an expert that has no factors.
    let name = |e: usize, x: &str| {
        format!("base_model.model.model.layers.0.mlp.experts.{e}.up_proj.lora_{x}.weight")
    };
    let peft =
        json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "alpha_pattern": {"experts.2.up_proj": 3}});
    let source = folder.adapter(
        "some",
        "adapter_model.safetensors",
        peft,
        &[
            (&name(0, "A"), &[1, 1], &[1.0]),
            (&name(0, "B"), &[1, 1], &[2.0]),
            (&name(2, "A"), &[1, 1], &[3.0]),
            (&name(2, "B"), &[1, 1], &[4.0]),
        ],
    );
    let error = folder.plan(&source, "stacks", "mlx", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsBase);
    let mut moe = llama(true);
    moe["architectures"] = json!(["Qwen3MoeForCausalLM"]);
    moe["num_experts"] = 4.into();
    let base = folder.base("moe", &moe);
    let mlx = folder.convert(&source, "stacks", "mlx", Some(&base)).unwrap();
    let written = tensors(&mlx.join("adapters.safetensors"));
    assert_eq!((&written[0].1, &written[0].2), (&vec![4, 1, 1], &vec![1.0, 0.0, 3.0, 0.0]));
    assert_eq!((&written[1].1, &written[1].2), (&vec![4, 1, 1], &vec![2.0, 0.0, 12.0, 0.0]));
}

#[test]
fn magnitudes_are_dora() {
    let folder = Folder::new();
    let names = ["lora_a", "lora_b", "m"].map(|part| format!("{Q}.{part}"));
    let mut dora = config(1, 1.0);
    dora["fine_tune_type"] = "dora".into();
    let given: [(&str, &[usize], &[f32]); 3] =
        [(&names[0], &[1, 1], &[1.0]), (&names[1], &[1, 2], &[2.0, 3.0]), (&names[2], &[2], &[4.0, 5.0])];
    let source = folder.adapter("mlx", "adapters.safetensors", dora, &given);
    let adapter = read(&source, None).unwrap();
    assert_eq!(held(adapter.modules[0].magnitude.as_ref().unwrap()), (vec![2], vec![4.0, 5.0]));
    assert!(adapter.config.use_dora);
    let peft = folder.convert(&source, "peft", "peft", None).unwrap();
    assert_eq!(json(&peft.join("adapter_config.json"))["use_dora"], true);
    let again = folder.convert(&peft, "again", "mlx", None).unwrap();
    let file = "adapters.safetensors";
    assert_eq!(tensors(&again.join(file)), tensors(&source.join(file)));
    assert_eq!(json(&again.join("adapter_config.json"))["fine_tune_type"], "dora");
}

#[test]
fn an_embedding_is_the_output_too_where_the_model_ties_them() {
    let folder = Folder::new();
    let names = ["lora_a", "lora_b"].map(|part| format!("model.embed_tokens.{part}"));
    let source = folder.adapter(
        "mlx",
        "adapters.safetensors",
        config(1, 1.0),
        &[(&names[0], &[3, 1], &counted(3)), (&names[1], &[1, 2], &counted(2))],
    );
    assert_eq!(read(&source, None).unwrap_err().kind(), ErrorKind::NeedsBase);
    let untied = read(&source, Some(&base(llama(false)))).unwrap();
    assert_eq!((untied.modules.len(), untied.modules[0].kind), (1, ModuleKind::Embedding));
    assert_eq!(held(&untied.modules[0].a).0, [1, 3]);
    let tied = read(&source, Some(&base(llama(true)))).unwrap();
    let head = tied.modules.iter().find(|m| m.path == "lm_head").unwrap();
    assert_eq!((tied.modules.len(), held(&head.a).0, held(&head.b).0), (2, vec![1, 2], vec![3, 1]));

    let tied = folder.base("tied", &llama(true));
    let peft = folder.convert(&source, "peft", "peft", Some(&tied)).unwrap();
    let again = folder.convert(&peft, "again", "mlx", Some(&tied)).unwrap();
    let file = "adapters.safetensors";
    assert_eq!(tensors(&again.join(file)), tensors(&source.join(file)));
    let keys = &json(&again.join("adapter_config.json"))["lora_parameters"]["keys"];
    assert_eq!(keys, &json!(["model.embed_tokens"]));

    let untied = folder.base("untied", &llama(false));
    let one = folder.convert(&source, "one", "peft", Some(&untied)).unwrap();
    assert_eq!(folder.plan(&one, "x", "mlx", None).unwrap_err().kind(), ErrorKind::NeedsBase);
    assert_eq!(folder.plan(&one, "x", "mlx", Some(&tied)).unwrap_err().kind(), ErrorKind::Inexpressible);
    folder.convert(&one, "x", "mlx", Some(&untied)).unwrap();
}

#[test]
fn configurations_before_september_2024_are_understood() {
    let folder = Folder::new();
    let names = ["lora_a", "lora_b"].map(|part| format!("{Q}.{part}"));
    let given: [(&str, &[usize], &[f32]); 2] =
        [(&names[0], &[1, 2], &[1.0, 2.0]), (&names[1], &[2, 1], &[1.0, 2.0])];
    let legacy = json!({"lora_layers": 3, "lora_parameters": {"rank": 2, "alpha": 16.0, "scale": 10.0}});
    let checkpoint = "0000100_adapters.safetensors";
    let source = folder.adapter("mlx", checkpoint, legacy, &given).join(checkpoint);
    assert_eq!(read(&source, None).unwrap().modules[0].scale(2), 80.0);
    let again = folder.convert(&source, "again", "mlx", None).unwrap();
    let written = json(&again.join("adapter_config.json"));
    let parameters = json!({"rank": 2, "scale": 80.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]});
    assert_eq!(written, json!({"fine_tune_type": "lora", "num_layers": 3, "lora_parameters": parameters}));

    // Later versions ignore alpha.
    let mut newer = config(2, 10.0);
    newer["lora_parameters"]["alpha"] = 16.into();
    let source = folder.adapter("newer", "adapters.safetensors", newer, &given);
    assert_eq!(read(&source, None).unwrap().modules[0].scale(2), 10.0);
}

#[test]
fn what_is_no_adapter_of_this_kind_is_refused() {
    let folder = Folder::new();
    let read_with = |config: serde_json::Value, name: &str| {
        let file = "adapters.safetensors";
        read(&folder.adapter("mlx", file, config, &[(name, &[1, 1], &[1.0])]), None)
    };
    let name = format!("{Q}.lora_a");
    let full = read_with(json!({"fine_tune_type": "full"}), "model.norm.weight").unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Unsupported);
    assert!(full.to_string().contains("holds whole weights of a model"), "{full}");
    assert_eq!(read_with(json!({"lora_parameters": {}}), &name).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(read_with(json!({"fine_tune_type": "x"}), &name).unwrap_err().kind(), ErrorKind::Unsupported);

    let (a, b) = (format!("{Q}.lora_a"), format!("{Q}.lora_b"));
    let (v, other) = ("model.layers.0.self_attn.v_proj.lora_b", "model.layers.0.mlp.gate_proj.lora_b");
    let given: [(&str, &[usize], &[f32]); 5] = [
        (&a, &[2, 2], &[1.0; 4]),
        (&b, &[1, 2], &[1.0; 2]),
        (v, &[1, 1], &[1.0]),
        (other, &[1, 2, 1], &[1.0; 2]),
        ("model.norm.weight", &[1], &[1.0]),
    ];
    let adapter = read(&folder.adapter("mlx", "adapters.safetensors", config(2, 1.0), &given), None).unwrap();
    let faults: Vec<_> = adapter.findings.iter().map(|f| (f.code, f.to_string())).collect();
    let expected = [
        ("foreign-tensor", "`model.norm.weight`: is not part of a low-rank module"),
        ("missing-half", "`model.layers.0.mlp.gate_proj`: has a factor B, but A is missing"),
        ("missing-half", "`model.layers.0.self_attn.v_proj`: has a factor B, but A is missing"),
        (
            "shape",
            "`model.layers.1.self_attn.q_proj`: has factors of shapes [2, 2] and [1, 2]; they must be (in, r) and (r, out)",
        ),
    ];
    assert_eq!(faults, expected.map(|(code, text)| (code, text.to_string())));
    assert_eq!(adapter.check().unwrap_err().kind(), ErrorKind::Damaged);
}
