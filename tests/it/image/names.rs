//! Names of the checkpoint and of the adapter.

use super::{KOHYA, PEFT, added, factors, file, product, tensor};
use crate::support::Sandbox;
use crate::weights::read_file;

/// Flux of width 4 as its makers name it, with a prefix.
fn flux(sandbox: &Sandbox, prefix: &str) -> std::path::PathBuf {
    let layers = [
        ("double_blocks.0.img_attn.qkv", 12, 4),
        ("double_blocks.0.img_attn.proj", 4, 4),
        ("single_blocks.0.linear1", 28, 4),
        ("final_layer.adaLN_modulation.1", 8, 4),
    ];
    let weight =
        |(name, out, inputs): (&str, usize, usize)| tensor(&format!("{prefix}{name}.weight"), &[out, inputs]);
    file(sandbox, "flux.safetensors", layers.map(weight))
}

/// kohya's file on the fused layers: into the published checkpoint with any prefix, and into diffusers' layers.
#[test]
fn kohya_into_flux_as_published_and_as_in_diffusers() {
    let sandbox = Sandbox::new();
    let (qkv, single) = ("lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_single_blocks_0_linear1");
    let all = [factors(qkv, 12, 4, KOHYA), factors(single, 28, 4, KOHYA)].concat();
    let adapter = file(&sandbox, "kohya.safetensors", all);
    let given = read_file(&adapter);
    let (of_qkv, of_single) = (product(&given, qkv, KOHYA).values, product(&given, single, KOHYA).values);
    for prefix in ["", "model.diffusion_model.", "diffusion_model."] {
        let base = flux(&sandbox, prefix);
        assert_eq!(
            added(&sandbox, &base, &adapter, ""),
            [
                (format!("{prefix}double_blocks.0.img_attn.qkv.weight"), of_qkv.clone()),
                (format!("{prefix}single_blocks.0.linear1.weight"), of_single.clone()),
            ]
        );
    }
    let layer = |name: &str, out| tensor(&format!("{name}.weight"), &[out, 4]);
    let (double, one) = ("transformer_blocks.0.attn", "single_transformer_blocks.0");
    let base = file(
        &sandbox,
        "diffusers.safetensors",
        [
            layer(&format!("{double}.to_q"), 4),
            layer(&format!("{double}.to_k"), 4),
            layer(&format!("{double}.to_v"), 4),
            layer(&format!("{one}.attn.to_q"), 4),
            layer(&format!("{one}.attn.to_k"), 4),
            layer(&format!("{one}.attn.to_v"), 4),
            layer(&format!("{one}.proj_mlp"), 16),
        ],
    );
    let part = |name: String, from: &[f64], row: usize, rows: usize| {
        (format!("{name}.weight"), from[row * 4..(row + rows) * 4].to_vec())
    };
    assert_eq!(
        added(&sandbox, &base, &adapter, ""),
        [
            part(format!("{one}.attn.to_k"), &of_single, 4, 4),
            part(format!("{one}.attn.to_q"), &of_single, 0, 4),
            part(format!("{one}.attn.to_v"), &of_single, 8, 4),
            part(format!("{one}.proj_mlp"), &of_single, 12, 16),
            part(format!("{double}.to_k"), &of_qkv, 4, 4),
            part(format!("{double}.to_q"), &of_qkv, 0, 4),
            part(format!("{double}.to_v"), &of_qkv, 8, 4),
        ]
    );
}

/// A bias of `B` of one of three layers is added to its third of the fused bias; weights of modules reach every part.
#[test]
fn biases_and_weights_reach_their_parts() {
    let sandbox = Sandbox::new();
    let (fused, k) = ("double_blocks.0.img_attn.qkv", "transformer.transformer_blocks.0.attn.to_k");
    let base = file(
        &sandbox,
        "flux.safetensors",
        [tensor(&format!("{fused}.weight"), &[12, 4]), tensor(&format!("{fused}.bias"), &[12])],
    );
    let bias = tensor(&format!("{k}.lora_B.bias"), &[4]);
    let values = bias.1.values();
    let adapter = file(&sandbox, "a.safetensors", factors(k, 4, 4, PEFT).into_iter().chain([bias]));
    let added_bias = added(&sandbox, &base, &adapter, "").remove(0);
    assert_eq!(added_bias, (format!("{fused}.bias"), [vec![0.0; 4], values, vec![0.0; 4]].concat()));

    let parts = ["q", "k", "v"].map(|part| format!("transformer_blocks.0.attn.to_{part}.weight"));
    let base = file(&sandbox, "diffusers.safetensors", parts.map(|name| tensor(&name, &[4, 4])));
    let kohya = factors("lora_unet_double_blocks_0_img_attn_qkv", 12, 4, KOHYA);
    let published = factors(&format!("diffusion_model.{fused}"), 12, 4, PEFT);
    // PEFT's own files keep the names of the model that was trained, and only the base says that the layer is split.
    let trained = factors(&format!("base_model.model.{fused}"), 12, 4, PEFT);
    file(&sandbox, "peft/adapter_model.safetensors", trained);
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["qkv"]}"#;
    std::fs::write(sandbox.path("peft/adapter_config.json"), config).unwrap();
    for adapter in [
        file(&sandbox, "kohya.safetensors", kohya),
        file(&sandbox, "published.safetensors", published),
        sandbox.path("peft"),
    ] {
        let whole = added(&sandbox, &base, &adapter, "");
        assert_eq!(whole.len(), 3, "{}", adapter.display());
        let half = |(name, values): (String, Vec<f64>)| (name, values.iter().map(|v| v * 0.5).collect());
        let halves: Vec<(String, Vec<f64>)> = whole.into_iter().map(half).collect();
        assert_eq!(added(&sandbox, &base, &adapter, "--weight .*=0.5"), halves);
    }
}

/// Separate layers of diffusers, each with its place in the rows of the fused one; shift and scale trade places.
#[test]
fn diffusers_into_flux_as_published() {
    let sandbox = Sandbox::new();
    let base = flux(&sandbox, "");
    let (k, mlp) =
        ("transformer.transformer_blocks.0.attn.to_k", "transformer.single_transformer_blocks.0.proj_mlp");
    let (out, norm) = ("transformer.transformer_blocks.0.attn.to_out.0", "transformer.norm_out.linear");
    let all = [
        factors(k, 4, 4, PEFT),
        factors(mlp, 16, 4, PEFT),
        factors(out, 4, 4, PEFT),
        factors(norm, 8, 4, PEFT),
    ];
    let adapter = file(&sandbox, "a.safetensors", all.concat());
    let given = read_file(&adapter);
    let of = |name| product(&given, name, PEFT).values;
    let swapped = [&of(norm)[16..], &of(norm)[..16]].concat();
    let expected = [
        ("double_blocks.0.img_attn.proj.weight".to_string(), of(out)),
        ("double_blocks.0.img_attn.qkv.weight".into(), [vec![0.0; 16], of(k), vec![0.0; 16]].concat()),
        ("final_layer.adaLN_modulation.1.weight".into(), swapped),
        ("single_blocks.0.linear1.weight".into(), [vec![0.0; 48], of(mlp)].concat()),
    ];
    assert_eq!(added(&sandbox, &base, &adapter, ""), expected);
    // Block weights and undoing are those of the modules.
    let halves = |values: &[f64]| values.iter().map(|v| v * 0.5).collect::<Vec<_>>();
    let only = added(&sandbox, &base, &adapter, "--only to_k --weight to_k=0.5");
    assert_eq!(only, [(expected[1].0.clone(), halves(&expected[1].1))]);
    let merged = sandbox.merge(&base, &adapter, "merged.safetensors", "");
    sandbox.run("merge merged.safetensors a.safetensors=-1 -o back.safetensors", &[]).ok();
    assert!(read_file(&sandbox.path("back.safetensors")) == read_file(&base));
    let verified =
        sandbox.run("verify merged.safetensors --base flux.safetensors --adapter a.safetensors", &[]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    drop(merged);
}

/// Magnitudes are norms of whole layers: fused layers take fused magnitudes, and no others.
#[test]
fn dora_needs_the_layers_of_the_base() {
    let sandbox = Sandbox::new();
    flux(&sandbox, "");
    let name = "lora_unet_double_blocks_0_img_attn_qkv";
    let magnitudes = tensor(&format!("{name}.dora_scale"), &[12, 1]);
    let fused = factors(name, 12, 4, KOHYA).into_iter().chain([magnitudes]);
    file(&sandbox, "fused.safetensors", fused);
    sandbox.run("merge flux.safetensors fused.safetensors -o merged.safetensors", &[]).ok();
    let name = "transformer.transformer_blocks.0.attn.to_k";
    let magnitudes = tensor(&format!("{name}.lora_magnitude_vector"), &[4]);
    file(&sandbox, "part.safetensors", factors(name, 4, 4, PEFT).into_iter().chain([magnitudes]));
    insta::assert_snapshot!(sandbox.refused("merge flux.safetensors part.safetensors -o out.safetensors"), @r"
    exit 1
    error: `part.safetensors`: 1 of 1 parts of the adapter cannot be merged
      transformer.transformer_blocks.0.attn.to_k  uses DoRA on a part of `double_blocks.0.img_attn.qkv.weight`, whose norms are those of whole layers

    hint: serve it beside the base with the library that trained it
    ");
}

/// Stable Diffusion 1.5: one file with all networks, a folder of diffusers with one, and adapters of both spellings.
#[test]
fn stable_diffusion_in_one_file_and_as_a_folder() {
    let sandbox = Sandbox::new();
    let block = "model.diffusion_model.input_blocks.1.1";
    let base = file(
        &sandbox,
        "sd.safetensors",
        [
            tensor(&format!("{block}.transformer_blocks.0.attn1.to_out.0.weight"), &[4, 4]),
            tensor(&format!("{block}.proj_in.weight"), &[4, 4, 1, 1]),
            tensor("model.diffusion_model.input_blocks.3.0.op.weight", &[4, 4, 3, 3]),
            tensor("cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight", &[4, 4]),
            tensor("first_stage_model.encoder.conv_in.weight", &[4, 4, 3, 3]),
        ],
    );
    let unet = "down_blocks.0.attentions.0";
    let folder = file(
        &sandbox,
        "unet/diffusion_pytorch_model.safetensors",
        [
            tensor(&format!("{unet}.transformer_blocks.0.attn1.to_out.0.weight"), &[4, 4]),
            tensor(&format!("{unet}.proj_in.weight"), &[4, 4, 1, 1]),
            tensor("down_blocks.0.downsamplers.0.conv.weight", &[4, 4, 3, 3]),
        ],
    );
    std::fs::write(sandbox.path("unet/config.json"), r#"{"_class_name": "UNet2DConditionModel"}"#).unwrap();
    let (to_out, text) = (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
    );
    let proj = "lora_unet_down_blocks_0_attentions_0_proj_in";
    let conv = "lora_unet_down_blocks_0_downsamplers_0_conv";
    let kernel = |name: &str| {
        [
            tensor(&format!("{name}.lora_down.weight"), &[2, 4, 3, 3]),
            tensor(&format!("{name}.lora_up.weight"), &[4, 2, 1, 1]),
        ]
    };
    let all =
        [factors(to_out, 4, 4, KOHYA), factors(text, 4, 4, KOHYA), factors(proj, 4, 4, KOHYA), kernel(conv)];
    let adapter = file(&sandbox, "kohya.safetensors", all.concat());
    let given = read_file(&adapter);
    let of = |name| product(&given, name, KOHYA).values;
    assert_eq!(
        added(&sandbox, &base, &adapter, ""),
        [
            ("cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight".to_string(), of(text)),
            (format!("{block}.proj_in.weight"), of(proj)),
            (format!("{block}.transformer_blocks.0.attn1.to_out.0.weight"), of(to_out)),
            ("model.diffusion_model.input_blocks.3.0.op.weight".into(), of(conv)),
        ]
    );
    assert_eq!(
        added(&sandbox, folder.parent().unwrap(), &adapter, "--only ^unet"),
        [
            (format!("{unet}.proj_in.weight"), of(proj)),
            (format!("{unet}.transformer_blocks.0.attn1.to_out.0.weight"), of(to_out)),
            ("down_blocks.0.downsamplers.0.conv.weight".into(), of(conv)),
        ]
    );
    // The file has the name that diffusers looks for, also if it is split.
    assert!(sandbox.path("out/diffusion_pytorch_model.safetensors").is_file());
    sandbox.merge(&sandbox.path("unet"), &adapter, "shards", "--only ^unet --max-shard-size 300");
    let names = crate::support::entries(&sandbox.path("shards"));
    assert!(names.contains(&"diffusion_pytorch_model.safetensors.index.json".into()), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("diffusion_pytorch_model-00001-of-")), "{names:?}");
}

/// A model of no list: dotted names are those of the checkpoint, and underscores are dots of the checkpoint's names.
#[test]
fn no_list_is_needed() {
    let sandbox = Sandbox::new();
    let layers = ["stages.0.mixer.to_out", "stages.0.mixer.in_proj"];
    let base =
        file(&sandbox, "base.safetensors", layers.map(|name| tensor(&format!("net.{name}.weight"), &[4, 4])));
    let of = |given: &crate::weights::Weights, name: &str, parts| product(given, name, parts).values;
    let dotted = layers.map(|name| format!("diffusion_model.net.{name}"));
    let adapter =
        file(&sandbox, "dotted.safetensors", dotted.iter().flat_map(|name| factors(name, 4, 4, PEFT)));
    let given = read_file(&adapter);
    let expected = |at: usize, from: &str, parts, given: &_| {
        (format!("net.{}.weight", layers[at]), of(given, from, parts))
    };
    assert_eq!(
        added(&sandbox, &base, &adapter, ""),
        [expected(1, &dotted[1], PEFT, &given), expected(0, &dotted[0], PEFT, &given)]
    );
    let under = layers.map(|name| format!("lora_unet_net_{}", name.replace('.', "_")));
    let adapter =
        file(&sandbox, "under.safetensors", under.iter().flat_map(|name| factors(name, 4, 4, KOHYA)));
    let given = read_file(&adapter);
    assert_eq!(
        added(&sandbox, &base, &adapter, ""),
        [expected(1, &under[1], KOHYA, &given), expected(0, &under[0], KOHYA, &given)]
    );
    // Without the base, nothing says where the dots are.
    assert!(sandbox.refused("inspect under.safetensors").contains("modules of no known model"));
}
