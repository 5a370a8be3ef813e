//! The grammar of tensor names in PEFT files, and in the many files that almost follow PEFT.

/// The role of a tensor in its module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// `lora_A.weight`: `(r, in)`.
    A,
    /// `lora_B.weight`: `(out, r)`.
    B,
    /// `lora_B.bias`: `(out,)`.
    BBias,
    /// `lora_embedding_A`: `(r, vocab)`.
    EmbeddingA,
    /// `lora_embedding_B`: `(dim, r)`.
    EmbeddingB,
    /// `lora_magnitude_vector`: DoRA.
    Magnitude,
    /// `base_layer.weight` or `.bias`: replaces the base's values before deltas are added.
    BaseLayer(String),
    /// `token_adapter.trainable_tokens_delta`: replacement rows.
    TokenRows,
    /// A parameter that is saved whole, e.g. `weight`.
    Saved(String),
    /// The trained copy in PEFT's wrapper of a saved layer: `modules_to_save.weight`, `modules_to_save.default.weight`.
    /// PEFT reads it only from files that do not have the parameter under its own name.
    Trained(String),
    /// The untrained parameter in that wrapper, `original_module.weight`; it carries no information.
    Original(String),
    /// A parameter of TRL's value head, which is no part of the model that is adapted.
    ValueHead,
    /// A tensor of another adapter method.
    Foreign(&'static str),
}

/// Markers of other methods, and the names of the methods.
const FOREIGN: &[(&str, &str)] = &[
    ("lora_E", "AdaLoRA"),
    ("ranknum", "AdaLoRA"),
    ("lora_diag", "KaSA"),
    ("hada_w1_a", "LoHa"),
    ("hada_w1_b", "LoHa"),
    ("hada_w2_a", "LoHa"),
    ("hada_w2_b", "LoHa"),
    ("lokr_w1", "LoKr"),
    ("lokr_w2", "LoKr"),
    ("oft_r", "OFT"),
    ("oft_R", "OFT"),
    ("boft_R", "BOFT"),
    ("ia3_l", "IA3"),
    ("vera_lambda_b", "VeRA"),
    ("vera_lambda_d", "VeRA"),
    ("vblora_logits_A", "VB-LoRA"),
    ("fourierft_spectrum", "FourierFT"),
    ("hra_u", "HRA"),
    ("lora_up", "kohya LoRA"),
    ("lora_down", "kohya LoRA"),
    ("prompt_embeddings", "prompt tuning"),
];

/// Components that the training program's wrappers leave in names.
const WRAPPERS: &[&str] = &["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// What TRL calls the head that estimates values.
const VALUE_HEAD: &str = "v_head";

/// Splits a tensor name into module path and part. The path loses its leading `base_model.model.` and keeps a
/// `base_layer` in front of a factor (nested wrappers of expert parameters).
pub(crate) fn parse(name: &str) -> (String, Part) {
    let mut components: Vec<&str> = name.split('.').filter(|c| !WRAPPERS.contains(c)).collect();
    if components.first() == Some(&"module") && components.len() > 2 {
        components.remove(0);
    }
    if components.first() == Some(&"base_model") {
        components.remove(0);
        if components.first() == Some(&"model") {
            components.remove(0);
        }
    }
    if components.first() == Some(&VALUE_HEAD) {
        let end = components.len() - 1;
        return (components[..end].join("."), Part::ValueHead);
    }
    let path = |end: usize| components[..end].join(".");
    // The wrapper of trained tokens is one component in front of what it holds.
    let outside = |i: usize| if i > 0 && components[i - 1] == "token_adapter" { i - 1 } else { i };
    for (i, component) in components.iter().enumerate() {
        // The marker is followed by nothing, by `weight`, by `bias`, or by an adapter's name and one of those.
        let tail = match &components[i + 1..] {
            [] | [_] if components.get(i + 1).is_none_or(|t| *t != "bias") => "weight",
            [.., last] => last,
            [] => "weight",
        };
        let part = match *component {
            "lora_A" => Part::A,
            "lora_B" if tail == "bias" => Part::BBias,
            "lora_B" => Part::B,
            "lora_embedding_A" => Part::EmbeddingA,
            "lora_embedding_B" => Part::EmbeddingB,
            "lora_magnitude_vector" => Part::Magnitude,
            "trainable_tokens_delta" => return (path(outside(i)), Part::TokenRows),
            "trainable_tokens_original" => Part::Original(String::new()),
            "original_module" | "modules_to_save" => {
                let Some((param, inner)) = components[i + 1..].split_last() else { continue };
                if *component == "original_module" {
                    return (within(&components[..i], inner), Part::Original((*param).into()));
                }
                // What comes first is the name of the adapter.
                let inner = inner.get(1..).unwrap_or_default();
                return (within(&components[..i], inner), Part::Trained((*param).into()));
            }
            "base_layer"
                if i + 2 == components.len() && matches!(tail_of(&components), "weight" | "bias") =>
            {
                return (path(outside(i)), Part::BaseLayer(tail_of(&components).into()));
            }
            other => match FOREIGN.iter().find(|(marker, _)| *marker == other) {
                Some((_, method)) => Part::Foreign(method),
                None => continue,
            },
        };
        return (path(i), part);
    }
    match components.split_last() {
        // Where wrappers are nested, `mha.base_layer.out_proj.bias` is the layer's `mha.out_proj.bias`.
        Some((param, module)) => {
            let module: Vec<&str> = module.iter().copied().filter(|c| *c != "base_layer").collect();
            (module.join("."), Part::Saved((*param).into()))
        }
        None => (String::new(), Part::Saved(String::new())),
    }
}

/// The module of a [`Part::Trained`] if no adapter's name follows `modules_to_save`, as in files of PEFT 0.2:
/// `classifier.modules_to_save.dense.weight`. Only the untrained parameters of the file tell the two apart.
pub(crate) fn without_adapter_name(name: &str) -> Option<String> {
    let (before, rest) = name.split_once(".modules_to_save.")?;
    let (inner, param) = rest.rsplit_once('.')?;
    match parse(&format!("{before}.{inner}.{param}")) {
        (module, Part::Saved(_)) => Some(module),
        _ => None,
    }
}

/// Whether a tensor of that name, in a model, belongs to an adapter that was not merged before saving.
pub(crate) fn is_unmerged(name: &str) -> bool {
    [".lora_A", ".lora_B", ".base_layer."].iter().any(|part| name.contains(part))
}

/// `text` without the wrapper that PEFT puts in front of every path.
pub(crate) fn without_wrapper(text: &str) -> &str {
    let rest = text.strip_prefix("base_model").and_then(|rest| rest.strip_prefix(".model"));
    rest.filter(|rest| rest.is_empty() || rest.starts_with('.')).unwrap_or(text)
}

/// A tensor's name with `new` in the place of the components `old` with which its module's path begins; `None` if they do
/// not follow one another in the name.
pub(crate) fn renamed(name: &str, old: &[String], new: &str) -> Option<String> {
    let components: Vec<&str> = name.split('.').collect();
    // As in `parse`: what wrappers leave in front of the path.
    let mut at = 0;
    let skip = |at: &mut usize, wanted: &str| {
        let wrapped = components[*at..].iter().take_while(|c| WRAPPERS.contains(c)).count();
        let found = components.get(*at + wrapped) == Some(&wanted);
        if found {
            *at += wrapped + 1;
        }
        found
    };
    let plain = components.iter().filter(|c| !WRAPPERS.contains(c)).count();
    if plain > 2 {
        skip(&mut at, "module");
    }
    if skip(&mut at, "base_model") {
        skip(&mut at, "model");
    }
    let (before, mut rest) = components.split_at(at);
    for wanted in old {
        let wrapped = rest.iter().take_while(|c| WRAPPERS.contains(c)).count();
        rest = rest[wrapped..].split_first().filter(|(first, _)| *first == wanted)?.1;
    }
    let parts =
        before.iter().copied().chain(Some(new).filter(|new| !new.is_empty())).chain(rest.iter().copied());
    Some(parts.collect::<Vec<_>>().join("."))
}

fn within(path: &[&str], inner: &[&str]) -> String {
    path.iter().chain(inner).copied().collect::<Vec<_>>().join(".")
}

fn tail_of<'a>(components: &[&'a str]) -> &'a str {
    components.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_path_is_renamed_behind_wrappers() {
        let to = |name: &str, old: &[&str], new: &str| {
            renamed(name, &old.iter().map(|part| part.to_string()).collect::<Vec<_>>(), new)
        };
        for (name, old, new, expected) in [
            (
                "base_model.model.model.h.0.lora_A.weight",
                &["model"][..],
                "x.y",
                "base_model.model.x.y.h.0.lora_A.weight",
            ),
            (
                "base_model.model.model.h.0.lora_A.weight",
                &["model", "h"],
                "",
                "base_model.model.0.lora_A.weight",
            ),
            ("model.h.0.lora_A.weight", &["model"], "x", "x.h.0.lora_A.weight"),
            ("base_model.model.h.lora_B.bias", &[], "x", "base_model.model.x.h.lora_B.bias"),
            (
                "module._orig_mod.base_model.model._fsdp_wrapped_module.h.q.lora_A",
                &["h"],
                "x",
                "module._orig_mod.base_model.model.x.q.lora_A",
            ),
        ] {
            assert_eq!(to(name, old, new).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(
            to("base_model.model.head.modules_to_save.default.dense.bias", &["head", "dense"], "x"),
            None
        );
    }

    #[test]
    fn every_known_spelling_is_understood() {
        let saved = |p: &str| Part::Saved(p.into());
        let trained = |p: &str| Part::Trained(p.into());
        let original = |p: &str| Part::Original(p.into());
        let base = |p: &str| Part::BaseLayer(p.into());
        for (name, path, part) in [
            ("base_model.model.model.layers.0.q.lora_A.weight", "model.layers.0.q", Part::A),
            ("base_model.model.model.layers.0.q.lora_B.default.weight", "model.layers.0.q", Part::B),
            ("model.layers.0.q.lora_B.my_adapter.bias", "model.layers.0.q", Part::BBias),
            ("base_model.model.q.lora_B.bias", "q", Part::BBias),
            ("base_model.model.model.embed_tokens.lora_embedding_A", "model.embed_tokens", Part::EmbeddingA),
            ("base_model.model.e.lora_embedding_B.default", "e", Part::EmbeddingB),
            ("base_model.model.q.lora_magnitude_vector", "q", Part::Magnitude),
            ("base_model.model.q.lora_magnitude_vector.default.weight", "q", Part::Magnitude),
            ("base_model.model.lm_head.base_layer.weight", "lm_head", base("weight")),
            ("base_model.model.q.base_layer.bias", "q", base("bias")),
            ("base_model.model.mha.base_layer.out_proj.bias", "mha.out_proj", saved("bias")),
            ("base_model.model.mha.base_layer.in_proj_bias", "mha", saved("in_proj_bias")),
            ("base_model.model.mlp.experts.base_layer.lora_A.weight", "mlp.experts.base_layer", Part::A),
            ("base_model.model.attn.base_layer.out_proj.lora_A.weight", "attn.base_layer.out_proj", Part::A),
            ("base_model.model.e.token_adapter.trainable_tokens_delta", "e", Part::TokenRows),
            ("base_model.model.lm_head.weight", "lm_head", saved("weight")),
            ("base_model.model.score.modules_to_save.weight", "score", trained("weight")),
            ("base_model.model.score.modules_to_save.bias", "score", trained("bias")),
            ("base_model.model.score.modules_to_save.default.weight", "score", trained("weight")),
            ("base_model.model.head.modules_to_save.default.dense.bias", "head.dense", trained("bias")),
            ("base_model.model.score.original_module.weight", "score", original("weight")),
            ("base_model.model.head.original_module.dense.bias", "head.dense", original("bias")),
            ("base_model.model.score.modules_to_save", "score", saved("modules_to_save")),
            ("base_model.model.e.token_adapter.base_layer.weight", "e", base("weight")),
            (
                "base_model.model.e.token_adapter.trainable_tokens_original.default",
                "e.token_adapter",
                original(""),
            ),
            ("v_head.summary.weight", "v_head.summary", Part::ValueHead),
            ("base_model.model.v_head.summary.bias", "v_head.summary", Part::ValueHead),
            ("v_head", "", Part::ValueHead),
            ("module._orig_mod.base_model.model._fsdp_wrapped_module.q.lora_A.weight", "q", Part::A),
            ("base_model.model.q.lora_E", "q", Part::Foreign("AdaLoRA")),
            ("lora_unet_x.lora_down.weight", "lora_unet_x", Part::Foreign("kohya LoRA")),
        ] {
            assert_eq!(parse(name), (path.to_string(), part), "{name}");
        }
    }

    /// Every component that has a meaning, and two that have none, in every order.
    #[test]
    fn no_sequence_of_components_is_too_strange() {
        let mut words = vec!["", "x", "default", "weight", "bias", "base_model", "model", "module", "v_head"];
        words.extend(["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"]);
        words.extend(["token_adapter", "trainable_tokens_delta", "trainable_tokens_original"]);
        words.extend(["modules_to_save", "original_module", "base_layer", "lora_E", "_orig_mod"]);
        let mut names = vec![String::new()];
        let mut ends = vec![String::new()];
        for _ in 0..4 {
            let longer = |end: &String| words.iter().map(|word| format!("{end}.{word}")).collect::<Vec<_>>();
            ends = ends.iter().flat_map(longer).collect();
            names.extend(ends.iter().map(|name| name[1..].to_string()));
        }
        for name in names {
            let (module, _) = parse(&name);
            without_adapter_name(&name);
            assert!(module.len() <= name.len(), "{name}");
        }
    }

    #[test]
    fn a_trained_copy_may_have_no_adapter_name() {
        let of = |name: &str| without_adapter_name(name);
        let name = "base_model.model.classifier.modules_to_save.dense.weight";
        assert_eq!(of(name).as_deref(), Some("classifier.dense"));
        assert_eq!(of("base_model.model.score.modules_to_save.weight"), None);
        assert_eq!(of("base_model.model.score.weight"), None);
    }
}
