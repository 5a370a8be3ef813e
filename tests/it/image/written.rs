//! What is read from a file without a configuration, and what is written again. That diffusers loads it is shown by
//! `tests/peers/diffusers_loads.py`.

use super::{PEFT, factors, file};
use crate::support::Sandbox;
use crate::weights::read_file;

/// A layer's name, outputs and inputs.
type Layer = (&'static str, usize, usize);

fn adapter(sandbox: &Sandbox, prefix: &str, layers: &[Layer], parts: [&str; 2]) -> std::path::PathBuf {
    let of = |(name, out, inputs): &Layer| factors(&format!("{prefix}{name}"), *out, *inputs, parts);
    file(sandbox, "a.safetensors", layers.iter().flat_map(of))
}

/// The modules of what `verb` writes, by their names in the file.
fn written(sandbox: &Sandbox, verb: &str) -> Vec<String> {
    sandbox.run(&format!("{verb} --force"), &[]).ok();
    let names = read_file(&sandbox.path("out/pytorch_lora_weights.safetensors"));
    names.keys().filter_map(|name| name.strip_suffix(".lora_A.weight")).map(str::to_string).collect()
}

const DIFFUSERS: &str = "convert a.safetensors -o out --to diffusers";

#[test]
fn flux_2_keeps_its_names() {
    let sandbox = Sandbox::new();
    let layers: &[Layer] = &[
        ("single_transformer_blocks.0.attn.to_out", 4, 16),
        ("single_transformer_blocks.0.attn.to_qkv_mlp_proj", 36, 4),
        ("transformer_blocks.0.attn.to_k", 4, 4),
        ("transformer_blocks.0.ff.linear_in", 24, 4),
    ];
    adapter(&sandbox, "transformer.", layers, PEFT);
    let names: Vec<String> = layers.iter().map(|(name, ..)| format!("transformer.{name}")).collect();
    for verb in
        [DIFFUSERS, "reduce a.safetensors -o out --rank 1", "combine a.safetensors=0.5 -o out --method svd"]
    {
        assert_eq!(written(&sandbox, verb), names, "{verb}");
    }
}

/// The names of double blocks are those of Flux.1, and their sizes are not.
#[test]
fn flux_2_is_told_from_flux_1_by_sizes() {
    let sandbox = Sandbox::new();
    let blocks: &[Layer] = &[
        ("double_blocks.0.img_attn.proj", 4, 4),
        ("double_blocks.0.img_attn.qkv", 12, 4),
        ("double_blocks.0.img_mlp.0", 24, 4),
        ("double_blocks.0.img_mlp.2", 4, 12),
    ];
    adapter(&sandbox, "diffusion_model.", blocks, PEFT);
    let names = |ends: &[&str]| {
        ends.iter().map(|end| format!("transformer.transformer_blocks.0.{end}")).collect::<Vec<_>>()
    };
    let attention = ["attn.to_k", "attn.to_out.0", "attn.to_q", "attn.to_v"];
    assert_eq!(
        written(&sandbox, DIFFUSERS),
        names(&[&attention[..], &["ff.linear_in", "ff.linear_out"]].concat())
    );
    let blocks =
        [blocks[0], blocks[1], ("double_blocks.0.img_mlp.0", 16, 4), ("double_blocks.0.img_mlp.2", 4, 16)];
    adapter(&sandbox, "diffusion_model.", &blocks, PEFT);
    assert_eq!(
        written(&sandbox, DIFFUSERS),
        names(&[&attention[..], &["ff.net.0.proj", "ff.net.2"]].concat())
    );
}

#[test]
fn hunyuan_video_has_names_of_its_own() {
    let sandbox = Sandbox::new();
    let layers: &[Layer] = &[
        ("double_blocks.0.img_attn_proj", 4, 4),
        ("double_blocks.0.img_attn_qkv", 12, 4),
        ("double_blocks.0.img_mlp.fc1", 16, 4),
        ("single_blocks.0.linear1", 28, 4),
    ];
    adapter(&sandbox, "diffusion_model.", layers, PEFT);
    let (double, single) = ("transformer.transformer_blocks.0", "transformer.single_transformer_blocks.0");
    let names: Vec<String> =
        ["attn.to_k", "attn.to_q", "attn.to_v", "proj_mlp"].map(|n| format!("{single}.{n}")).into();
    let more = ["attn.to_k", "attn.to_out.0", "attn.to_q", "attn.to_v", "ff.net.0.proj"];
    assert_eq!(
        written(&sandbox, DIFFUSERS),
        names.into_iter().chain(more.map(|n| format!("{double}.{n}"))).collect::<Vec<_>>()
    );
}

/// Dotted names that no list has, and sizes that contradict the lists: the names of the file.
#[test]
fn other_models_keep_their_names() {
    let sandbox = Sandbox::new();
    let cases: [[Layer; 2]; 2] = [
        [("net.stages.0.mixer.to_out", 4, 4), ("net.stages.0.mixer.up", 8, 4)],
        [("double_blocks.0.img_attn.qkv", 12, 4), ("double_blocks.0.img_mlp.0", 20, 4)],
    ];
    for layers in cases {
        adapter(&sandbox, "diffusion_model.", &layers, PEFT);
        let names: Vec<String> = layers.iter().map(|(name, ..)| format!("diffusion_model.{name}")).collect();
        for verb in [
            DIFFUSERS,
            "reduce a.safetensors -o out --rank 1",
            "combine a.safetensors=0.5 -o out --method svd",
        ] {
            assert_eq!(written(&sandbox, verb), names, "{verb}");
        }
        let shown = sandbox.run("inspect a.safetensors --norms --json", &[]).ok().stdout;
        assert!(shown.contains(&names[0]) && !shown.contains("\"severity\": \"error\""), "{shown}");
    }
}

/// Without a configuration, only an image model says that alpha is the rank.
#[test]
fn without_a_configuration_alpha_is_the_rank() {
    let sandbox = Sandbox::new();
    let diffsynth = ["lora_A.default.weight", "lora_B.default.weight"];
    for (prefix, layer, parts) in [
        ("", ("blocks.0.self_attn.q", 4, 4), diffsynth),
        ("", ("layers.0.attention.to_q", 4, 4), diffsynth),
        ("base_model.model.", ("double_blocks.0.img_attn.qkv", 12, 4), PEFT),
        ("diffusion_model.", ("net.stages.0.up", 4, 4), PEFT),
        ("transformer.", ("transformer_blocks.0.attn.to_q", 4, 4), PEFT),
    ] {
        adapter(&sandbox, prefix, &[layer], parts);
        let shown = sandbox.run("inspect a.safetensors", &[]).ok().stdout;
        assert!(shown.contains("  scale         1\n") && shown.contains("the file has no alpha"), "{shown}");
    }
    for (prefix, layer) in [
        ("base_model.model.", ("model.layers.0.self_attn.q_proj", 4, 4)),
        ("", ("model.layers.0.self_attn.q_proj", 4, 4)),
    ] {
        adapter(&sandbox, prefix, &[layer], PEFT);
        assert!(sandbox.refused("inspect a.safetensors").contains("holds no adapter"), "{prefix}");
    }
}

/// Flux.1 and HunyuanVideo share names in diffusers, and have others in kohya's format.
#[test]
fn shared_names_are_not_guessed() {
    let sandbox = Sandbox::new();
    let mlp = ("transformer_blocks.3.ff.net.0.proj", 16, 4);
    adapter(&sandbox, "transformer.", &[mlp], PEFT);
    insta::assert_snapshot!(sandbox.refused("convert a.safetensors -o k.safetensors --to kohya"), @r"
    exit 1
    error: `a.safetensors`: holds modules that are layers of Flux.1 and of HunyuanVideo, whose names in kohya's format differ; nothing tells which is meant

    hint: merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`
    ");
    let kohya = |layers: &[Layer], prefix: &str| -> Vec<String> {
        adapter(&sandbox, prefix, layers, PEFT);
        sandbox.run("convert a.safetensors -o k.safetensors --to kohya --force", &[]).ok();
        let names = read_file(&sandbox.path("k.safetensors"));
        names.keys().filter_map(|name| name.strip_suffix(".alpha")).map(str::to_string).collect()
    };
    // The last block of Flux.1, a block that it does not have, and the original names tell.
    let flux = kohya(&[mlp, ("transformer_blocks.18.attn.to_q", 4, 4)], "transformer.");
    assert_eq!(flux, ["lora_unet_double_blocks_18_img_attn_qkv", "lora_unet_double_blocks_3_img_mlp_0"]);
    let hunyuan = kohya(&[mlp, ("transformer_blocks.19.attn.to_q", 4, 4)], "transformer.");
    assert_eq!(hunyuan, ["lora_unet_double_blocks_19_img_attn_qkv", "lora_unet_double_blocks_3_img_mlp_fc1"]);
    let published = kohya(&[("double_blocks.3.img_mlp.fc1", 16, 4)], "diffusion_model.");
    assert_eq!(published, ["lora_unet_double_blocks_3_img_mlp_fc1"]);
    // What was known stays known in diffusers' format.
    sandbox.run("convert a.safetensors -o d --to diffusers", &[]).ok();
    sandbox.run("convert d -o k.safetensors --to kohya --force", &[]).ok();
    assert!(
        read_file(&sandbox.path("k.safetensors")).contains_key("lora_unet_double_blocks_3_img_mlp_fc1.alpha")
    );
    // So does the base.
    let base = file(
        &sandbox,
        "hunyuan.safetensors",
        [super::tensor("double_blocks.3.img_mlp.fc1.weight", &[16, 4])],
    );
    adapter(&sandbox, "transformer.", &[mlp], PEFT);
    assert_eq!(super::added(&sandbox, &base, &sandbox.path("a.safetensors"), "").len(), 1);
}
