use super::*;
use crate::model::rope::Scaling;
use crate::model::testing::golden_json;

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96,
    "num_hidden_layers": 2, "vocab_size": 10, "rms_norm_eps": 1e-5, "hidden_act": "silu""#;

fn read(text: &str) -> Result<Shape> {
    Shape::from_config(text.as_bytes())
}

#[test]
fn older_keys_mean_the_same() {
    let older = r#", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}"#;
    let newer = r#", "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}"#;
    let (older, newer) =
        (read(&format!("{LLAMA}{older}")).unwrap(), read(&format!("{LLAMA}{newer}")).unwrap());
    assert_eq!(older, newer);
    assert_eq!(older.ropes[0].scaling, Scaling::Linear { factor: 2.0 });
    assert_eq!((older.kv_heads, older.head_dim, older.tied), (4, 16, false));
}

#[test]
fn gemma_has_five_sliding_layers_before_a_full_one() {
    let text = r#"{"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 64, "head_dim": 32,
        "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 96, "num_hidden_layers": 7,
        "vocab_size": 10, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 512,
        "query_pre_attn_scalar": 256, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}}}"#;
    let shape = read(text).unwrap();
    let windows: Vec<_> = shape.layers.iter().map(|layer| (layer.window, layer.rope)).collect();
    let (sliding, full) = ((Some(512), Some(1)), (None, Some(0)));
    assert_eq!(windows, [sliding, sliding, sliding, sliding, sliding, full, sliding]);
    assert_eq!(shape.ropes[0].scaling, Scaling::Linear { factor: 8.0 });
    assert_eq!((shape.ropes[1].theta, &shape.ropes[1].scaling), (1e4, &Scaling::None));
    assert_eq!((shape.embedding_scale, shape.score_scale, shape.tied), (8.0, 1.0 / 16.0, true));
}

#[test]
fn what_is_not_known_is_refused() {
    let refused = |rest: &str| read(&format!("{LLAMA}{rest}")).unwrap_err().to_string();
    let known = "the known values are default, linear, dynamic, llama3, yarn";
    let longrope = refused(r#", "rope_parameters": {"rope_type": "longrope"}}"#);
    assert_eq!(longrope, format!("`rope_type` is longrope, which is not trained; {known}"));
    let heads = refused(r#", "num_key_value_heads": 3}"#);
    assert_eq!(heads, "`num_attention_heads` is 4; it must be a multiple of 3");
    assert!(
        refused(r#", "partial_rotary_factor": 0.5, "rope_scaling": {"type": "default"}}"#).contains("0.5")
    );
    let many = LLAMA.replace(r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 100000"#);
    let many = read(&format!("{many}}}")).unwrap_err().to_string();
    assert_eq!(many, "`num_hidden_layers` is 100000; it must be at most 65536");
    assert!(read(r#"{"model_type": "gpt2"}"#).unwrap_err().to_string().contains("`gpt2`"));
}

#[test]
fn frequencies_are_those_of_transformers() {
    for case in golden_json("rope").as_array().unwrap() {
        let parameters = &case["rope_parameters"];
        let rest = format!(
            r#", "head_dim": 64, "max_position_embeddings": {}, "rope_parameters": {parameters}}}"#,
            case["max_position_embeddings"]
        );
        let rope = &read(&format!("{LLAMA}{rest}")).unwrap().ropes[0];
        let found = rope.frequencies(64, case["length"].as_u64().unwrap() as usize);
        let expected = case["frequencies"].as_array().unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let expected = expected.as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < 2e-6, "{parameters}: {found} is not {expected}");
        }
        let factor = match rope.scaling {
            Scaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        };
        assert!(
            (factor - case["attention_factor"].as_f64().unwrap()).abs() < 1e-12,
            "{parameters}: {factor}"
        );
    }
}
