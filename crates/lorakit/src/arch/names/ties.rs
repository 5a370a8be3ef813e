//! Which parameters of a model are one tensor: for each class of transformers, as data.
//!
//! `data/ties.json` is made by `fixtures/generate/tied_names.py` from `_tied_weights_keys` of every class.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::ends::HEAD;
use super::path::{last, module_of};

/// A parameter that a class computes with under a name of its own, and the one whose values it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
}

/// What is known of a class.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ties {
    /// These parameters are tied, in each of the classes that could be meant.
    Known(Vec<Vec<Tie>>),
    /// The class has nothing to tie, as a classifier.
    None,
    /// Neither class nor family is known.
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    #[serde(rename = "transformers")]
    _version: String,
    groups: Vec<Group>,
    families: HashMap<String, Vec<String>>,
    tied_by_default: HashSet<String>,
    always_tied: HashSet<String>,
    others: HashSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    classes: Vec<String>,
    ties: HashMap<String, String>,
}

static DATA: LazyLock<Data> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/ties.json")).expect("built-in data is valid")
});

static CLASSES: LazyLock<BTreeMap<&str, Vec<Tie>>> = LazyLock::new(|| {
    let mut classes = BTreeMap::new();
    for group in &DATA.groups {
        let tie = |(name, source): (&'static String, &'static String)| Tie { name, source };
        let mut ties: Vec<Tie> = group.ties.iter().map(tie).collect();
        ties.sort_by_key(|tie| tie.name);
        classes.extend(group.classes.iter().map(|class| (class.as_str(), ties.clone())));
    }
    classes
});

/// Ends of the names of classes that compute no words.
const HEADLESS: &[&str] = &[
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForRewardModel",
    "Model",
];

/// What is tied in a model of that class, or, if the class is not named or not known, of that family.
pub(crate) fn ties(class: Option<&str>, families: &[&str]) -> Ties {
    if let Some(ties) = class.and_then(|class| CLASSES.get(class)) {
        return Ties::Known(vec![ties.clone()]);
    }
    if class.is_some_and(|class| HEADLESS.iter().any(|end| class.ends_with(end))) {
        return Ties::None;
    }
    let of_family = families.iter().find_map(|family| DATA.families.get(*family));
    match of_family {
        Some(classes) => {
            let ties = classes.iter().filter_map(|class| CLASSES.get(class.as_str()).cloned());
            Ties::Known(ties.collect())
        }
        None if families.iter().any(|family| DATA.others.contains(*family)) => Ties::None,
        None => Ties::Unknown,
    }
}

/// Whether a configuration of that family that does not say so ties input and output embedding; `None` for a family that
/// is not known.
pub(crate) fn ties_by_default(family: &str) -> Option<bool> {
    let known = DATA.families.contains_key(family) || DATA.others.contains(family);
    (known || DATA.always_tied.contains(family)).then(|| DATA.tied_by_default.contains(family))
}

/// Whether `tie_word_embeddings` means something else in that family: transformers 5 loads its embeddings as one tensor
/// whatever it says, unless the file has two that differ.
pub(crate) fn ties_always(family: &str) -> bool {
    DATA.always_tied.contains(family)
}

/// Last components of modules that compute words.
const OUTPUTS: &[&str] = &[
    "lm_head",
    "embed_out",
    "decoder",
    "head",
    "codec_head",
    "generator_lm_head",
    "lm_loss",
    "out_proj",
    "output",
    "output_projection",
    "proj",
    "proj_out",
    "unembedding_projection",
    "vocab_projector",
];

/// Whether a tied parameter is the weight of an output.
pub(crate) fn is_output(name: &str) -> bool {
    OUTPUTS.contains(&last(module_of(name)))
}

/// Whether a source only hands its values to the embeddings of encoder and decoder, if these have names of their own: no
/// layer computes with it.
pub(crate) fn only_hands_on(name: &str) -> bool {
    matches!(last(module_of(name)), "shared" | "word_embeddings")
}

/// The name of a tied parameter in a file that spells the name of another, `known`, in its own way: with a prefix, or
/// without one.
pub(crate) fn respelt(name: &str, (class, file): (&str, &str)) -> String {
    const WRAPPER: &str = "language_model.";
    if let Some(prefix) = file.strip_suffix(class).filter(|prefix| prefix.ends_with('.')) {
        return format!("{prefix}{name}");
    }
    if let Some(prefix) = class.strip_suffix(file).filter(|prefix| prefix.ends_with('.')) {
        return name.strip_prefix(prefix).unwrap_or(name).to_string();
    }
    // Before transformers 5, the output of a multimodal model was inside the language model.
    if file.starts_with(WRAPPER) && last(module_of(name)) == HEAD && !name.starts_with(WRAPPER) {
        return format!("{WRAPPER}{name}");
    }
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_that_writes_words_has_one_output() {
        for (class, ties) in CLASSES.iter() {
            let weights = ties.iter().filter(|tie| tie.name.ends_with(".weight") && is_output(tie.name));
            let outputs: Vec<&str> = weights.map(|tie| tie.name).collect();
            let writes = ["ForCausalLM", "ForMaskedLM", "LMHeadModel", "ForConditionalGeneration"]
                .iter()
                .any(|end| class.ends_with(end));
            // These tie a codebook, or a table of the output to that of the input.
            let other = ["Blt", "Csm", "Qwen3OmniMoeTalker", "Pop2Piano"]
                .iter()
                .any(|start| class.starts_with(start));
            assert!(other || !writes || (1..=2).contains(&outputs.len()), "{class}: {outputs:?}");
        }
    }

    #[test]
    fn families_and_classes_are_known() {
        let names = |class, families: &[&str]| match ties(class, families) {
            Ties::Known(classes) => {
                classes[0].iter().map(|tie| format!("{} = {}", tie.name, tie.source)).collect()
            }
            other => vec![format!("{other:?}")],
        };
        assert_eq!(names(Some("MambaForCausalLM"), &[]), ["lm_head.weight = backbone.embeddings.weight"]);
        assert_eq!(names(None, &["gpt_neox"]), ["embed_out.weight = gpt_neox.embed_in.weight"]);
        assert_eq!(names(Some("MyT5"), &["t5"]).len(), 3);
        assert_eq!(names(Some("BartForConditionalGeneration"), &["bart"]).len(), 3);
        assert_eq!(names(Some("LlamaForSequenceClassification"), &["llama"]), ["None"]);
        assert_eq!(names(Some("ViTForImageClassification"), &["vit"]), ["None"]);
        assert_eq!(names(Some("InternLM2ForCausalLM"), &["internlm2"]), ["Unknown"]);
        assert_eq!(["bert", "llama", "internlm2"].map(ties_by_default), [Some(true), Some(false), None]);
        assert!(ties_always("t5") && !ties_always("bart"));
    }

    #[test]
    fn tied_parameters_are_spelt_as_their_file_spells_names() {
        let of = "model.decoder.embed_tokens.weight";
        for (name, known, expected) in [
            ("lm_head.weight", ("transformer.wte.weight", "wte.weight"), "lm_head.weight"),
            (of, ("model.shared.weight", "shared.weight"), "decoder.embed_tokens.weight"),
            (of, ("model.shared.weight", "x.model.shared.weight"), "x.model.decoder.embed_tokens.weight"),
            (
                "lm_head.weight",
                ("model.language_model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
                "language_model.lm_head.weight",
            ),
            (
                "lm_head.weight",
                ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight"),
                "lm_head.weight",
            ),
        ] {
            assert_eq!(respelt(name, known), expected);
        }
    }
}
