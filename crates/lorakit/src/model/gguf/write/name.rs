//! The parts of a model's name: `Llama-3.2-1B-Instruct` is Llama 3.2, of size 1B, tuned as Instruct.
//!
//! The conventions are those of llama.cpp's converter, so `general.*` is what other tools expect.

use std::sync::LazyLock;

use fancy_regex::Regex;

/// A model's name and its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::model) struct Name {
    pub(in crate::model) name: Option<String>,
    pub(in crate::model) organization: Option<String>,
    pub(in crate::model) basename: Option<String>,
    pub(in crate::model) finetune: Option<String>,
    pub(in crate::model) version: Option<String>,
    pub(in crate::model) size_label: Option<String>,
}

/// The roles of one part of a name, between hyphens.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    basename: bool,
    version: bool,
    dtype: bool,
    size: bool,
    finetune: bool,
}

impl Kinds {
    fn count(self) -> usize {
        [self.basename, self.version, self.dtype, self.size, self.finetune].into_iter().filter(|&k| k).count()
    }
}

fn pattern(text: &str) -> Regex {
    Regex::new(&format!("^(?i:{text})$")).expect("built-in pattern")
}

static VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:v|iter)?\d+(?:[.]\d+)*"));
static DTYPE: LazyLock<Regex> = LazyLock::new(|| pattern(r"i?q\d(?:_\w)*|b?fp?(?:16|32)"));
static SIZE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:(?:a|\d+x)?\d+(?:[._]\d+)?[kmbt]\d?|small|mini|medium|large|x?xl)"));
static FINETUNE: LazyLock<Regex> = LazyLock::new(|| pattern("chat|instruct|vision|lora"));

fn is(regex: &Regex, part: &str) -> bool {
    regex.is_match(part).unwrap_or(false)
}

impl Name {
    /// Takes apart `id`, a folder's name or `organization/name`; `parameters` tells sizes from context lengths.
    pub(in crate::model) fn of(id: &str, parameters: u64) -> Name {
        if id.contains(' ') {
            // A sentence, not an identifier.
            return Name { name: Some(id.to_string()), ..Name::default() };
        }
        let (organization, full) = match id.split_once('/') {
            Some((organization, full)) => (Some(organization).filter(|o| !o.starts_with('.')), full),
            None => (None, id),
        };
        let mut parts: Vec<(String, Kinds)> = full
            .split('-')
            .filter(|part| !part.is_empty())
            .enumerate()
            .map(|(i, part)| kinds_of(i, part, parameters))
            .collect();
        drop_words_for_sizes(&mut parts);
        mark_basename(&mut parts);

        let joined = |wanted: &dyn Fn(&Kinds) -> bool| {
            let found: Vec<&str> =
                parts.iter().filter(|(_, kinds)| wanted(kinds)).map(|(part, _)| part.as_str()).collect();
            (!found.is_empty()).then(|| found.join("-"))
        };
        let mut sizes: Vec<&str> = Vec::new();
        for (part, kinds) in &parts {
            if kinds.size && !sizes.contains(&part.as_str()) {
                sizes.push(part);
            }
        }
        let size_label = (!sizes.is_empty()).then(|| sizes.join("-"));
        let finetune = joined(&|kinds| kinds.finetune);
        let version = joined(&|kinds| kinds.version && !kinds.basename);
        // A name without any other part could be anything.
        let clear = size_label.is_some() || finetune.is_some() || version.is_some();
        Name {
            name: Some(full.to_string()),
            organization: organization.map(str::to_string),
            basename: joined(&|kinds| kinds.basename).filter(|_| clear),
            finetune,
            version,
            size_label,
        }
    }
}

fn kinds_of(i: usize, part: &str, parameters: u64) -> (String, Kinds) {
    let mut kinds = Kinds::default();
    let mut part = part.to_string();
    if is(&VERSION, &part) {
        kinds.version = true;
    } else if is(&DTYPE, &part) {
        kinds.dtype = true;
        part = part.to_uppercase();
    } else if i > 0 && is(&SIZE, &part) {
        part = size(&part);
        // A number far from the model's size is a context length.
        let label = label_parameters(&part);
        let far = |label: f64| (label - parameters as f64).abs() > (7 * parameters / 8) as f64;
        if parameters > 0 && label.is_some_and(far) {
            kinds.finetune = true;
            let (head, last) = part.split_at(part.len() - 1);
            part = format!("{head}{}", last.to_lowercase());
        } else {
            kinds.size = true;
        }
    } else if i > 0 && is(&FINETUNE, &part) {
        kinds.finetune = true;
    }
    (part, kinds)
}

/// `7b` as `7B`, `7b1` as `7.1B`.
fn size(part: &str) -> String {
    let mut chars: Vec<char> = part.replace('_', ".").chars().collect();
    if let [.., unit, digit] = chars[..]
        && digit.is_ascii_digit()
    {
        chars.truncate(chars.len() - 2);
        chars.extend(['.', digit, unit]);
    }
    if let [.., before, unit] = &mut chars[..]
        && before.is_ascii_digit()
        && "kmbt".contains(*unit)
    {
        *unit = unit.to_ascii_uppercase();
    }
    chars.into_iter().collect()
}

/// The number of parameters that `7B` stands for, if the part has that form.
fn label_parameters(part: &str) -> Option<f64> {
    let (number, unit) = part.split_at_checked(part.len().checked_sub(1)?)?;
    let exponent = " KMBT".find(unit).map_or(-1, |position| position as i32);
    Some(number.parse::<f64>().ok()? * 1000f64.powi(exponent))
}

/// Words such as `small` are not sizes if there is also a number.
fn drop_words_for_sizes(parts: &mut [(String, Kinds)]) {
    let numbered =
        parts.iter().any(|(part, kinds)| kinds.size && part.contains(|c: char| c.is_ascii_digit()));
    for (part, kinds) in parts.iter_mut().filter(|_| numbered) {
        kinds.size &= !part.chars().all(char::is_alphabetic);
    }
}

/// The first parts that are just words, and versions between them, make up the base's name.
fn mark_basename(parts: &mut [(String, Kinds)]) {
    let mut at_start = true;
    for (part, kinds) in parts.iter_mut() {
        let word = kinds.count() == 0 && part.starts_with(char::is_alphabetic);
        if at_start && (word || kinds.version) {
            kinds.basename = true;
        } else {
            at_start = false;
            kinds.finetune |= kinds.count() == 0;
        }
    }
    for (_, kinds) in parts.iter_mut().rev() {
        if !kinds.basename || kinds.count() < 2 {
            break;
        }
        kinds.basename = false;
    }
}

/// `tiny-orders` as `Tiny Orders`; words with capitals, and versions, stay as they are.
pub(in crate::model) fn title(id: &str) -> String {
    let titled = |word: &str| {
        let lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        let version = word.starts_with(|c: char| c.is_ascii_digit())
            || word
                .strip_prefix('v')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && is(&VERSION, word));
        if !lower || version {
            return word.to_string();
        }
        let mut inside = false;
        let letter = |c: char| {
            let first = !std::mem::replace(&mut inside, c.is_alphabetic());
            if first { c.to_uppercase().to_string() } else { c.to_string() }
        };
        word.chars().map(letter).collect()
    };
    id.replace('-', " ").split_whitespace().map(titled).collect::<Vec<_>>().join(" ")
}

/// `135M`, `8x7.1B`: the number of parameters to two digits.
pub(in crate::model) fn size_label(total: u64, shared: u64, expert: u64, experts: u64) -> String {
    match experts {
        0 => rounded(total),
        experts => format!("{experts}x{}", rounded(shared + expert)),
    }
}

fn rounded(parameters: u64) -> String {
    let n = parameters as f64;
    let (scaled, unit) = match parameters {
        1_000_000_000_001.. => (n * 1e-12, "T"),
        1_000_000_001.. => (n * 1e-9, "B"),
        1_000_001.. => (n * 1e-6, "M"),
        _ => (n * 1e-3, "K"),
    };
    let digits = match scaled.round_ties_even() as u64 {
        0 => 0,
        whole => whole.to_string().len(),
    };
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(id, parameters, [organization, basename, finetune, version, size])`, as llama.cpp's converter has them.
    const NAMES: &[(&str, u64, [Option<&str>; 5])] = &[
        ("tiny-orders", 853_000, [None, None, None, None, None]),
        (
            "Llama-3.2-1B-Instruct",
            1_240_000_000,
            [None, Some("Llama-3.2"), Some("Instruct"), None, Some("1B")],
        ),
        (
            "Mistral-7B-Instruct-v0.3",
            7_250_000_000,
            [None, Some("Mistral"), Some("Instruct"), Some("v0.3"), Some("7B")],
        ),
        (
            "Phi-3-mini-4k-instruct",
            3_820_000_000,
            [None, Some("Phi-3"), Some("4k-instruct"), None, Some("mini")],
        ),
        ("SmolLM2-135M-Instruct", 134_515_008, [None, Some("SmolLM2"), Some("Instruct"), None, Some("135M")]),
        ("Mixtral-8x7B-v0.1", 46_700_000_000, [None, Some("Mixtral"), None, Some("v0.1"), Some("8x7B")]),
        (
            "bigscience/bloom-7b1",
            7_100_000_000,
            [Some("bigscience"), Some("bloom"), None, None, Some("7.1B")],
        ),
        ("gemma-2-2b-it-q4_0", 2_600_000_000, [None, Some("gemma-2"), Some("it"), None, Some("2B")]),
    ];

    #[test]
    fn parts_of_names() {
        for (id, parameters, [organization, basename, finetune, version, size]) in NAMES {
            let name = Name::of(id, *parameters);
            let found = [&name.organization, &name.basename, &name.finetune, &name.version, &name.size_label];
            assert_eq!(
                found.map(Option::as_deref),
                [*organization, *basename, *finetune, *version, *size],
                "{id}"
            );
        }
    }

    #[test]
    fn titles() {
        for (id, expected) in [
            ("tiny-orders", "Tiny Orders"),
            ("SmolLM2-135M-instruct", "SmolLM2 135M Instruct"),
            ("llama3b-v0.1", "Llama3B v0.1"),
            ("v2x-2b", "V2X 2b"),
        ] {
            assert_eq!(title(id), expected);
        }
    }

    #[test]
    fn sizes() {
        for (total, expected) in [
            (853_760, "854K"),
            (134_515_008, "135M"),
            (1_235_814_400, "1.2B"),
            (500, "0.50K"),
            (9_960_000, "10M"),
        ] {
            assert_eq!(size_label(total, total, 0, 0), expected);
        }
        assert_eq!(size_label(46_700_000_000, 1_600_000_000, 5_600_000_000, 8), "8x7.2B");
    }
}
