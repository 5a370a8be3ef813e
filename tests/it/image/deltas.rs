//! Full deltas: `.diff`, `.diff_b`, `.diff_m`, `.w_norm`, `.b_norm`, as ComfyUI, LyCORIS and LightX2V write them.

use super::{KOHYA, added, factors, file, product, tensor, values};
use crate::support::Sandbox;
use crate::weights::{Tensor, read_file};

/// A block of Wan, as published.
fn wan(sandbox: &Sandbox) -> std::path::PathBuf {
    let tensors = [
        tensor("blocks.0.ffn.0.weight", &[8, 4]),
        tensor("blocks.0.ffn.0.bias", &[8]),
        tensor("blocks.0.modulation", &[1, 6, 4]),
        tensor("blocks.0.norm3.weight", &[4]),
        tensor("blocks.0.norm3.bias", &[4]),
        tensor("blocks.0.self_attn.norm_q.weight", &[4]),
        tensor("patch_embedding.weight", &[4, 2, 1, 2, 2]),
    ];
    file(sandbox, "wan.safetensors", tensors)
}

const FFN: &str = "diffusion_model.blocks.0.ffn.0";

/// An adapter with a delta of every kind; `scaled` has an alpha of half its rank.
fn adapter(sandbox: &Sandbox, name: &str, scaled: bool) -> std::path::PathBuf {
    let at = |name: &str| format!("diffusion_model.{name}");
    let mut tensors = factors(FFN, 8, 4, KOHYA).to_vec();
    tensors.extend([
        tensor(&format!("{FFN}.diff_b"), &[8]),
        tensor(&at("blocks.0.diff_m"), &[1, 6, 4]),
        tensor(&at("blocks.0.norm3.w_norm"), &[4]),
        tensor(&at("blocks.0.norm3.b_norm"), &[4]),
        tensor(&at("blocks.0.self_attn.norm_q.diff"), &[4]),
        tensor(&at("patch_embedding.diff"), &[4, 2, 1, 2, 2]),
    ]);
    if scaled {
        tensors.push((format!("{FFN}.alpha"), Tensor::new(safetensors::Dtype::F32, &[], &[1.0])));
    }
    file(sandbox, name, tensors)
}

/// What the adapter adds, its module times `scale`, everything times `weight`.
fn expected(adapter: &std::path::Path, scale: f64, weight: f64) -> Vec<(String, Vec<f64>)> {
    let of = |name: &str| -> Vec<f64> {
        let name = format!("diffusion_model.{name}");
        let n = read_file(adapter)[&name].values().len();
        values(&name, n).iter().map(|v| v * weight).collect()
    };
    let low_rank =
        product(&read_file(adapter), FFN, KOHYA).values.iter().map(|v| v * scale * weight).collect();
    [
        ("blocks.0.ffn.0.bias", of("blocks.0.ffn.0.diff_b")),
        ("blocks.0.ffn.0.weight", low_rank),
        ("blocks.0.modulation", of("blocks.0.diff_m")),
        ("blocks.0.norm3.bias", of("blocks.0.norm3.b_norm")),
        ("blocks.0.norm3.weight", of("blocks.0.norm3.w_norm")),
        ("blocks.0.self_attn.norm_q.weight", of("blocks.0.self_attn.norm_q.diff")),
        ("patch_embedding.weight", of("patch_embedding.diff")),
    ]
    .map(|(name, values)| (name.to_string(), values))
    .into()
}

#[test]
fn every_kind_is_added_as_it_is() {
    let sandbox = Sandbox::new();
    let base = wan(&sandbox);
    for (scaled, scale) in [(false, 1.0), (true, 0.5)] {
        let path = adapter(&sandbox, "a.safetensors", scaled);
        assert_eq!(added(&sandbox, &base, &path, ""), expected(&path, scale, 1.0));
        // What is written in another spelling adds the same.
        sandbox.run("convert a.safetensors -o kohya.safetensors --to kohya --force", &[]).ok();
        assert_eq!(
            added(&sandbox, &base, &sandbox.path("kohya.safetensors"), ""),
            expected(&path, scale, 1.0)
        );
        sandbox.run("reduce a.safetensors -o reduced --rank 2 --force", &[]).ok();
        let close = |(x, y): (&f64, f64)| (x - y).abs() < 1e-5;
        let reduced = added(&sandbox, &base, &sandbox.path("reduced"), "");
        for ((name, values), (same, meant)) in reduced.iter().zip(expected(&path, scale, 1.0)) {
            assert!(*name == same && values.iter().zip(meant).all(close), "{name}");
        }
    }
}

#[test]
fn weights_and_choices_reach_them() {
    let sandbox = Sandbox::new();
    let base = wan(&sandbox);
    let path = adapter(&sandbox, "a.safetensors", false);
    let half: Vec<_> = expected(&path, 1.0, 0.5);
    sandbox.run("merge wan.safetensors a.safetensors=0.5 -o half.safetensors", &[]).ok();
    let (before, after) = (read_file(&base), read_file(&sandbox.path("half.safetensors")));
    for (name, values) in &half {
        let sum: Vec<f64> = before[name].values().iter().zip(values).map(|(x, y)| x + y).collect();
        assert_eq!(after[name].values(), sum, "{name}");
    }
    let two = |v: &[f64]| v.iter().map(|v| v * 2.0).collect::<Vec<_>>();
    let whole = expected(&path, 1.0, 1.0);
    // Names are those that `inspect` shows, of diffusers.
    assert_eq!(
        added(&sandbox, &base, &path, "--only norm2 --weight norm2=2"),
        [(whole[3].0.clone(), two(&whole[3].1)), (whole[4].0.clone(), two(&whole[4].1))]
    );
    let skipped = added(&sandbox, &base, &path, "--skip norm --skip table --skip patch");
    assert_eq!(skipped, whole[..2]);
    sandbox.run("merge wan.safetensors a.safetensors -o merged.safetensors", &[]).ok();
    sandbox.run("merge merged.safetensors a.safetensors=-1 -o back.safetensors", &[]).ok();
    assert!(read_file(&sandbox.path("back.safetensors")) == before);
}

/// Into a folder of diffusers, whose names are others.
#[test]
fn names_are_translated() {
    let sandbox = Sandbox::new();
    let base = file(
        &sandbox,
        "diffusers.safetensors",
        [
            tensor("blocks.0.ffn.net.0.proj.weight", &[8, 4]),
            tensor("blocks.0.ffn.net.0.proj.bias", &[8]),
            tensor("blocks.0.scale_shift_table", &[1, 6, 4]),
            tensor("blocks.0.norm2.weight", &[4]),
            tensor("blocks.0.norm2.bias", &[4]),
            tensor("blocks.0.attn1.norm_q.weight", &[4]),
            tensor("patch_embedding.weight", &[4, 2, 1, 2, 2]),
        ],
    );
    let path = adapter(&sandbox, "a.safetensors", false);
    let mut meant: Vec<Vec<f64>> = expected(&path, 1.0, 1.0).into_iter().map(|(_, values)| values).collect();
    let mut found: Vec<Vec<f64>> =
        added(&sandbox, &base, &path, "").into_iter().map(|(_, values)| values).collect();
    meant.sort_by(|x, y| x.partial_cmp(y).unwrap());
    found.sort_by(|x, y| x.partial_cmp(y).unwrap());
    assert_eq!(found, meant);
}

/// A delta of a fused layer, whole into the published checkpoint, and in parts into diffusers' layers and back.
#[test]
fn a_fused_layer_shares_its_rows() {
    let sandbox = Sandbox::new();
    let fused = ["double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn.qkv.bias"];
    let base = file(&sandbox, "flux.safetensors", [tensor(fused[0], &[12, 4]), tensor(fused[1], &[12])]);
    let name = "lora_unet_double_blocks_0_img_attn_qkv";
    let deltas = [format!("{name}.diff"), format!("{name}.diff_b")];
    let adapter = file(&sandbox, "a.safetensors", [tensor(&deltas[0], &[12, 4]), tensor(&deltas[1], &[12])]);
    let all = (values(&deltas[0], 48), values(&deltas[1], 12));
    assert_eq!(
        added(&sandbox, &base, &adapter, ""),
        [(fused[1].to_string(), all.1.clone()), (fused[0].to_string(), all.0.clone())]
    );
    let v = "transformer_blocks.0.attn.to_v";
    let parts = ["q", "k", "v"].map(|p| format!("transformer_blocks.0.attn.to_{p}"));
    let parts = parts
        .iter()
        .flat_map(|p| [tensor(&format!("{p}.weight"), &[4, 4]), tensor(&format!("{p}.bias"), &[4])]);
    let separate = file(&sandbox, "diffusers.safetensors", parts);
    let found = added(&sandbox, &separate, &adapter, "--only to_v");
    assert_eq!(
        found,
        [(format!("{v}.bias"), all.1[8..].to_vec()), (format!("{v}.weight"), all.0[32..].to_vec())]
    );
    sandbox.run("convert a.safetensors -o again.safetensors --to kohya", &[]).ok();
    assert!(read_file(&sandbox.path("again.safetensors")) == read_file(&adapter));
}

#[test]
fn what_does_not_fit_is_refused() {
    let sandbox = Sandbox::new();
    wan(&sandbox);
    file(&sandbox, "wide.safetensors", [tensor("diffusion_model.blocks.0.norm3.diff", &[5])]);
    file(&sandbox, "bias.safetensors", [tensor("diffusion_model.patch_embedding.diff_b", &[4])]);
    adapter(&sandbox, "a.safetensors", false);
    let merge =
        |name: &str| sandbox.refused(&format!("merge wan.safetensors {name}.safetensors -o out.safetensors"));
    insta::assert_snapshot!(merge("wide"), @r"
    exit 1
    error: `wide.safetensors`: does not fit the base model: 1 of 1 parts of the adapter differ in shape
      transformer.blocks.0.norm2.weight  base [4], adapter [5]

    hint: the adapter belongs to a base of another size; `lorakit inspect ADAPTER` names the one it was trained on
    ");
    insta::assert_snapshot!(merge("bias"), @r"
    exit 1
    error: `bias.safetensors`: 1 of 1 parts of the adapter have no counterpart among the 7 tensors of the base
      transformer.patch_embedding.bias  nearest in the base: patch_embedding.weight

    hint: is this the base the adapter was trained on? `lorakit inspect ADAPTER --base BASE` compares them
    ");
    insta::assert_snapshot!(sandbox.refused("convert a.safetensors -o peft --to peft"), @r"
    exit 1
    error: `a.safetensors`: holds 5 parts that PEFT cannot store
      transformer.blocks.0.attn1.norm_q.weight  a full delta
      transformer.blocks.0.norm2.weight  a full delta
      transformer.blocks.0.norm2.bias  a full delta
      transformer.blocks.0.scale_shift_table.weight  a full delta
      transformer.patch_embedding.weight  a full delta

    hint: merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`
    ");
    insta::assert_snapshot!(sandbox.refused("combine a.safetensors wide.safetensors -o sum --method svd --rank 2"), @r"
    exit 1
    error: `a.safetensors`: holds 5 full deltas, which no method combines
      transformer.blocks.0.attn1.norm_q.weight
      transformer.blocks.0.norm2.weight
      transformer.blocks.0.norm2.bias
      transformer.blocks.0.scale_shift_table.weight
      transformer.patch_embedding.weight

    hint: merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`
    ");
}

/// Shift and scale of the last layer trade places between diffusers and the published file, in a full delta too.
#[test]
fn halves_that_are_swapped() {
    let sandbox = Sandbox::new();
    let names = ["final_layer.adaLN_modulation.1.weight", "double_blocks.0.img_attn.proj.weight"];
    let base = file(&sandbox, "flux.safetensors", [tensor(names[0], &[8, 4]), tensor(names[1], &[4, 4])]);
    let deltas = ["transformer.norm_out.linear.diff", "transformer.transformer_blocks.0.attn.to_out.0.diff"];
    let adapter = file(&sandbox, "a.safetensors", [tensor(deltas[0], &[8, 4]), tensor(deltas[1], &[4, 4])]);
    let halves = values(deltas[0], 32);
    assert_eq!(
        added(&sandbox, &base, &adapter, ""),
        [
            (names[1].to_string(), values(deltas[1], 16)),
            (names[0].to_string(), [&halves[16..], &halves[..16]].concat()),
        ]
    );
}
