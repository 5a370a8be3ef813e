//! Model families as data: how each one names its tensors in Hugging Face and in GGUF files.
//!
//! A family is one file in `data/` and one line in `FAMILIES`. A tensor rule pairs two name templates, in which `{i}`
//! is the layer and `{e}` the expert. It says what the tensor is for, and how its values differ between the two
//! formats: the order of rows, experts of a layer stacked in one tensor, 1 added to norms.

pub(crate) mod diffusion;
mod keys;
pub(crate) mod names;
mod permute;
pub(crate) mod problem;

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) use keys::{Entry, KeyRule, KeyType, Named, common};
pub(crate) use permute::RowPermutation;

use crate::Result;

/// One file per family.
const FAMILIES: &[&str] = &[
    include_str!("data/llama.json"),
    include_str!("data/qwen2.json"),
    include_str!("data/qwen3.json"),
    include_str!("data/qwen3moe.json"),
    include_str!("data/gemma2.json"),
    include_str!("data/gemma3.json"),
    include_str!("data/phi3.json"),
    include_str!("data/smollm3.json"),
    include_str!("data/granite.json"),
    #[cfg(test)]
    include_str!("data/dummy.json"),
];

static ARCHITECTURES: LazyLock<Vec<Architecture>> = LazyLock::new(|| {
    let parse = |text: &&str| serde_json::from_str(text).expect("built-in data is valid");
    FAMILIES.iter().map(parse).collect()
});

/// Every known family.
pub(crate) fn architectures() -> &'static [Architecture] {
    &ARCHITECTURES
}

/// The family that GGUF files call `name` in `general.architecture`.
pub(crate) fn by_gguf(name: &str) -> Option<&'static Architecture> {
    architectures().iter().find(|a| a.gguf == name)
}

/// The family, and the class of it, that `config.json` names in `architectures`, or else by its `model_type`.
pub(crate) fn by_class(
    class: Option<&str>,
    model_type: Option<&str>,
) -> Option<(&'static Architecture, &'static HfClass)> {
    let all = || architectures().iter().flat_map(|a| a.hf.iter().map(move |class| (a, class)));
    let named = all().find(|(_, known)| Some(known.architecture.as_str()) == class);
    named
        .or_else(|| all().find(|(_, known)| class.is_none() && Some(known.model_type.as_str()) == model_type))
}

/// A model family.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Architecture {
    gguf: String,
    hf: Vec<HfClass>,
    config: Map<String, Value>,
    /// Each layer of this number does not rotate positions.
    #[serde(default)]
    unrotated_every: Option<u64>,
    /// Metadata of GGUF files, in the order of llama.cpp's converter.
    keys: Vec<Entry>,
    /// Kinds of tokenizers, in the order in which they are tried.
    tokenizers: Vec<TokenizerKind>,
    /// `tokenizer.ggml.add_space_prefix`, if the family fixes it.
    #[serde(default)]
    space_prefix: Option<bool>,
    /// Whether GGUF models of the family cannot be turned back into Hugging Face folders.
    #[serde(default)]
    one_way: bool,
    /// Tensors of Hugging Face files that are left out of GGUF files.
    #[serde(default)]
    skipped: Vec<String>,
    tensors: Vec<TensorRule>,
    /// Tensors that hold all experts of a layer, as in transformers 5.
    #[serde(default)]
    packed: Vec<PackedRule>,
}

/// A Hugging Face tensor `[experts, out, in]` whose rows are those of several GGUF stacks, one after another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackedRule {
    hf: String,
    gguf: Vec<String>,
}

/// The source of a GGUF file's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenizerKind {
    /// `tokenizer.model`.
    SentencePiece,
    /// A SentencePiece vocabulary in `tokenizer.json`: BPE that falls back to bytes.
    LlamaHf,
    /// `tokenizer.model`, with added tokens in the way of Phi 3.
    PhiSentencePiece,
    /// Byte-level BPE in `tokenizer.json`.
    Bpe,
}

/// A Hugging Face model class of a family.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HfClass {
    /// The entry of `architectures`, e.g. `LlamaForCausalLM`.
    pub(crate) architecture: String,
    /// The value of `model_type`, e.g. `llama`.
    pub(crate) model_type: String,
    /// The GGUF key, without the family's prefix, that only this class has; `None` for the first class of a family.
    #[serde(default)]
    pub(crate) when: Option<String>,
    /// Whether layers have experts; in GGUF files, `expert_count` tells.
    #[serde(default)]
    pub(crate) experts: bool,
    /// Entries of `config.json` that a GGUF file holds as integers, and their keys there, without the family's prefix.
    #[serde(default)]
    pub(crate) entries: Map<String, Value>,
    /// Entries of `config.json` that change what the model computes unless they are null, and have no key in GGUF files.
    #[serde(default)]
    pub(crate) unsaid: Vec<String>,
    /// The defaults of transformers for entries that `config.json` lacks: a value, or the name of another entry;
    /// `a/b` divides one entry by another.
    #[serde(default)]
    pub(crate) defaults: Map<String, Value>,
    /// The layout of the layers in torchtune; absent if torchtune does not have the class.
    #[serde(default)]
    pub(crate) torchtune: Option<Torchtune>,
}

/// The layout of layers in torchtune's model of a class (`torchtune/models/*/_convert_weights.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Torchtune {
    /// The same as in Hugging Face's model.
    Same,
    /// The rows of q and k are in Meta's order; see [`RowPermutation`].
    Interleaved,
    /// Fused layers are split: q, k and v; gate and up.
    Split,
}

/// One kind of tensor of a family.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorRule {
    gguf: String,
    #[serde(default)]
    hf: Option<String>,
    /// Another name in Hugging Face files.
    #[serde(default)]
    also: Option<String>,
    #[serde(default)]
    dropped: Option<String>,
    /// The role of the tensor.
    pub(crate) role: Role,
    /// The number that GGUF files add to every value.
    #[serde(default)]
    pub(crate) plus: f32,
    /// The order of its rows in GGUF files.
    #[serde(default)]
    pub(crate) permute: Permute,
    /// `Some(true)` if only classes with experts have the tensor, `Some(false)` if only those without have it.
    #[serde(default)]
    pub(crate) experts: Option<bool>,
    /// Whether a model may lack the tensor.
    #[serde(default)]
    pub(crate) optional: bool,
    /// The `config.json` switch that is true if every layer has the tensor, and false if no layer has it.
    #[serde(default)]
    pub(crate) flag: Option<String>,
}

/// The role of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the layers")]
pub(crate) enum Role {
    Embed,
    Head,
    Norm,
    AttnQ,
    AttnK,
    AttnV,
    AttnO,
    FfnGate,
    FfnUp,
    FfnDown,
    AttnQkv,
    FfnGateUp,
    FfnRouter,
    Rope,
}

/// The order in which GGUF files hold the rows of a tensor, compared with Hugging Face files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Permute {
    /// The order is the same.
    #[default]
    None,
    /// Permuted within each query head.
    Q,
    /// Permuted within each key head.
    K,
}

/// The numbers of attention heads of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads.
    pub(crate) key_value: usize,
}

/// A rule, and the layer and the expert of the tensor for which it was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Match<'a> {
    /// The rule.
    pub(crate) rule: &'a TensorRule,
    /// The layer, for tensors that every layer has.
    pub(crate) layer: Option<usize>,
    /// The expert, for tensors that GGUF files stack over all experts.
    pub(crate) expert: Option<usize>,
}

impl Architecture {
    /// The value of `general.architecture`, which is also the prefix of the family's keys.
    pub(crate) fn gguf(&self) -> &str {
        &self.gguf
    }

    /// The Hugging Face classes, the usual one first.
    pub(crate) fn hf_classes(&self) -> &[HfClass] {
        &self.hf
    }

    /// The rules, in the order of the model.
    pub(crate) fn tensors(&self) -> &[TensorRule] {
        &self.tensors
    }

    /// Whether GGUF models of the family can be turned into Hugging Face folders.
    pub(crate) fn is_reversible(&self) -> bool {
        !self.one_way
    }

    /// If the layers of every such number, counted from 1, do not rotate positions: that number.
    pub(crate) fn unrotated_every(&self) -> Option<u64> {
        self.unrotated_every
    }

    /// Entries of `config.json` that the family fixes.
    pub(crate) fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The metadata of GGUF files.
    pub(crate) fn keys(&self) -> &[Entry] {
        &self.keys
    }

    /// Kinds of tokenizers, in the order in which they are tried.
    pub(crate) fn tokenizers(&self) -> &[TokenizerKind] {
        &self.tokenizers
    }

    /// `tokenizer.ggml.add_space_prefix`, if the family fixes it.
    pub(crate) fn space_prefix(&self) -> Option<bool> {
        self.space_prefix
    }

    /// Whether GGUF files leave out the tensor that Hugging Face files call `name`.
    pub(crate) fn skips(&self, name: &str) -> bool {
        const COMPUTED: &[&str] = &[".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];
        COMPUTED.iter().any(|end| name.ends_with(end)) || self.skipped.iter().any(|skipped| skipped == name)
    }

    /// The rule for the tensor that GGUF files call `name`.
    pub(crate) fn match_gguf(&self, name: &str) -> Option<Match<'_>> {
        self.tensors.iter().find_map(|rule| rule.matched(&rule.gguf, name))
    }

    /// The rule for the tensor that Hugging Face files call `name`.
    pub(crate) fn match_hf(&self, name: &str) -> Option<Match<'_>> {
        self.tensors.iter().find_map(|rule| {
            let names = rule.hf.iter().chain(&rule.also);
            names.filter_map(|template| rule.matched(template, name)).next()
        })
    }

    /// The rules for the stacks of experts that Hugging Face files pack in one tensor called `name`, in the order of
    /// its rows; empty if it is not such a tensor.
    pub(crate) fn match_packed(&self, name: &str) -> Vec<Match<'_>> {
        let found = self.packed.iter().find_map(|packed| Some((packed, layer_of(&packed.hf, name)?)));
        let Some((packed, layer)) = found else { return Vec::new() };
        let rules = packed.gguf.iter().filter_map(|gguf| self.tensors.iter().find(|rule| rule.gguf == *gguf));
        rules.map(|rule| Match { rule, layer, expert: None }).collect()
    }
}

impl Match<'_> {
    /// The tensor's name in GGUF files.
    pub(crate) fn gguf_name(&self) -> String {
        self.rule.gguf_name(self.layer)
    }

    /// The tensor's name in Hugging Face files, if they hold it.
    pub(crate) fn hf_name(&self) -> Option<String> {
        let template = fill(self.rule.hf.as_deref()?, LAYER, self.layer);
        Some(fill(&template, EXPERT, self.expert))
    }
}

impl TensorRule {
    /// The name in GGUF files, in layer `layer` if every layer has the tensor.
    pub(crate) fn gguf_name(&self, layer: Option<usize>) -> String {
        fill(&self.gguf, LAYER, layer)
    }

    /// The template of the name in Hugging Face files, if they hold the tensor.
    pub(crate) fn hf_template(&self) -> Option<&str> {
        self.hf.as_deref()
    }

    /// Whether GGUF files stack the tensors of all experts of a layer.
    pub(crate) fn is_stacked(&self) -> bool {
        self.hf.as_deref().is_some_and(|template| template.contains(EXPERT))
    }

    fn matched(&self, template: &str, name: &str) -> Option<Match<'_>> {
        let (layer, expert) = numbers_of(template, name)?;
        Some(Match { rule: self, layer, expert })
    }

    /// Whether a model needs the tensor, given whether its layers have `experts`.
    pub(crate) fn is_required(&self, experts: bool) -> bool {
        !self.optional && self.flag.is_none() && self.experts.is_none_or(|needed| needed == experts)
    }

    /// Whether every layer has such a tensor.
    pub(crate) fn is_layered(&self) -> bool {
        self.gguf.contains(LAYER)
    }

    /// Why Hugging Face files do not hold the tensor; `None` if they do.
    pub(crate) fn dropped(&self) -> Option<&str> {
        self.dropped.as_deref()
    }

    /// Whether GGUF files hold its rows in a different order from Hugging Face files.
    pub(crate) fn is_permuted(&self) -> bool {
        self.permute != Permute::None
    }

    /// How the `rows` rows of the tensor are reordered, if they are.
    ///
    /// # Errors
    /// If the rows do not form as many heads as the model has.
    pub(crate) fn permutation(&self, rows: usize, heads: Heads) -> Result<Option<RowPermutation>> {
        match self.permute {
            Permute::None => Ok(None),
            Permute::Q => RowPermutation::new(rows, heads.query).map(Some),
            Permute::K => RowPermutation::new(rows, heads.key_value).map(Some),
        }
    }
}

/// The placeholders for the layer's and the expert's number in a template.
const LAYER: &str = "{i}";
const EXPERT: &str = "{e}";

/// The layer and the expert of `name`, if it matches `template`.
fn numbers_of(template: &str, name: &str) -> Option<(Option<usize>, Option<usize>)> {
    let Some((before, after)) = template.split_once(EXPERT) else {
        return Some((layer_of(template, name)?, None));
    };
    let name = name.strip_suffix(after)?;
    let (name, expert) = name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    Some((layer_of(before, name)?, Some(number(expert)?)))
}

fn layer_of(template: &str, name: &str) -> Option<Option<usize>> {
    let Some((before, after)) = template.split_once(LAYER) else {
        return (template == name).then_some(None);
    };
    number(name.strip_prefix(before)?.strip_suffix(after)?).map(Some)
}

/// Parses a number in its only valid spelling: `+1` and `01` would be other names of layer 1.
fn number(digits: &str) -> Option<usize> {
    digits.parse::<usize>().ok().filter(|number| number.to_string() == digits)
}

fn fill(template: &str, placeholder: &str, number: Option<usize>) -> String {
    number.map_or_else(|| template.to_string(), |number| template.replace(placeholder, &number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_translates_back() {
        for architecture in architectures() {
            for rule in architecture.tensors() {
                let layer = rule.is_layered().then_some(17);
                let found = architecture.match_gguf(&rule.gguf_name(layer)).unwrap();
                assert!(std::ptr::eq(found.rule, rule) && found.layer == layer);
                assert_eq!(rule.hf.is_none(), rule.dropped.is_some(), "{}", rule.gguf);
                let found = Match { expert: rule.is_stacked().then_some(3), ..found };
                if let Some(hf_name) = found.hf_name() {
                    let back = architecture.match_hf(&hf_name).unwrap();
                    assert_eq!(back.gguf_name(), rule.gguf_name(layer));
                }
                if let Some(also) = &rule.also {
                    let back = architecture.match_hf(&fill(also, LAYER, layer)).unwrap();
                    assert_eq!(back.hf_name(), found.hf_name());
                }
            }
            for packed in &architecture.packed {
                let parts = architecture.match_packed(&fill(&packed.hf, LAYER, Some(17)));
                assert_eq!(parts.len(), packed.gguf.len());
                assert!(parts.iter().all(|part| part.rule.is_stacked() && part.layer == Some(17)));
            }
        }
    }

    #[test]
    fn families_are_found_by_every_name() {
        for architecture in architectures() {
            assert!(std::ptr::eq(by_gguf(architecture.gguf()).unwrap(), architecture));
            for class in architecture.hf_classes() {
                let (found, _) = by_class(None, Some(&class.model_type)).unwrap();
                assert!(std::ptr::eq(found, architecture));
            }
            assert!(architecture.hf_classes()[0].when.is_none());
        }
        assert!(by_gguf("mamba").is_none());
    }

    #[test]
    fn names_of_the_llama_family() {
        let llama = by_gguf("llama").unwrap();
        let hf_name = |gguf: &str| llama.match_gguf(gguf).and_then(|found| found.hf_name());
        assert_eq!(
            hf_name("blk.3.ffn_norm.weight").unwrap(),
            "model.layers.3.post_attention_layernorm.weight"
        );
        assert_eq!(hf_name("output.weight").unwrap(), "lm_head.weight");
        for unknown in ["blk.03.ffn_norm.weight", "blk.+3.ffn_norm.weight", "blk..ffn_norm.weight"] {
            assert!(llama.match_gguf(unknown).is_none(), "{unknown}");
        }
        let query = llama.match_hf("model.layers.0.self_attn.q_proj.weight").unwrap().rule;
        assert_eq!((query.role, query.permute), (Role::AttnQ, Permute::Q));
        let expert = llama.match_hf("model.layers.1.block_sparse_moe.experts.12.w3.weight").unwrap();
        assert_eq!((expert.gguf_name().as_str(), expert.expert), ("blk.1.ffn_up_exps.weight", Some(12)));
        for unknown in
            ["experts.w3.weight", "experts.01.w3.weight", "experts.1.w4.weight", "experts..w3.weight"]
        {
            assert!(
                llama.match_hf(&format!("model.layers.1.block_sparse_moe.{unknown}")).is_none(),
                "{unknown}"
            );
        }
        assert!(by_gguf("qwen2").unwrap().tensors().iter().all(|rule| rule.permute == Permute::None));
    }
}
