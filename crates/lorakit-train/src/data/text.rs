//! Between text and tokens: a tokenizer, the chat template that goes with it, and what both call special.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::{PostProcessorWrapper, Tokenizer};

use super::mask::Manner;
use super::problem::Problem;
use super::template::{Context, Template};
use crate::{Error, Result};

/// Between text and tokens: a tokenizer, the chat template that goes with it, and what both call special.
///
/// One path leads from a conversation to tokens, in training, evaluation and generation: the template makes it text,
/// and the tokenizer adds nothing to that.
#[derive(Debug)]
pub struct Text {
    /// Adds no special tokens, neither truncates nor pads.
    pub tokenizer: Tokenizer,
    /// What makes text of conversations.
    pub template: Option<Template>,
    /// The token that begins every text.
    pub bos: Option<(u32, String)>,
    /// The token that ends a text that has no template.
    pub eos: Option<u32>,
    /// The tokens at which the model stops.
    pub ends: Vec<u32>,
    /// What templates see besides the conversation: special tokens by their names (`bos_token`), and what the user adds
    /// (`enable_thinking: false`), which must be the same in training, evaluation and generation.
    pub variables: Map<String, Value>,
    /// Tokens that the model knows: the rows of its embeddings.
    pub vocabulary: usize,
    /// What the tokenizer puts before a text that has no template.
    front: Vec<u32>,
}

/// A text as tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Encoded {
    pub(super) tokens: Vec<u32>,
    /// The bytes of the text that each token stands for; tokens within a character all have its bytes.
    pub(super) places: Vec<(usize, usize)>,
}

impl Text {
    /// `special` names special tokens, as `tokenizer_config.json` does: `{"eos_token": "<|im_end|>"}`. `ends` are the
    /// ids at which the model stops, to which `eos_token` is added.
    ///
    /// # Errors
    ///
    /// A special token is not one of the tokenizer's, which would write it in several tokens.
    pub fn new(
        mut tokenizer: Tokenizer,
        template: Option<Template>,
        special: &Map<String, Value>,
        ends: Vec<u32>,
    ) -> Result<Self> {
        let front = front(&tokenizer)?;
        // It would cut white space off the places of tokens.
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| unreadable(&error))?;
        let token = |name: &'static str| match special.get(name).and_then(Value::as_str) {
            Some(text) => match tokenizer.token_to_id(text) {
                Some(id) => Ok(Some((id, text.to_string()))),
                None => Err(Error::from(Problem::NoToken { name, token: text.to_string() })),
            },
            None => Ok(None),
        };
        let (bos, eos) = (token("bos_token")?, token("eos_token")?.map(|(id, _)| id));
        let mut all: Vec<u32> = Vec::new();
        for id in ends.into_iter().chain(eos) {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        let vocabulary = tokenizer.get_vocab_size(true);
        let eos = eos.or(all.first().copied());
        let variables = special.clone();
        Ok(Self { tokenizer, template, bos, eos, ends: all, variables, vocabulary, front })
    }

    /// What a folder of transformers says: `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and
    /// `config.json`, and the template in `chat_template.jinja`, else in `tokenizer_config.json`.
    ///
    /// # Errors
    ///
    /// There is no `tokenizer.json`, or one of the files is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::of(folder, &|name| read(&folder.join(name)))
    }

    /// As [`Self::open`], from files that `read` finds by their names in a folder; errors name `place`.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn of(place: &Path, read: &dyn Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        let at = |name: &str| place.join(name);
        let text = |name: &str| -> Result<Option<String>> {
            let bytes = read(name)?;
            let text =
                bytes.map(|bytes| String::from_utf8(bytes).map_err(|error| not_json(&error).at(&at(name))));
            text.transpose()
        };
        let json = |name: &str| -> Result<Value> {
            let value = text(name)?
                .map(|text| serde_json::from_str(&text).map_err(|error| not_json(&error).at(&at(name))));
            Ok(value.transpose()?.unwrap_or_default())
        };
        let Some(tokenizer) = read("tokenizer.json")? else {
            return Err(Error::from(Problem::NoTokenizer).at(place));
        };
        let file = at("tokenizer.json");
        let parsed = serde_json::from_slice(&tokenizer).map_err(|error| not_json(&error).at(&file))?;
        lorakit::inside::check_tokenizer(&parsed).map_err(|error| error.at(&file))?;
        let tokenizer = Tokenizer::from_bytes(&tokenizer).map_err(|error| unreadable(&error).at(&file))?;
        let about = json("tokenizer_config.json")?;
        let mut ends = Vec::new();
        for name in ["generation_config.json", "config.json"] {
            let config = json(name)?;
            ends.extend(ids(&config["eos_token_id"]));
            ends.extend(ids(&config["text_config"]["eos_token_id"]));
        }
        let mut sources = Vec::new();
        if let Some(source) = text("chat_template.jinja")? {
            sources.push(("default".to_string(), source));
            let tools = text("additional_chat_templates/tool_use.jinja")?;
            sources.extend(tools.map(|source| ("tool_use".to_string(), source)));
        } else {
            sources = named(&about["chat_template"]);
        }
        let template = match sources.is_empty() {
            true => None,
            false => Some(Template::named(sources).map_err(|error| error.at(place))?),
        };
        Self::new(tokenizer, template, &special(&about), ends).map_err(|error| error.at(place))
    }

    /// The tokens of `text`, and nothing else.
    pub(super) fn encode(&self, text: &str) -> Result<Encoded> {
        let encoding = self.tokenizer.encode(text, false).map_err(|error| unreadable(&error))?;
        Ok(Encoded { tokens: encoding.get_ids().to_vec(), places: encoding.get_offsets().to_vec() })
    }

    /// The tokens of `text` after what the tokenizer puts before every text; for texts that have no template.
    pub(super) fn encode_plain(&self, text: &str) -> Result<Encoded> {
        let mut encoded = Encoded { tokens: self.front.clone(), places: vec![(0, 0); self.front.len()] };
        let of_text = self.encode(text)?;
        encoded.tokens.extend(of_text.tokens);
        encoded.places.extend(of_text.places);
        Ok(encoded)
    }

    /// The tokens of a text that has no template, after what the tokenizer puts before every text.
    ///
    /// # Errors
    ///
    /// They begin with two tokens that begin a text.
    pub fn plain(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.encode_plain(text)?.tokens;
        self.check_front(&tokens)?;
        Ok(tokens)
    }

    /// The tokens after which the model answers `messages`, which are objects with `role` and `content`.
    ///
    /// # Errors
    ///
    /// There is no template, it refuses the messages, or they become two tokens that begin a text.
    pub fn prompt(&self, messages: &[Value], tools: Option<&Value>) -> Result<Vec<u32>> {
        let template = self.template.as_ref().ok_or(Problem::NoTemplate)?;
        let context = Context { messages, tools, prompt: true, variables: &self.variables };
        let encoded = self.encode(&template.render(context)?.text)?;
        self.check_front(&encoded.tokens)?;
        Ok(encoded.tokens)
    }

    /// The text of tokens, with or without special ones.
    ///
    /// # Errors
    /// If the tokenizer cannot decode them.
    pub fn decoded(&self, tokens: &[u32], without_special: bool) -> Result<String> {
        self.tokenizer.decode(tokens, without_special).map_err(|error| unreadable(&error))
    }

    /// The tokens that end an answer: those at which the model stops, and what the template writes after answers, where
    /// that is one token.
    ///
    /// # Errors
    ///
    /// The tokenizer refuses what the template writes.
    pub fn turn_ends(&self) -> Result<Vec<u32>> {
        let mut ends = self.ends.clone();
        let special = self.special_texts();
        let written =
            self.template.as_ref().map(|template| Manner::of(template, &self.variables, &special).ends);
        for end in written.into_iter().flatten().filter(|end| special.contains(end)) {
            if let [token] = self.encode(&end)?.tokens[..]
                && !ends.contains(&token)
            {
                ends.push(token);
            }
        }
        Ok(ends)
    }

    /// Models are trained on one token that begins a text.
    pub(super) fn check_front(&self, tokens: &[u32]) -> Result<()> {
        match (&self.bos, tokens) {
            (Some((bos, name)), [first, second, ..]) if first == bos && second == bos => {
                Err(Problem::TwoBos { token: name.clone() }.into())
            }
            _ => Ok(()),
        }
    }

    /// The texts of the tokens that no text should hold: special ones, and those at which the model stops.
    pub(super) fn special_texts(&self) -> Vec<String> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(_, token)| token.content.clone());
        let ends = self.ends.iter().filter_map(|id| self.tokenizer.id_to_token(*id));
        let mut texts: Vec<String> = special.chain(ends).filter(|text| !text.is_empty()).collect();
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        texts.dedup();
        texts
    }
}

/// What `tokenizer` puts before a text. What it puts after one is not used: it may be the token that ends it, or not.
fn front(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let ids = |special| -> Result<Vec<u32>> {
        let encoding = tokenizer.encode("a", special).map_err(|error| unreadable(&error))?;
        Ok(encoding.get_ids().to_vec())
    };
    let (with, without) = (ids(true)?, ids(false)?);
    let starts = with.windows(without.len().max(1)).position(|window| window == without);
    Ok(with[..starts.unwrap_or(0)].to_vec())
}

fn unreadable(error: &tokenizers::Error) -> Error {
    Problem::Tokenizer { reason: error.to_string() }.into()
}

/// The content of a file, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match crate::files::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(lorakit_tensor::Error::io("read", path, error).into()),
    }
}

fn not_json(error: &impl ToString) -> Error {
    Problem::NotJson { reason: error.to_string() }.into()
}

/// One id or several.
fn ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value.as_array() {
        Some(several) => several.iter().filter_map(one).collect(),
        None => one(value).into_iter().collect(),
    }
}

/// Templates by name: one source, or a list of names and sources.
fn named(value: &Value) -> Vec<(String, String)> {
    let pair =
        |value: &Value| Some((value["name"].as_str()?.to_string(), value["template"].as_str()?.to_string()));
    match value {
        Value::String(source) => vec![("default".to_string(), source.clone())],
        Value::Array(list) => list.iter().filter_map(pair).collect(),
        _ => Vec::new(),
    }
}

/// Special tokens by name; each is a text, or an object with one.
fn special(about: &Value) -> Map<String, Value> {
    let text = |value: &Value| match value {
        Value::Object(token) => token.get("content").cloned(),
        Value::String(_) => Some(value.clone()),
        _ => None,
    };
    let entries = about.as_object().into_iter().flatten();
    let named = entries.filter(|(name, _)| name.ends_with("_token"));
    let mut tokens: Map<String, Value> =
        named.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
    for (name, value) in about["extra_special_tokens"].as_object().into_iter().flatten() {
        tokens.extend(text(value).map(|value| (name.clone(), value)));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::data::testing::fixtures;

    fn tokenizer() -> Value {
        let text = std::fs::read(fixtures().join("tiny-orders/tokenizer.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn folder(files: &[(&str, Value)]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        folder
    }

    #[test]
    fn folders_say_what_is_special() {
        let about = json!({
            "bos_token": {"content": "<|im_start|>", "lstrip": false},
            "eos_token": "<|im_end|>",
            "pad_token": null,
            "extra_special_tokens": {"image_token": "<|endoftext|>"},
            "chat_template": [
                {"name": "default", "template": "{{ bos_token }}D{{ image_token }}{{ mode }}"},
                {"name": "tool_use", "template": "T{{ tools | length }}"},
            ],
        });
        let folder = folder(&[
            ("tokenizer.json", tokenizer()),
            ("tokenizer_config.json", about),
            ("generation_config.json", json!({"eos_token_id": [0, 2]})),
            ("config.json", json!({"text_config": {"eos_token_id": 5}})),
        ]);
        let mut text = Text::open(folder.path()).unwrap();
        assert_eq!(
            (text.bos.clone(), text.eos, text.ends.clone()),
            (Some((1, "<|im_start|>".into())), Some(2), vec![0, 2, 5])
        );
        text.variables.insert("mode".into(), "M".into());
        let messages = [json!({"role": "user", "content": "a"})];
        let prompt = |tools: Option<&Value>| {
            let tokens = text.prompt(&messages, tools).unwrap();
            text.tokenizer.decode(&tokens, false).unwrap()
        };
        assert_eq!(prompt(None), "<|im_start|>D<|endoftext|>M");
        assert_eq!(prompt(Some(&json!([1, 2]))), "T2");
    }

    #[test]
    fn plain_texts_begin_as_the_tokenizer_says() {
        let mut json = tokenizer();
        let special = json!({"SpecialToken": {"id": "<|im_start|>", "type_id": 0}});
        let sequence = json!({"Sequence": {"id": "A", "type_id": 0}});
        json["post_processor"] = json!({"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            {
                "type": "TemplateProcessing",
                "single": [special, sequence],
                "pair": [special, sequence],
                "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
            },
        ]});
        let folder = folder(&[("tokenizer.json", json)]);
        let text = Text::open(folder.path()).unwrap();
        let (plain, own) = (text.encode_plain(" a\n b").unwrap(), text.encode(" a\n b").unwrap());
        assert_eq!((plain.tokens[0], &plain.tokens[1..]), (1, &own.tokens[..]));
        // White space belongs to tokens: what is trained is decided by their places.
        let mut end = 0;
        for (from, to) in own.places {
            assert_eq!(from, end);
            end = to;
        }
        assert_eq!(end, 5);
    }

    #[test]
    fn damaged_folders_are_refused() {
        let refused = |files: &[(&str, Value)]| {
            let error = Text::open(folder(files).path()).unwrap_err().to_string();
            error.split_once("`: ").unwrap().1.to_string()
        };
        let open = folder(&[("tokenizer.json", tokenizer())]);
        std::fs::write(open.path().join("config.json"), "{").unwrap();
        let open = Text::open(open.path()).unwrap_err().to_string();
        let eos = ("tokenizer_config.json", json!({"eos_token": "</s>"}));
        let damaged = refused(&[("tokenizer.json", json!({"model": 1}))]);
        assert!(damaged.starts_with("the tokenizer: "), "{damaged}");
        let found = [
            refused(&[]),
            refused(&[("tokenizer.json", tokenizer()), eos]),
            open.rsplit_once('/').unwrap().1.to_string(),
        ];
        insta::assert_snapshot!(found.join("\n"), @r"
    has no `tokenizer.json`
    `eos_token` is `</s>`, which is not a token of the tokenizer
    config.json`: is not JSON: EOF while parsing an object at line 1 column 1
    ");
    }
}
