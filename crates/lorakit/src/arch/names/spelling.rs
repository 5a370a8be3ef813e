//! One thing under several names: prefixes of wrappers, and names that changed between versions of transformers.

use std::borrow::Cow;

use super::experts::{as_parameter, expert_of, projection, single_names};

/// Prefixes that libraries add and drop: wrappers of PEFT, of multimodal models and of pipelines, and the name of the
/// model proper inside its class.
const PREFIXES: &[&str] =
    &["language_model.", "transformer.", "base_model.", "unet.", "diffusion_model.", "model."];

/// Components, one or several in a row, that transformers 5 renamed in memory: files have the old name, and paths of new
/// adapters have the new one (`conversion_mapping.py`). The first that matches counts.
const RENAMED: &[(&[&str], &[&str])] = &[
    (&["block_sparse_moe"], &["mlp"]),
    // GPT-NeoX.
    (&["embed_out"], &["lm_head"]),
    // ViT and its kin: AST, BEiT, DeiT, I-JEPA, ViT-MAE, ViT-MSN, ViViT, DINOv2.
    (&["encoder", "layer"], &["layers"]),
    (&["decoder_encoder", "layer"], &["decoder_layers"]),
    (&["attention", "attention", "query"], &["attention", "q_proj"]),
    (&["attention", "attention", "key"], &["attention", "k_proj"]),
    (&["attention", "attention", "value"], &["attention", "v_proj"]),
    (&["attention", "output", "dense"], &["attention", "o_proj"]),
    (&["intermediate", "dense"], &["mlp", "fc1"]),
    (&["output", "dense"], &["mlp", "fc2"]),
    (&["mlp", "weights_out"], &["mlp", "down_proj"]),
];

/// Words in the names of parts of a model beside its language model: a prefix that has one says where a path leads.
const PARTS: &[&str] = &[
    "vision",
    "visual",
    "image",
    "video",
    "audio",
    "speech",
    "encoder",
    "decoder",
    "tower",
    "unet",
    "vae",
    "transformer",
    "talker",
    "thinker",
    "projector",
    "refiner",
    "controlnet",
    "draft",
];

/// Ends of paths that transformers 5 renamed in memory.
const RENAMED_ENDS: &[(&str, &str)] = &[("block_sparse_moe.router.layer", "block_sparse_moe.router")];

/// Names of the model proper inside the class of a language model.
const PROPER: &[&str] = &["model.", "transformer."];

/// Whether a path is in the model proper of a language model.
pub(crate) fn is_in_language_model(path: &str) -> bool {
    PROPER.iter().any(|prefix| path.starts_with(prefix))
}

/// The path without the prefixes of wrappers and containers.
pub(crate) fn bare(path: &str) -> &str {
    let stripped = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix));
    stripped.map_or(path, bare)
}

/// The name in a common spelling, the same for all names of one thing. It is for comparison, not for display.
pub(crate) fn meaning(name: &str) -> Cow<'_, str> {
    let bare = bare(name);
    let (path, parameter) = match bare.rsplit_once('.') {
        Some((path, parameter @ ("weight" | "bias"))) => (path, Some(parameter)),
        _ => (bare, None),
    };
    // All experts of a layer in a module of its own, whose weight is a parameter of transformers 5.
    if let Some(own) = as_parameter(path).filter(|_| parameter == Some("weight")) {
        return renamed(&own).into();
    }
    for (end, new) in RENAMED_ENDS {
        if let Some(start) = path.strip_suffix(end).filter(|start| start.is_empty() || start.ends_with('.')) {
            let parameter = parameter.map_or(String::new(), |parameter| format!(".{parameter}"));
            return renamed(&format!("{start}{new}{parameter}")).into();
        }
    }
    let old = |component: &str| RENAMED.iter().any(|(old, _)| old.last() == Some(&component));
    let expert =
        expert_of(path).and_then(|(experts, number, leaf)| Some((experts, number, projection(leaf)?)));
    if expert.is_none() && !path.split('.').any(old) {
        return bare.into();
    }
    let mut one = match expert {
        Some((experts, number, projection)) => {
            let experts = renamed(experts);
            format!("{experts}.{number}.{}", single_names(&experts)(projection))
        }
        None => renamed(path),
    };
    if let Some(parameter) = parameter {
        one.push('.');
        one.push_str(parameter);
    }
    one.into()
}

/// The name that transformers 5 has for a component of a path, if it is another one.
pub(crate) fn renamed_component(component: &str) -> Option<&'static str> {
    let one = |names: &'static [&'static str]| if let [name] = names { Some(*name) } else { None };
    RENAMED.iter().find(|(old, _)| *old == [component]).and_then(|(_, new)| one(new))
}

fn renamed(path: &str) -> String {
    let components: Vec<&str> = path.split('.').collect();
    let mut new = Vec::with_capacity(components.len());
    let mut rest = components.as_slice();
    while let [first, others @ ..] = rest {
        match RENAMED.iter().find(|(old, _)| rest.starts_with(old)) {
            Some((old, names)) => {
                new.extend_from_slice(names);
                rest = &rest[old.len()..];
            }
            None => {
                new.push(*first);
                rest = others;
            }
        }
    }
    new.join(".")
}

/// Whether a prefix of paths names a part of a model, as `vision_tower.` does.
pub(crate) fn names_another_part(prefix: &str) -> bool {
    let prefix = prefix.to_lowercase();
    PARTS.iter().any(|word| prefix.contains(word))
}

/// The paths that a text model may use: the path itself, and the path without the wrapper of a multimodal model or
/// with the `model.` that a bare model lacks.
pub(crate) fn unwrapped(path: &str) -> Vec<Cow<'_, str>> {
    let mut spellings = vec![Cow::Borrowed(path)];
    if let Some(rest) = path.strip_prefix("model.language_model.") {
        spellings.push(format!("model.{rest}").into());
    } else if let Some(rest) = path.strip_prefix("language_model.") {
        spellings.push(rest.into());
    } else if path.starts_with("layers.") || path == "embed_tokens" {
        spellings.push(format!("model.{path}").into());
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_thing_have_one_meaning() {
        for (name, other) in [
            ("model.layers.0.q.weight", "language_model.model.layers.0.q.weight"),
            ("model.language_model.layers.0.q.weight", "layers.0.q.weight"),
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("unet.down_blocks.0.q.weight", "down_blocks.0.q.weight"),
            ("model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.gate.weight"),
            ("model.layers.0.block_sparse_moe.experts.1.w3.weight", "layers.0.mlp.experts.1.up_proj.weight"),
            ("layers.0.mlp.experts.1.w2", "layers.0.mlp.experts.1.down_proj"),
            ("embed_out.weight", "lm_head.weight"),
            ("vit.encoder.layer.3.attention.attention.query.bias", "vit.layers.3.attention.q_proj.bias"),
            ("vit.encoder.layer.3.attention.output.dense.weight", "vit.layers.3.attention.o_proj.weight"),
            ("encoder.layer.3.intermediate.dense.weight", "layers.3.mlp.fc1.weight"),
            ("encoder.layer.3.output.dense.weight", "layers.3.mlp.fc2.weight"),
            ("encoder.layer.3.attention.attention.value.weight", "encoder.layer.3.attention.v_proj.weight"),
            (
                "model.layers.0.block_sparse_moe.input_linear.weight",
                "layers.0.block_sparse_moe.experts.gate_up_proj",
            ),
            ("model.layers.0.block_sparse_moe.output_linear.weight", "layers.0.mlp.experts.down_proj"),
            (
                "model.layers.0.block_sparse_moe.router.layer.weight",
                "model.layers.0.block_sparse_moe.router.weight",
            ),
        ] {
            assert_eq!(meaning(name), meaning(other));
        }
        for (name, other) in [
            ("model.layers.0.q.weight", "model.layers.0.q.bias"),
            ("vision_tower.layers.0.q.weight", "model.layers.0.q.weight"),
            ("layers.0.mlp.w1", "layers.0.mlp.gate_proj"),
            ("encoder.layer.0.attention.self.query.weight", "encoder.layer.0.attention.self.key.weight"),
            ("encoder.layer.0.attention.output.dense.weight", "encoder.layer.0.output.dense.weight"),
            ("transformer_2.blocks.0.q", "transformer.blocks.0.q"),
        ] {
            assert_ne!(meaning(name), meaning(other));
        }
    }
}
