use std::collections::HashSet;

use super::*;

fn model(name: &str) -> &'static DiffusionModel {
    models().iter().find(|model| model.title == name).unwrap()
}

fn named<'n>(names: &[&'n str]) -> Vec<Named<'n>> {
    names.iter().copied().map(Named::from).collect()
}

#[test]
fn every_model_has_its_layers() {
    // (model, component, layers of the original model, layers in diffusers)
    let counts = [
        ("Stable Diffusion 1.5", "unet", 391, 391),
        ("Stable Diffusion 1.5", "text_encoder", 96, 96),
        ("Stable Diffusion XL", "unet", 1050, 1050),
        ("Stable Diffusion XL", "text_encoder", 96, 96),
        ("Stable Diffusion XL", "text_encoder_2", 257, 257),
        ("Flux.1", "transformer", 314, 504),
        ("Flux.1", "text_encoder", 96, 96),
        ("Flux.1", "text_encoder_2", 168, 168),
        ("Flux.2", "transformer", 171, 203),
        ("HunyuanVideo", "transformer", 344, 548),
        ("Wan", "transformer", 770, 770),
        ("Qwen-Image", "transformer", 846, 846),
        ("Z-Image", "transformer", 276, 276),
    ];
    for (name, component, original, diffusers) in counts {
        let of = |layer: &&Layer| layer.paths[0].split('.').next() == Some(component);
        let layers: Vec<&Layer> = model(name).layers.iter().filter(of).collect();
        let paths: usize = layers.iter().map(|layer| layer.paths.len()).sum();
        assert_eq!((layers.len(), paths), (original, diffusers), "{name} {component}");
    }
}

#[test]
fn the_attention_of_sd_is_what_kohya_trains() {
    let attention = |name: &str| {
        let inside = |layer: &&Layer| {
            let path = &layer.paths[0];
            path.starts_with("unet.") && path.contains("attentions") && !path.contains(".norm")
        };
        model(name).layers.iter().filter(inside).count()
    };
    assert_eq!((attention("Stable Diffusion 1.5"), attention("Stable Diffusion XL")), (192, 722));
}

#[test]
fn no_two_layers_share_a_name() {
    for model in models() {
        let paths = || model.layers.iter().flat_map(|layer| &layer.paths);
        let kohya: HashSet<&str> = model.layers.iter().map(|layer| layer.kohya.as_str()).collect();
        assert_eq!(kohya.len(), model.layers.len(), "{}", model.title);
        assert_eq!(paths().collect::<HashSet<_>>().len(), paths().count(), "{}", model.title);
        // A name given to two layers would only lead to the later one.
        for layer in &model.layers {
            let found = model.find(&layer.kohya, Spelling::Kohya).unwrap();
            assert_eq!(found.layer.paths, layer.paths);
            for (part, path) in layer.paths.iter().enumerate() {
                let found = model.find(path, Spelling::Diffusers).unwrap();
                assert_eq!((&found.layer.kohya, found.part), (&layer.kohya, Some(part)));
            }
        }
    }
}

#[test]
fn spellings_of_a_layer() {
    let path = |model_name, name, spelling| {
        model(model_name)
            .find(name, spelling)
            .map(|found| found.layer.paths[found.part.unwrap_or(0)].as_str())
    };
    use Spelling::{Diffusers, Kohya, Original};
    let cases = [
        (
            "Stable Diffusion XL",
            "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_out_0",
            Kohya,
            "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_out.0",
        ),
        (
            "Stable Diffusion XL",
            "lora_unet_down_blocks_1_attentions_0_proj_in",
            Kohya,
            "unet.down_blocks.1.attentions.0.proj_in",
        ),
        (
            "Stable Diffusion XL",
            "lora_unet_output_blocks_5_2_conv",
            Kohya,
            "unet.up_blocks.1.upsamplers.0.conv",
        ),
        (
            "Stable Diffusion XL",
            "lora_te2_text_model_encoder_layers_31_mlp_fc1",
            Kohya,
            "text_encoder_2.text_model.encoder.layers.31.mlp.fc1",
        ),
        ("Stable Diffusion 1.5", "input_blocks.3.0.op", Original, "unet.down_blocks.0.downsamplers.0.conv"),
        ("Stable Diffusion 1.5", "output_blocks.2.1.conv", Original, "unet.up_blocks.0.upsamplers.0.conv"),
        (
            "Stable Diffusion 1.5",
            "down_blocks.0.resnets.1.conv2",
            Diffusers,
            "unet.down_blocks.0.resnets.1.conv2",
        ),
        (
            "Flux.1",
            "double_blocks.18.txt_attn.qkv",
            Original,
            "transformer.transformer_blocks.18.attn.add_q_proj",
        ),
        (
            "Flux.1",
            "lora_transformer_single_transformer_blocks_37_proj_mlp",
            Kohya,
            "transformer.single_transformer_blocks.37.proj_mlp",
        ),
        (
            "Flux.1",
            "lora_te3_encoder_block_23_layer_1_DenseReluDense_wo",
            Kohya,
            "text_encoder_2.encoder.block.23.layer.1.DenseReluDense.wo",
        ),
        ("Wan", "blocks.39.cross_attn.v_img", Original, "transformer.blocks.39.attn2.add_v_proj"),
        (
            "Qwen-Image",
            "lora_unet_transformer_blocks_59_img_mlp_net_0_proj",
            Kohya,
            "transformer.transformer_blocks.59.img_mlp.net.0.proj",
        ),
    ];
    for (model, name, spelling, expected) in cases {
        assert_eq!(path(model, name, spelling), Some(expected), "{name}");
    }
}

#[test]
fn names_decide_before_versions() {
    let of = |names: &[&str], version: Option<&str>| {
        let model = model_of(&named(names), Spelling::Kohya, version).map_err(|(model, _)| &model.title);
        model.unwrap().title.as_str()
    };
    let shared = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q";
    assert_eq!(of(&[shared], None), "Stable Diffusion 1.5");
    assert_eq!(of(&[shared], Some("sdxl_base_v1-0")), "Stable Diffusion XL");
    assert_eq!(
        of(&[shared, "lora_te_text_model_encoder_layers_0_mlp_fc1"], Some("Stable Diffusion XL")),
        "Stable Diffusion 1.5"
    );
    assert_eq!(of(&["lora_unet_transformer_blocks_0_attn_to_q"], None), "Qwen-Image");
    assert_eq!(of(&["lora_unet_single_blocks_0_linear1"], None), "Flux.1");
    assert_eq!(of(&["lora_unet_blocks_0_ffn_0"], None), "Wan");
    let (nearest, lacking) =
        model_of(&named(&[shared, "lora_unet_conv_inn"]), Spelling::Kohya, None).unwrap_err();
    assert_eq!((nearest.title.as_str(), lacking), ("Stable Diffusion 1.5", vec!["lora_unet_conv_inn"]));
}

#[test]
fn sizes_decide_where_names_do_not() {
    let of = |names: &[(&'static str, (usize, usize))]| {
        let named: Vec<Named<'_>> =
            names.iter().map(|(name, size)| Named { name, size: Some(*size) }).collect();
        model_of(&named, Spelling::Original, None).map(|model| model.title.as_str()).map_err(|e| e.1)
    };
    let (qkv, first, single) =
        ("double_blocks.0.img_attn.qkv", "double_blocks.0.img_mlp.0", "single_blocks.0.linear1");
    assert_eq!(of(&[(qkv, (192, 64)), (first, (256, 64))]), Ok("Flux.1"));
    assert_eq!(of(&[(qkv, (192, 64)), (first, (384, 64))]), Ok("Flux.2"));
    assert_eq!(of(&[(single, (448, 64))]), Ok("Flux.1"));
    assert_eq!(of(&[(single, (576, 64))]), Ok("Flux.2"));
    assert_eq!(of(&[(single, (448, 64)), ("double_blocks.0.img_mlp.fc1", (256, 64))]), Ok("HunyuanVideo"));
    // Layers of no model, or not of the same one.
    assert_eq!(of(&[(single, (500, 64))]), Err(vec![single]));
    assert_eq!(of(&[(single, (448, 64)), (first, (384, 64))]), Err(vec![first]));
}

/// `Dummy` is in `dummy.json` and in one line of the table, and nowhere else.
#[test]
fn one_more_model_is_one_file_and_one_line() {
    let names = ["lora_unet_dummy_blocks_1_attn_to_q", "lora_unet_dummy_blocks_0_attn_to_k"];
    let dummy = model_of(&named(&names), Spelling::Kohya, Some("dummy_v1")).unwrap();
    assert_eq!((dummy.title.as_str(), dummy.version.as_str()), ("Dummy", "dummy_v1"));
    assert_eq!(
        dummy.find(names[0], Spelling::Kohya).unwrap().layer.paths,
        ["transformer.dummy_blocks.1.attn.to_q"]
    );
}

#[test]
fn models_have_titles_and_versions_of_their_own() {
    let titles: HashSet<&str> = models().iter().map(|model| model.title.as_str()).collect();
    assert_eq!(titles.len(), models().len());
    for model in models() {
        let own = |version: &&String| model.version.starts_with(version.as_str());
        assert!(model.versions.iter().any(|version| own(&version)), "{}", model.title);
        assert!(model.trainer.starts_with("networks."), "{}", model.title);
    }
}
