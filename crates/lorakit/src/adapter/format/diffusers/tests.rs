use lorakit_tensor::DType;
use serde_json::{Value, json};

use super::super::testing::{Folder, Stored, delta, lora, mixed, read, stored, strings, tensors};

/// Factors in diffusers' spelling.
fn factors(name: &str, out: usize, inputs: usize, r: usize) -> Vec<Stored> {
    let seed = name.len();
    vec![
        (format!("{name}.lora_A.weight"), DType::BF16, vec![r, inputs], mixed(r * inputs, seed)),
        (format!("{name}.lora_B.weight"), DType::BF16, vec![out, r], mixed(out * r, seed + 1)),
    ]
}

const TO_Q: &str = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
const FC1: &str = "text_encoder.text_model.encoder.layers.0.mlp.fc1";

#[test]
fn alphas_are_in_the_metadata_or_ranks() {
    let folder = Folder::new();
    let both = [factors(TO_Q, 4, 4, 2), factors(FC1, 4, 4, 2)].concat();
    let plain =
        read(&folder.file("a/pytorch_lora_weights.safetensors", &[("format", "pt")], &both), None).unwrap();
    let scales =
        |adapter: &crate::adapter::Adapter| adapter.modules.iter().map(|m| m.scale(2)).collect::<Vec<_>>();
    assert_eq!((plain.format, scales(&plain)), ("diffusers", vec![1.0, 1.0]));

    let metadata = json!({
        "unet.r": 2, "unet.lora_alpha": 8, "unet.rank_pattern": {}, "unet.alpha_pattern": {"to_q": 3},
        "text_encoder.r": 2, "text_encoder.lora_alpha": 4,
    });
    let metadata = metadata.to_string();
    let header = [("lora_adapter_metadata", metadata.as_str())];
    let file = folder.file("b/pytorch_lora_weights.safetensors", &header, &both);
    let scaled = read(&file, None).unwrap();
    assert_eq!(scales(&scaled), [2.0, 1.5]);
    assert!(read(&folder.file("c.safetensors", &[("lora_adapter_metadata", "[")], &both), None).is_err());

    // Nothing scales in the written file, so readers that do not know the metadata are right too.
    let written = folder.convert(&file, "out", "diffusers", None).unwrap();
    let file = written.join("pytorch_lora_weights.safetensors");
    let entry: Value = serde_json::from_str(&strings(&file)["lora_adapter_metadata"]).unwrap();
    assert_eq!((&entry["unet.lora_alpha"], &entry["unet.alpha_pattern"]), (&json!(2), &json!({})));
    assert_eq!(entry["unet.target_modules"], json!([TO_Q.strip_prefix("unet.").unwrap()]));
    let up = tensors(&file).into_iter().find(|t| t.0 == format!("{TO_Q}.lora_B.weight")).unwrap().2;
    let doubled: Vec<f32> = both[1].3.iter().map(|v| v * 1.5).collect();
    assert_eq!(up, doubled);
}

#[test]
fn ranks_may_differ() {
    let folder = Folder::new();
    let proj = "unet.down_blocks.1.attentions.0.proj_in";
    let to_k = TO_Q.replace("to_q", "to_k");
    let all =
        [factors(TO_Q, 4, 4, 2), factors(&to_k, 4, 4, 2), factors(FC1, 4, 4, 2), factors(proj, 4, 4, 3)];
    let all = all.concat();
    let file = folder.file("a/x.safetensors", &[], &all);
    let written =
        folder.convert(&file, "out", "diffusers", None).unwrap().join("pytorch_lora_weights.safetensors");
    assert!(stored(&file) == stored(&written));
    let entry: Value = serde_json::from_str(&strings(&written)["lora_adapter_metadata"]).unwrap();
    let own = json!({"^down_blocks\\.1\\.attentions\\.0\\.proj_in": 3});
    assert_eq!(
        (&entry["unet.r"], &entry["unet.rank_pattern"], &entry["unet.alpha_pattern"]),
        (&json!(2), &own, &own)
    );
    let adapter = read(&written, None).unwrap();
    assert!(
        adapter.modules.iter().all(|m| m.scale(m.rank()) == 1.0 && m.config_rank == Some(m.rank() as f64))
    );
}

#[test]
fn names_of_old_diffusers() {
    let folder = Folder::new();
    let attention = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1";
    let text = "text_encoder.text_model.encoder.layers.0";
    let pair = |down: String, up: String| {
        [(down, DType::F32, vec![1, 2], vec![1.0, 2.0]), (up, DType::F32, vec![2, 1], vec![3.0, 4.0])]
    };
    let ends = |module: &str| pair(format!("{module}.down.weight"), format!("{module}.up.weight"));
    let all = [
        ends(&format!("{attention}.processor.to_q_lora")),
        ends(&format!("{attention}.processor.to_out_lora")),
        ends(&format!("{text}.self_attn.to_k_lora")),
        ends(&format!("{text}.self_attn.to_out_lora")),
        ends(&format!("{text}.self_attn.v_proj.lora_linear_layer")),
        ends(&format!("{text}.mlp.fc1.lora_linear_layer")),
        // Without a leading component, like the oldest files.
        ends("mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_v_lora"),
    ];
    let adapter = read(&folder.file("x.safetensors", &[], &all.concat()), None).unwrap();
    let paths: Vec<&str> = adapter.modules.iter().map(|m| m.path.as_str()).collect();
    let under =
        |module: &str, ends: &[&str]| ends.iter().map(|e| format!("{module}.{e}")).collect::<Vec<_>>();
    let expected = [
        under(text, &["mlp.fc1", "self_attn.k_proj", "self_attn.out_proj", "self_attn.v_proj"]),
        under(attention, &["to_out.0", "to_q"]),
        vec!["unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v".into()],
    ];
    // That the file says no alphas is noted.
    assert_eq!((paths, adapter.findings.len()), (expected.concat().iter().map(String::as_str).collect(), 1));
}

#[test]
fn names_of_the_original_models() {
    let folder = Folder::new();
    let cases = [
        ("diffusion_model.blocks.7.self_attn.o", "transformer.blocks.7.attn1.to_out.0", 4),
        ("diffusion_model.transformer_blocks.7.txt_mod.1", "transformer.transformer_blocks.7.txt_mod.1", 4),
        ("diffusion_model.double_blocks.7.img_mlp.0", "transformer.transformer_blocks.7.ff.net.0.proj", 16),
        (
            "diffusion_model.input_blocks.7.1.transformer_blocks.9.attn2.to_v",
            "unet.down_blocks.2.attentions.0.transformer_blocks.9.attn2.to_v",
            4,
        ),
    ];
    for (name, path, out) in cases {
        let adapter = read(&folder.file("x.safetensors", &[], &factors(name, out, 4, 2)), None).unwrap();
        assert_eq!(adapter.modules[0].path, path);
        // ComfyUI's spelling with an alpha.
        let adapter =
            read(&folder.file("y.safetensors", &[], &lora(name, out, 4, 2, Some(1.0))), None).unwrap();
        assert_eq!((adapter.modules[0].path.as_str(), adapter.modules[0].scale(2)), (path, 0.5));
    }
}

#[test]
fn a_part_of_a_fused_layer_may_be_missing() {
    let folder = Folder::new();
    let name = |part: &str| format!("transformer.single_transformer_blocks.5.{part}");
    let all = [factors(&name("attn.to_q"), 4, 4, 1), factors(&name("proj_mlp"), 16, 4, 2)].concat();
    let file = folder.file("a/x.safetensors", &[], &all);
    let written = folder.convert(&file, "out.safetensors", "kohya", None).unwrap();
    let names: Vec<_> = stored(&written).into_iter().map(|t| (t.0, t.2)).collect();
    let fused = |part: &str| format!("lora_unet_single_blocks_5_linear1.{part}");
    assert_eq!(
        names,
        [
            (fused("alpha"), vec![]),
            (fused("lora_down.weight"), vec![3, 4]),
            (fused("lora_up.weight"), vec![28, 3])
        ]
    );
    let (before, after) = (read(&file, None).unwrap(), read(&written, None).unwrap());
    for module in &before.modules {
        let other = after.modules.iter().find(|m| m.path == module.path).unwrap();
        assert_eq!(delta(module), delta(other));
    }
}

#[test]
fn biases_are_scaled_too() {
    let folder = Folder::new();
    let mut all = factors(TO_Q, 4, 4, 2);
    all.push((format!("{TO_Q}.lora_B.bias"), DType::BF16, vec![4], vec![1.0, 2.0, 3.0, 4.0]));
    let header =
        [("lora_adapter_metadata", r#"{"unet.r": 2, "unet.lora_alpha": 1, "unet.lora_bias": true}"#)];
    let file = folder.file("a/x.safetensors", &header, &all);
    let written =
        folder.convert(&file, "out", "diffusers", None).unwrap().join("pytorch_lora_weights.safetensors");
    let bias = tensors(&written).into_iter().find(|t| t.0.ends_with("bias")).unwrap();
    assert_eq!(bias.2, [0.5, 1.0, 1.5, 2.0]);
    // The same path is in two models, which kohya names differently.
    let error = folder.plan(&file, "y.safetensors", "kohya", None).unwrap_err();
    assert!(
        error.to_string().contains("layers of Stable Diffusion 1.5 and of Stable Diffusion XL"),
        "{error}"
    );
}

#[test]
fn a_peft_folder_of_a_denoiser_gets_its_component() {
    let folder = Folder::new();
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1});
    let at = |part: &str| format!("base_model.model.transformer_blocks.3.attn.add_q_proj.{part}");
    let (a, b) = (at("lora_A.weight"), at("lora_B.weight"));
    let given: [(&str, &[usize], &[f32]); 2] = [(&a, &[1, 2], &[1.0, 2.0]), (&b, &[2, 1], &[1.0, 2.0])];
    let peft = folder.adapter("peft", "adapter_model.safetensors", config, &given);
    let written =
        folder.convert(&peft, "out", "diffusers", None).unwrap().join("pytorch_lora_weights.safetensors");
    assert_eq!(stored(&written)[0].0, "transformer.transformer_blocks.3.attn.add_q_proj.lora_A.weight");
}
