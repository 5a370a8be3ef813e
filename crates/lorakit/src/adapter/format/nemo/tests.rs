use super::super::testing::{Folder, Given, counted, held, json, read};
use super::*;
use crate::ErrorKind;

const LAYER: &str = "model.decoder.layers.3";

/// An adapter for modules in layer 3, whose `A`s have one row; files are recognised by their content.
fn adapter(folder: &Folder, config: &str, parts: &[(&str, usize)]) -> std::path::PathBuf {
    let names: Vec<[String; 2]> = parts
        .iter()
        .map(|(part, _)| ["in", "out"].map(|half| format!("{LAYER}.{part}.linear_{half}.weight")))
        .collect();
    let values: Vec<(Vec<f32>, [usize; 2])> =
        parts.iter().map(|(_, rows)| (counted(*rows), [*rows, 1])).collect();
    let mut given: Vec<Given<'_>> = Vec::new();
    for (name, (values, shape)) in names.iter().zip(&values) {
        given.push((&name[0], &[1, 2], &[1.0, 2.0]));
        given.push((&name[1], shape, values));
    }
    let path = folder.adapter("nemo", "model_weights.ckpt", serde_json::Value::Null, &given);
    std::fs::write(path.join(CONFIG), config).unwrap();
    path
}

const CONFIG_TEXT: &str = "num_attention_heads: 4\nnum_query_groups: 2\nactivation: fast-swiglu\n\
                           peft:\n  peft_scheme: lora\n  lora_tuning:\n    adapter_dim: 1\n    alpha: 8\n";

#[test]
fn fused_layers_come_apart() {
    let folder = Folder::new();
    let source = adapter(
        &folder,
        CONFIG_TEXT,
        &[
            ("self_attention.adapter_layer.lora_kqv_adapter", 8),
            ("self_attention.adapter_layer.lora_dense_attention_adapter", 2),
            ("mlp.adapter_layer.lora_hto4h_adapter", 4),
            ("mlp.adapter_layer.lora_4htoh_adapter", 2),
        ],
    );
    let read = read(&source, None).unwrap();
    let modules: Vec<_> =
        read.modules.iter().map(|m| (m.path.as_str(), m.scale(1), m.b.values().unwrap())).collect();
    // Two groups of two heads of one row each: q q k v, q q k v.
    let expected = [
        ("model.layers.3.mlp.down_proj", vec![1.0, 2.0]),
        ("model.layers.3.mlp.gate_proj", vec![1.0, 2.0]),
        ("model.layers.3.mlp.up_proj", vec![3.0, 4.0]),
        ("model.layers.3.self_attn.k_proj", vec![3.0, 7.0]),
        ("model.layers.3.self_attn.o_proj", vec![1.0, 2.0]),
        ("model.layers.3.self_attn.q_proj", vec![1.0, 2.0, 5.0, 6.0]),
        ("model.layers.3.self_attn.v_proj", vec![4.0, 8.0]),
    ];
    assert_eq!(modules, expected.map(|(path, b)| (path, 8.0, b)));
    assert!(read.modules.iter().all(|m| held(&m.a) == (vec![1, 2], vec![1.0, 2.0])));

    let peft = json(&folder.convert(&source, "peft", "peft", None).unwrap().join("adapter_config.json"));
    assert_eq!((&peft["r"], &peft["lora_alpha"]), (&1.into(), &8.into()));
    let error = folder.plan(&source, "x", "nemo", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn what_the_configuration_lacks_is_said() {
    let folder = Folder::new();
    let qkv = [("self_attention.adapter_layer.lora_kqv_adapter", 8)];
    let refusal = |config: &str, parts: &[(&str, usize)]| {
        let adapter = read(&adapter(&folder, config, parts), None);
        adapter.and_then(|adapter| adapter.check()).unwrap_err()
    };
    let tuning = "peft:\n  lora_tuning:\n    adapter_dim: 1\n";
    assert_eq!(refusal(tuning, &qkv).kind(), ErrorKind::NeedsBase);
    assert_eq!(refusal("num_attention_heads: 4\n", &qkv).kind(), ErrorKind::Config);
    let sharded = format!("tensor_model_parallel_size: 2\n{tuning}");
    assert_eq!(refusal(&sharded, &qkv).kind(), ErrorKind::Unsupported);
    let odd = refusal(CONFIG_TEXT, &[("self_attention.adapter_layer.lora_kqv_adapter", 7)]);
    assert_eq!(odd.kind(), ErrorKind::Damaged);
    assert!(odd.to_string().contains("has 7 rows in B"), "{odd}");
    let foreign = refusal(CONFIG_TEXT, &[("mlp.adapter_layer.lora_other_adapter", 2)]);
    assert!(foreign.to_string().contains("2 of its 2 tensors are faulty"), "{foreign}");
    std::fs::remove_file(folder.path("nemo").join(CONFIG)).unwrap();
    assert_eq!(read(&folder.path("nemo"), None).unwrap_err().kind(), ErrorKind::NoAdapter);
}

#[test]
fn parts_are_named_in_every_layout() {
    for prefix in ["layers", "model.language_model.encoder.layers", "model.module.decoder.layers"] {
        let name = format!("{prefix}.12.self_attention.adapter_layer.lora_unfused_kqv_adapter.q_adapter");
        assert_eq!(hf_name(&name).unwrap(), "model.layers.12.self_attn.q_proj");
    }
    for foreign in ["layers.x.mlp.lora_4htoh_adapter", "mlp.lora_4htoh_adapter", "layers.1.mlp.norm"] {
        assert!(hf_name(foreign).is_none(), "{foreign}");
    }
    assert!(grouped(12, Heads { query: 3, key_value: 2 }).is_none());
    assert!(grouped(12, Heads { query: 3, key_value: 0 }).is_none());
}
