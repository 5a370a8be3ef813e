//! What the name of a model folder says: `SmolLM2-135M-Instruct` is the `Instruct` tuning of `SmolLM2` with 135M.
//!
//! The rules are those of gguf-py's `metadata.py`, odd ones included.

use std::sync::LazyLock;

use fancy_regex::Regex;

/// What parts of a name are, each joined by hyphens; nothing if there is no such part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Components {
    /// The name of the family: `Llama-3.2`.
    pub(super) basename: Option<String>,
    /// `1B`, `8x7B`.
    pub(super) size_label: Option<String>,
    /// `Instruct`.
    pub(super) finetune: Option<String>,
    /// `v0.3`.
    pub(super) version: Option<String>,
}

/// One part of a name, and what it is taken for; it can be several things at once.
#[derive(Debug)]
struct Part {
    text: String,
    basename: bool,
    size_label: bool,
    finetune: bool,
    version: bool,
    /// The name of a type of weights, which stands elsewhere.
    dtype: bool,
}

impl Part {
    fn has_meaning(&self) -> bool {
        self.size_label || self.finetune || self.version || self.dtype
    }
}

/// Size labels farther than this share of the parameters from their number are the length of the context, say.
const SIZE_TOLERANCE: (u64, u64) = (7, 8);

/// The whole text must match, in any case.
fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("(?i)^(?:{pattern})$")).expect("built-in pattern is valid")
}

static VERSION: LazyLock<Regex> = LazyLock::new(|| whole(r"(v|iter)?\d+([.]\d+)*"));
static DTYPE: LazyLock<Regex> = LazyLock::new(|| whole(r"i?q\d(_\w)*|b?fp?(16|32)"));
static SIZE: LazyLock<Regex> =
    LazyLock::new(|| whole(r"((a|\d+x)?\d+([._]\d+)?[kmbt]\d?|small|mini|medium|large|x?xl)"));
static FINETUNE: LazyLock<Regex> = LazyLock::new(|| whole("chat|instruct|vision|lora"));
static KEPT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(v\d+(?:\.\d+)*|\d.*)$").expect("built-in pattern is valid"));

fn matches(pattern: &Regex, text: &str) -> bool {
    pattern.is_match(text).unwrap_or(false)
}

/// `tiny-orders` as a title: `Tiny Orders`. Words with capitals, and versions, stay as they are.
pub(super) fn title(name: &str) -> String {
    let spaced = name.replace('-', " ");
    let words = spaced.split_whitespace().map(|word| {
        let is_lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        if !is_lower || matches(&KEPT, word) {
            return word.to_string();
        }
        let mut after_letter = false;
        let mut titled = String::with_capacity(word.len());
        for c in word.chars() {
            match after_letter {
                true => titled.push(c),
                false => titled.extend(c.to_uppercase()),
            }
            after_letter = c.is_alphabetic();
        }
        titled
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The organization, if `id` has one, and the name of the model. A sentence is a name as a whole.
pub(super) fn split_id(id: &str) -> (Option<&str>, &str) {
    match id.split_once('/').filter(|_| !id.contains(' ')) {
        // `./model` is a path.
        Some((organization, name)) => (Some(organization).filter(|o| !o.starts_with('.')), name),
        None => (None, id),
    }
}

/// What the parts of `name` mean for a model of `parameters`.
pub(super) fn components(name: &str, parameters: u64) -> Components {
    if name.contains(' ') {
        return Components::default();
    }
    let mut parts: Vec<_> = name
        .split('-')
        .filter(|text| !text.is_empty())
        .enumerate()
        .map(|(i, text)| classify(i, text, parameters))
        .collect();

    // Words for sizes count only where no number does.
    if parts.iter().any(|part| part.size_label && part.text.contains(|c: char| c.is_ascii_digit())) {
        for part in parts.iter_mut().filter(|part| part.text.chars().all(char::is_alphabetic)) {
            part.size_label = false;
        }
    }
    let mut at_start = true;
    for part in &mut parts {
        let starts_with_letter = part.text.starts_with(char::is_alphabetic);
        if at_start && (part.version || (!part.has_meaning() && starts_with_letter)) {
            part.basename = true;
        } else {
            at_start = false;
            part.finetune |= !part.has_meaning();
        }
    }
    for part in parts.iter_mut().rev() {
        if !(part.basename && part.has_meaning()) {
            break;
        }
        part.basename = false;
    }

    let texts = |keep: fn(&Part) -> bool| {
        let kept = parts.iter().filter(|part| keep(part)).map(|part| part.text.as_str());
        kept.collect::<Vec<_>>()
    };
    let join = |texts: Vec<&str>| (!texts.is_empty()).then(|| texts.join("-"));
    let mut size_labels = Vec::new();
    for label in texts(|part| part.size_label) {
        if !size_labels.contains(&label) {
            size_labels.push(label);
        }
    }
    let mut components = Components {
        basename: join(texts(|part| part.basename)),
        size_label: join(size_labels),
        finetune: join(texts(|part| part.finetune)),
        version: join(texts(|part| part.version && !part.basename)),
    };
    if components.size_label.is_none() && components.finetune.is_none() && components.version.is_none() {
        // A lone word could be anything.
        components.basename = None;
    }
    components
}

/// Part `i` of a name, without a thought of its neighbours.
fn classify(i: usize, text: &str, parameters: u64) -> Part {
    let text = text.to_string();
    let mut part =
        Part { text, basename: false, size_label: false, finetune: false, version: false, dtype: false };
    if matches(&VERSION, &part.text) {
        part.version = true;
    } else if matches(&DTYPE, &part.text) {
        part.dtype = true;
        part.text = part.text.to_uppercase();
    } else if i > 0 && matches(&SIZE, &part.text) {
        let (label, is_size) = size_label(&part.text, parameters);
        part.text = label;
        part.size_label = is_size;
        part.finetune = !is_size;
    } else if i > 0 && matches(&FINETUNE, &part.text) {
        part.finetune = true;
    }
    part
}

/// The usual spelling of a size, and whether it can be that of a model of `parameters`.
fn size_label(text: &str, parameters: u64) -> (String, bool) {
    let mut label: Vec<char> = text.replace('_', ".").chars().collect();
    if let [number @ .., unit, decimal] = label.as_slice()
        && decimal.is_ascii_digit()
    {
        // bloom-7b1
        label = [number, &['.', *decimal, *unit]].concat();
    }
    if let [.., digit, unit] = label.as_mut_slice()
        && digit.is_ascii_digit()
    {
        unit.make_ascii_uppercase();
    }
    let mut label = String::from_iter(label);
    let unit = label.pop().unwrap_or_default();
    let exponent = " KMBT".find(unit).map_or(-1, |at| at as i32);
    let is_size = match label.parse::<f64>() {
        Ok(number) if parameters > 0 => {
            let (share, whole) = SIZE_TOLERANCE;
            let tolerance = (share * parameters / whole) as f64;
            (number * 1000f64.powi(exponent) - parameters as f64).abs() <= tolerance
        }
        _ => true,
    };
    label.push(if is_size { unit } else { unit.to_ascii_lowercase() });
    (label, is_size)
}

/// The number of parameters in two digits at least: `135M`, `1.7B`.
pub(super) fn rounded(parameters: u64) -> String {
    let exact = parameters as f64;
    let (scaled, unit) = match exact {
        n if n > 1e12 => (n * 1e-12, 'T'),
        n if n > 1e9 => (n * 1e-9, 'B'),
        n if n > 1e6 => (n * 1e-6, 'M'),
        n => (n * 1e-3, 'K'),
    };
    let whole = scaled.round_ties_even() as u64;
    let digits = if whole == 0 { 0 } else { whole.to_string().len() };
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of gguf-py's `get_model_id_components`.
    #[test]
    fn names_are_taken_apart_as_by_the_peer() {
        type Case = (&'static str, u64, [Option<&'static str>; 4]);
        const CASES: &[Case] = &[
            ("SmolLM2-135M-Instruct", 134515008, [Some("SmolLM2"), Some("135M"), Some("Instruct"), None]),
            ("tiny-orders", 852608, [None, None, None, None]),
            (
                "Mistral-7B-Instruct-v0.3",
                7248023552,
                [Some("Mistral"), Some("7B"), Some("Instruct"), Some("v0.3")],
            ),
            ("Llama-3.2-1B", 1235814400, [Some("Llama-3.2"), Some("1B"), None, None]),
            ("Mixtral-8x7B-v0.1", 46702792704, [Some("Mixtral"), Some("8x7B"), None, Some("v0.1")]),
            ("bloom-7b1", 7069016064, [Some("bloom"), Some("7.1B"), None, None]),
            ("Phi-3-mini-4k-instruct", 3821079552, [Some("Phi-3"), Some("mini"), Some("4k-instruct"), None]),
            (
                "Qwen2.5-0.5B-Instruct-bf16",
                494032768,
                [Some("Qwen2.5"), Some("0.5B"), Some("Instruct"), None],
            ),
            ("Phi-3-mini", 3821079552, [Some("Phi-3"), Some("mini"), None, None]),
            ("gpt2", 1000, [None, None, None, None]),
            ("my model 7B", 7000000000, [None, None, None, None]),
            ("--x--chat-", 10, [Some("x"), None, Some("chat"), None]),
            ("llama-2", 5, [Some("llama"), None, None, Some("2")]),
            ("v1-7b", 7000000000, [Some("v1"), Some("7B"), None, None]),
            ("Yi-1.5-9B-Chat-16K", 8829407232, [Some("Yi-1.5"), Some("9B"), Some("Chat-16k"), None]),
            ("a-1B-1b", 1000000000, [Some("a"), Some("1B"), None, None]),
            ("Qwen3-30B-A3B", 30532122624, [Some("Qwen3"), Some("30B-A3B"), None, None]),
        ];
        for (name, parameters, [basename, size_label, finetune, version]) in CASES {
            let text = |part: &Option<&str>| part.map(str::to_string);
            let expected = Components {
                basename: text(basename),
                size_label: text(size_label),
                finetune: text(finetune),
                version: text(version),
            };
            assert_eq!(components(name, *parameters), expected, "{name}");
        }
    }

    #[test]
    fn titles() {
        const CASES: &[(&str, &str)] = &[
            ("tiny-orders", "Tiny Orders"),
            ("SmolLM2-135M-Instruct", "SmolLM2 135M Instruct"),
            ("mistral-7b-instruct-v0.3", "Mistral 7b Instruct v0.3"),
            ("qwen2.5_x-3.1x", "Qwen2.5_X 3.1x"),
            ("  a--b", "A B"),
            ("llama3.2b's", "Llama3.2B'S"),
        ];
        for (name, expected) in CASES {
            assert_eq!(title(name), *expected);
        }
    }

    #[test]
    fn parameters_are_rounded_as_by_the_peer() {
        const CASES: &[(u64, &str)] = &[
            (0, "0.00K"),
            (12, "0.01K"),
            (500, "0.50K"),
            (9500, "10K"),
            (9949, "10K"),
            (852608, "853K"),
            (134515008, "135M"),
            (1235814400, "1.2B"),
            (1000000000, "1000M"),
            (70553706496, "71B"),
            (405000000000, "405B"),
            (1500000000000, "1.5T"),
        ];
        for (parameters, expected) in CASES {
            assert_eq!(rounded(*parameters), *expected);
        }
    }
}
