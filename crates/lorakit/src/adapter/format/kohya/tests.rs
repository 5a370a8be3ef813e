use lorakit_tensor::DType;
use sha2::{Digest, Sha256};

use super::super::testing::{Folder, Stored, lora, mixed, read, stored, strings};
use crate::ErrorKind;
use crate::adapter::Scaling;

fn concat(modules: &[Vec<Stored>]) -> Vec<Stored> {
    modules.iter().flatten().cloned().collect()
}

/// Through diffusers and back: nothing is multiplied, so every tensor must come back as it was stored.
fn comes_back(folder: &Folder, tensors: &[Stored], metadata: &[(&str, &str)]) {
    let file = folder.file("kohya.safetensors", metadata, tensors);
    let middle = folder.convert(&file, "middle", "diffusers", None).unwrap();
    let back = folder.convert(&middle, "back.safetensors", "kohya", None).unwrap();
    let (before, after) = (stored(&file), stored(&back));
    assert_eq!(names(&before), names(&after));
    assert!(before == after);
    let (before, after) = (strings(&file), strings(&back));
    assert!(before.iter().all(|(key, value)| after.get(key) == Some(value)), "{after:?}");
}

fn names<T, U, V>(tensors: &[(String, T, U, V)]) -> Vec<&str> {
    tensors.iter().map(|t| t.0.as_str()).collect()
}

#[test]
fn sd15_is_read() {
    let folder = Folder::new();
    let conv = "lora_unet_down_blocks_0_resnets_1_conv2";
    let file = folder.file(
        "sd.safetensors",
        &[("ss_output_name", "mine")],
        &concat(&[
            lora("lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj", 6, 4, 2, Some(1.0)),
            lora("lora_te_text_model_encoder_layers_11_self_attn_q_proj", 4, 4, 2, None),
            lora("lora_te_text_model_encoder_layers_2_mlp_fc1", 4, 4, 2, Some(0.0)),
            vec![
                (format!("{conv}.lora_down.weight"), DType::F16, vec![2, 3, 3, 3], mixed(54, 1)),
                (format!("{conv}.lora_up.weight"), DType::F16, vec![5, 2, 1, 1], mixed(10, 2)),
                (format!("{conv}.dora_scale"), DType::F32, vec![5, 1, 1, 1], mixed(5, 3)),
            ],
            lora("lora_unet_mid_block_attentions_0_proj_in", 4, 4, 2, Some(2.0)),
        ]),
    );
    let adapter = read(&file, None).unwrap();
    // One module has no alpha, which is noted.
    assert_eq!((adapter.format, adapter.findings.len()), ("kohya", 1));
    assert_eq!(adapter.metadata["ss_output_name"], "mine");
    let modules: Vec<_> =
        adapter.modules.iter().map(|m| (m.path.as_str(), m.scale(2), m.a.info().shape.len())).collect();
    assert_eq!(
        modules,
        [
            ("text_encoder.text_model.encoder.layers.2.mlp.fc1", 1.0, 2),
            ("text_encoder.text_model.encoder.layers.11.self_attn.q_proj", 1.0, 2),
            ("unet.down_blocks.0.resnets.1.conv2", 1.0, 4),
            ("unet.mid_block.attentions.0.proj_in", 1.0, 4),
            ("unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj", 0.5, 2),
        ]
    );
    assert_eq!(adapter.modules[2].magnitude.as_ref().unwrap().info().shape, [1, 5, 1, 1]);
    assert_eq!(adapter.modules[4].scaling, Scaling::Alpha(1.0));
}

#[test]
fn every_model_comes_back_bit_for_bit() {
    let models = [
        concat(&[
            lora(
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
                4,
                4,
                2,
                Some(2.0),
            ),
            lora("lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn2_to_k", 4, 6, 4, Some(4.0)),
            lora("lora_te_text_model_encoder_layers_0_mlp_fc1", 8, 4, 2, Some(2.0)),
        ]),
        concat(&[
            lora("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q", 4, 4, 2, Some(2.0)),
            lora("lora_unet_output_blocks_0_1_proj_in", 4, 4, 2, Some(2.0)),
            lora("lora_unet_middle_block_1_transformer_blocks_9_ff_net_2", 4, 8, 2, Some(2.0)),
            lora("lora_te1_text_model_encoder_layers_11_self_attn_out_proj", 4, 4, 2, Some(2.0)),
            lora("lora_te2_text_model_encoder_layers_31_self_attn_out_proj", 4, 4, 2, Some(2.0)),
        ]),
        concat(&[
            lora("lora_unet_double_blocks_0_img_attn_qkv", 12, 4, 2, Some(2.0)),
            lora("lora_unet_double_blocks_18_txt_attn_proj", 4, 4, 2, Some(2.0)),
            lora("lora_unet_single_blocks_37_linear1", 28, 4, 2, Some(2.0)),
            lora("lora_unet_single_blocks_37_linear2", 4, 20, 2, Some(2.0)),
            lora("lora_unet_final_layer_adaLN_modulation_1", 8, 4, 2, Some(2.0)),
            lora("lora_te1_text_model_encoder_layers_3_mlp_fc2", 4, 8, 2, Some(2.0)),
            lora("lora_te3_encoder_block_23_layer_1_DenseReluDense_wi_0", 8, 4, 2, Some(2.0)),
        ]),
        lora("lora_unet_blocks_39_cross_attn_k_img", 4, 4, 2, Some(2.0)),
        lora("lora_unet_transformer_blocks_59_img_mlp_net_0_proj", 4, 4, 2, Some(2.0)),
    ];
    for tensors in models {
        comes_back(&Folder::new(), &tensors, &[("ss_learning_rate", "1e-4"), ("modelspec.title", "a title")]);
    }
}

#[test]
fn alphas_and_magnitudes_stay() {
    let folder = Folder::new();
    let name = "lora_unet_input_blocks_8_1_transformer_blocks_3_attn1_to_q";
    let mut tensors = lora(name, 4, 4, 2, Some(1.5));
    tensors.push((format!("{name}.dora_scale"), DType::F32, vec![4, 1], mixed(4, 3)));
    // 1/3 is not an F16 number.
    tensors.extend(lora("lora_unet_input_blocks_8_1_proj_in", 4, 4, 2, None));
    tensors.push(("lora_unet_input_blocks_8_1_proj_in.alpha".into(), DType::F32, vec![], vec![1.0 / 3.0]));
    let file = folder.file("x.safetensors", &[], &tensors);
    let again = folder.convert(&file, "y.safetensors", "kohya", None).unwrap();
    assert!(stored(&file) == stored(&again));
    let strings = strings(&again);
    assert_eq!(strings["ss_base_model_version"], "sdxl_base_v1-0");
    assert_eq!(
        (strings["ss_network_module"].as_str(), strings["ss_network_dim"].as_str()),
        ("networks.lora", "2")
    );
}

#[test]
fn fused_layers_of_flux_are_split() {
    let folder = Folder::new();
    // One diagonal block for each of q, k and v.
    let up: Vec<f32> = (0..6 * 3).map(|i| if i / 3 / 2 == i % 3 { i as f32 + 1.0 } else { 0.0 }).collect();
    let name = "lora_unet_double_blocks_3_txt_attn_qkv";
    let mut tensors = lora(name, 6, 2, 3, Some(1.0));
    tensors[1].3 = up;
    let file = folder.file("x.safetensors", &[], &tensors);
    let adapter = read(&file, None).unwrap();
    let modules: Vec<_> =
        adapter.modules.iter().map(|m| (m.path.as_str(), m.rank(), m.b.values().unwrap())).collect();
    assert_eq!(
        modules,
        [
            ("transformer.transformer_blocks.3.attn.add_k_proj", 1, vec![8.0, 11.0]),
            ("transformer.transformer_blocks.3.attn.add_q_proj", 1, vec![1.0, 4.0]),
            ("transformer.transformer_blocks.3.attn.add_v_proj", 1, vec![15.0, 18.0]),
        ]
    );
    assert!(adapter.modules.iter().all(|m| (m.scale(m.rank()) - 1.0 / 3.0).abs() < 1e-15));
    // The scale of 1/3 is not a power of two, and still the alpha comes back as the same number.
    let again = folder.convert(&file, "y.safetensors", "kohya", None).unwrap();
    assert!(stored(&file) == stored(&again));
}

#[test]
fn shift_and_scale_change_places() {
    let folder = Folder::new();
    let tensors = lora("lora_unet_final_layer_adaLN_modulation_1", 4, 3, 2, Some(2.0));
    let up = tensors[1].3.clone();
    let adapter = read(&folder.file("x.safetensors", &[], &tensors), None).unwrap();
    assert_eq!(adapter.modules[0].path, "transformer.norm_out.linear");
    assert_eq!(adapter.modules[0].b.values().unwrap(), [&up[4..], &up[..4]].concat());
    // Under diffusers' name, the rows are in diffusers' order.
    let own =
        folder.file("z.safetensors", &[], &lora("lora_transformer_norm_out_linear", 4, 3, 2, Some(2.0)));
    let own = read(&own, None).unwrap();
    assert_eq!(
        own.modules[0].b.values().unwrap(),
        lora("lora_transformer_norm_out_linear", 4, 3, 2, None)[1].3
    );
}

#[test]
fn hashes_are_those_of_sd_scripts() {
    let folder = Folder::new();
    let wide = 300_000;
    let name = "lora_unet_input_blocks_4_1_proj_in";
    let mut tensors = lora(name, 4, wide, 2, None);
    tensors.push((format!("{name}.alpha"), DType::F32, vec![], vec![1.5]));
    let metadata = [
        ("ss_tag_frequency", "{\"käse\": 3}"),
        ("modelspec.hash_sha256", "0x1234"),
        ("sshs_model_hash", "old"),
        ("other", "not counted"),
    ];
    let file = folder.file("x.safetensors", &metadata, &tensors);
    let written = folder.convert(&file, "y.safetensors", "kohya", None).unwrap();
    let strings = strings(&written);

    // What sd-scripts does: the safetensors library serialises with the `ss_` entries only.
    let bytes: Vec<_> = stored(&written);
    let dtype = |dtype| if dtype == DType::F32 { safetensors::Dtype::F32 } else { safetensors::Dtype::F16 };
    let views = bytes.iter().map(|(name, own, shape, bytes)| {
        (name.clone(), safetensors::tensor::TensorView::new(dtype(*own), shape.clone(), bytes).unwrap())
    });
    let kept = strings.iter().filter(|(key, _)| key.starts_with("ss_")).map(|(k, v)| (k.clone(), v.clone()));
    let serialised = safetensors::serialize(views, Some(kept.collect())).unwrap();
    let start = 8 + u64::from_le_bytes(serialised[..8].try_into().unwrap()) as usize;
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(strings["sshs_model_hash"], hex(&serialised[start..]));
    assert_eq!(strings["sshs_legacy_hash"], hex(&serialised[0x10_0000..0x11_0000])[..8]);
    assert_eq!(strings["modelspec.hash_sha256"], format!("0x{}", strings["sshs_model_hash"]));
    assert_eq!(strings["other"], "not counted");
}

#[test]
fn unknown_modules_are_listed() {
    let folder = Folder::new();
    let tensors = concat(&[
        lora("lora_unet_input_blocks_4_1_proj_in", 4, 4, 2, None),
        lora("lora_unet_input_blocks_44_1_proj_in", 4, 4, 2, None),
    ]);
    let error = read(&folder.file("x.safetensors", &[], &tensors), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("not layers of Stable Diffusion XL, to which 1 of 2 modules belong"));
    assert_eq!(error.detail_lines(), ["lora_unet_input_blocks_44_1_proj_in"]);
}

#[test]
fn what_is_no_lora_is_named() {
    let folder = Folder::new();
    let name = "lora_unet_conv_in";
    let one = |ending: &str| (format!("{name}{ending}"), DType::F16, vec![2], vec![1.0, 2.0]);
    let mut tensors = lora("lora_unet_conv_out", 4, 4, 2, None);
    tensors.extend([".oft_blocks", ".a1.weight", ".on_input"].map(one));
    tensors.push((format!("{name}.lora_down.weight"), DType::F16, vec![1, 2], vec![1.0, 2.0]));
    let adapter = read(&folder.file("x.safetensors", &[], &tensors), None).unwrap();
    let error = adapter.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unmergeable);
    let lines = error.detail_lines().join("\n");
    for what in ["OFT", "GLoRA", "IA3", "B is missing"] {
        assert!(lines.contains(what), "{what}: {lines}");
    }
}

#[test]
fn language_models_have_no_names_there() {
    let folder = Folder::new();
    let config = serde_json::json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "task_type": "CAUSAL_LM"});
    let a = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let b = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    let tensors: [(&str, &[usize], &[f32]); 2] = [(a, &[1, 2], &[1.0, 2.0]), (b, &[2, 1], &[1.0, 2.0])];
    let peft = folder.adapter("peft", "adapter_model.safetensors", config, &tensors);
    for format in ["kohya", "diffusers"] {
        let error = folder.plan(&peft, "out", format, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Inexpressible, "{error}");
        assert_eq!(error.detail_lines(), ["model.layers.0.self_attn.q_proj"]);
    }
}
