//! How byte-level tokenizers cut text before they merge, by the name in `tokenizer.ggml.pre`.
//!
//! The patterns are those of the `tokenizer.json` for which the name was given; llama.cpp's own patterns emulate them.

use serde_json::{Value, json};

use crate::Result;
use crate::model::tokenizer::Problem;

/// A way to cut text.
#[derive(Debug)]
pub(in crate::model) struct Split {
    names: &'static [&'static str],
    steps: &'static [Step],
    /// Whether text is first composed to NFC.
    nfc: bool,
    /// Whether a piece that is a token as a whole is taken without merges.
    pub(in crate::model) ignore_merges: bool,
    /// Whether text begins with bos if the file does not say.
    pub(in crate::model) add_bos: bool,
}

/// One pass over the pieces of the previous pass.
#[derive(Debug)]
enum Step {
    /// Matches, and the texts between them, become pieces.
    Pattern(&'static str),
    /// Every digit becomes a piece.
    Digits,
    /// GPT-2's pattern, which is built into the byte-level step.
    Gpt2,
}
use Step::{Digits, Gpt2, Pattern};

const PLAIN: Split = Split { names: &[], steps: &[], nfc: false, ignore_merges: false, add_bos: false };

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Cased letters in the Unicode version that DeepSeek used.
const DEEPSEEK_LETTERS: &str = include_str!("deepseek_letters.regex").trim_ascii_end();
const CJK: &str = "[\u{4e00}-\u{9fa5}\u{0800}-\u{4e00}\u{ac00}-\u{d7ff}]+";
const CJK_KANA: &str = "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// The known ways.
const SPLITS: &[Split] = &[
    Split { names: &["gpt-2", "phi-2"], steps: &[Gpt2], ..PLAIN },
    Split { names: &["smollm", "starcoder", "refact", "codeshell"], steps: &[Digits, Gpt2], ..PLAIN },
    Split {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0", "lfm2"],
        steps: &[Pattern(LLAMA3)],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Split { names: &["smaug-bpe", "dbrx"], steps: &[Pattern(LLAMA3)], ..PLAIN },
    Split { names: &["qwen2", "deepseek-r1-qwen", "megrez"], steps: &[Pattern(QWEN2)], nfc: true, ..PLAIN },
    Split { names: &["tekken"], steps: &[Pattern(TEKKEN)], ignore_merges: true, add_bos: true, ..PLAIN },
    Split { names: &["gpt-4o", "llama4"], steps: &[Pattern(GPT_4O)], ..PLAIN },
    Split {
        names: &["deepseek-llm"],
        steps: &[
            Pattern(r"[\r\n]"),
            Pattern(DEEPSEEK_LETTERS),
            Pattern("\\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+"),
            Pattern(r"\s+$"),
            Pattern(CJK),
            Digits,
        ],
        ..PLAIN
    },
    Split {
        names: &["deepseek-coder"],
        steps: &[Pattern(r"[\r\n]"), Pattern(r"\s?\p{L}+"), Pattern(r"\s?\p{P}+"), Pattern(CJK), Digits],
        ..PLAIN
    },
    Split {
        names: &["deepseek-v3"],
        steps: &[Pattern(r"\p{N}{1,3}"), Pattern(CJK_KANA), Pattern(DEEPSEEK3)],
        ..PLAIN
    },
    Split {
        names: &["default"],
        steps: &[
            Pattern(r"[\p{P}$+<=>^~|]+"),
            Pattern(GPT2),
            Pattern(r"\p{N}+"),
            Pattern(r"[0-9][0-9][0-9]"),
        ],
        ..PLAIN
    },
];

impl Split {
    /// The way called `name`.
    ///
    /// # Errors
    /// `Unsupported` with the known names.
    pub(in crate::model) fn find(name: &str) -> Result<&'static Split> {
        SPLITS.iter().find(|split| split.names.contains(&name)).ok_or_else(|| {
            let known = SPLITS.iter().flat_map(|split| split.names).copied().collect();
            Problem::NamedRule { rule: name.escape_debug().to_string(), known }.into()
        })
    }

    /// The first name of the way in which a `tokenizer.json` with these members cuts text, if it is known.
    pub(in crate::model) fn of_pre_tokenizer(
        normalizer: &Value,
        pre_tokenizer: &Value,
    ) -> Option<&'static str> {
        let steps = steps(pre_tokenizer);
        let same = |split: &&Split| {
            split.normalizer() == *normalizer && self::steps(&split.pre_tokenizer()) == steps
        };
        SPLITS.iter().find(same)?.names.first().copied()
    }

    /// `normalizer` of `tokenizer.json`.
    pub(in crate::model) fn normalizer(&self) -> Value {
        if self.nfc { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// `pre_tokenizer` of `tokenizer.json`.
    pub(in crate::model) fn pre_tokenizer(&self) -> Value {
        let step = |step: &Step| match step {
            Pattern(regex) => Some(json!({
                "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false
            })),
            Digits => Some(json!({"type": "Digits", "individual_digits": true})),
            Gpt2 => None,
        };
        let mut steps: Vec<_> = self.steps.iter().filter_map(step).collect();
        let use_regex = self.steps.iter().any(|step| matches!(step, Gpt2));
        steps.push(json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex
        }));
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

/// The steps of a pre-tokenizer, whether it is a sequence or a single step. The trimming of offsets is left out,
/// because it does not affect the pieces.
fn steps(pre_tokenizer: &Value) -> Vec<Value> {
    let steps = match &pre_tokenizer["pretokenizers"] {
        Value::Array(steps) => steps.clone(),
        _ => vec![pre_tokenizer.clone()],
    };
    let known = |mut step: Value| {
        if let Some(step) = step.as_object_mut() {
            step.remove("trim_offsets");
        }
        step
    };
    steps.into_iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_patterns_compile() {
        let names: Vec<_> = SPLITS.iter().flat_map(|split| split.names).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name}");
        }
        for split in SPLITS {
            for step in split.steps {
                if let Pattern(regex) = step {
                    fancy_regex::Regex::new(regex).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_pre_tokenizer_tells_its_name() {
        for split in SPLITS {
            let name = Split::of_pre_tokenizer(&split.normalizer(), &split.pre_tokenizer()).unwrap();
            assert_eq!(Split::find(name).unwrap().pre_tokenizer(), split.pre_tokenizer());
        }
        let alone =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
        assert_eq!(Split::of_pre_tokenizer(&Value::Null, &alone), Some("gpt-2"));
        let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
        assert_eq!(Split::of_pre_tokenizer(&Value::Null, &prefixed), None);
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = Split::find("viking").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::File(lorakit_tensor::ErrorKind::Unsupported));
        assert!(error.to_string().contains("`viking`") && error.to_string().contains("smollm"), "{error}");
    }
}
