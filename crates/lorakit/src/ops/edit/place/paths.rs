//! New paths in PEFT's configuration, where its lists and patterns name whole paths.

use std::collections::HashSet;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use crate::adapter::{Adapter, AdapterConfig};
use crate::arch::names::{after_dots, ends, module_of};
use crate::ops::edit::prefix::{Prefixes, paths};
use crate::ops::edit::problem::{Problem, modules as modules_of};
use crate::ops::edit::work::Work;
use crate::{Error, Result};

/// Fields that are lists of names, or objects whose keys are names; a name means every path that ends with it.
const NAMES: &[&str] =
    &["target_modules", "exclude_modules", "target_parameters", "modules_to_save", "trainable_token_indices"];
/// Objects whose keys are regular expressions for ends of paths.
const PATTERNS: &[&str] = &["rank_pattern", "alpha_pattern"];

/// The names in a configuration, and what becomes of them.
struct Names<'a> {
    prefixes: &'a Prefixes,
    paths: HashSet<&'a str>,
    /// The ends of all paths that are not whole paths.
    ends: HashSet<&'a str>,
}

/// Renames what names a whole path. The result gives every module the rank and the alpha that it had, and targets the
/// modules that were targeted.
///
/// # Errors
/// `ErrorKind::Inexpressible` if a pattern would mean something else.
pub(super) fn rename_config(work: &mut Work<'_>, prefixes: &Prefixes) -> Result<()> {
    let read = work.read;
    let Some(config) = &work.config else { return Ok(()) };
    let before = config.values().clone();
    let names = Names::of(read, prefixes);
    for field in NAMES {
        let renamed = match before.get(*field) {
            Some(Value::Array(items)) => items.iter().map(|item| names.item(item)).collect(),
            Some(Value::Object(map)) => map.iter().map(|(k, v)| (names.name(k), v.clone())).collect(),
            _ => continue,
        };
        work.set_config("paths", field, &renamed)?;
    }
    for field in PATTERNS {
        let Some(Value::Object(map)) = before.get(*field) else { continue };
        let renamed: Map<String, Value> = map.iter().map(|(k, v)| (names.pattern(k), v.clone())).collect();
        work.set_config("paths", field, &renamed.into())?;
    }
    check_scales(work, prefixes)?;
    keep_targets(work, &before, &names)
}

impl<'a> Names<'a> {
    fn of(read: &'a Adapter, prefixes: &'a Prefixes) -> Self {
        let paths: HashSet<&str> = paths(read).into_iter().collect();
        let ends = paths.iter().flat_map(|path| after_dots(path)).collect();
        Names { prefixes, paths, ends }
    }

    fn item(&self, item: &Value) -> Value {
        item.as_str().map_or_else(|| item.clone(), |name| self.name(name).into())
    }

    /// A name of a module, or of a module's parameter, that paths may end with.
    fn name(&self, name: &str) -> String {
        let module = module_of(name);
        let means = |name| self.is_whole(name);
        let renamed = if means(name) || means(module) { self.prefixes.renamed(name) } else { None };
        renamed.unwrap_or_else(|| name.to_string())
    }

    /// Whether a name means one path, from its beginning.
    fn is_whole(&self, name: &str) -> bool {
        let begins = self.prefixes.of(name).is_some_and(|(_, old, _)| !old.is_empty());
        self.paths.contains(name) || begins && !self.ends.contains(name)
    }

    /// A regular expression for the end of a path.
    fn pattern(&self, pattern: &str) -> String {
        let Some(rest) = pattern.strip_prefix('^') else {
            let (text, places) = beginning(pattern);
            let is_text = places.last() == Some(&pattern.len());
            let first = text.split('.').next().unwrap_or_default();
            let inside = || self.ends.iter().any(|end| end.split('.').next() == Some(first));
            let from_start = if is_text { self.is_whole(&text) } else { !first.is_empty() && !inside() };
            return if from_start { self.expression(pattern) } else { pattern.to_string() };
        };
        format!("^{}", self.expression(rest))
    }

    /// A regular expression for a whole path, whose beginning is text.
    fn expression(&self, pattern: &str) -> String {
        let (text, places) = beginning(pattern);
        let Some((_, old, new)) = self.prefixes.of(&text) else { return pattern.to_string() };
        // With the separator behind it, if anything follows.
        let length = old.iter().map(|part| part.chars().count() + 1).sum::<usize>();
        let is_text = places.last() == Some(&pattern.len());
        if length > places.len() + usize::from(is_text) {
            return pattern.to_string();
        }
        let after = if length == 0 { 0 } else { places.get(length - 1).copied().unwrap_or(pattern.len()) };
        let dot = if pattern.contains("\\.") || !pattern.contains('.') { "\\." } else { "." };
        let separator = if new.is_empty() || after == pattern.len() { "" } else { dot };
        format!("{}{separator}{}", new.replace('.', dot), &pattern[after..])
    }
}

/// The text with which an expression begins, and the end of each of its characters; a dot counts as itself.
fn beginning(pattern: &str) -> (String, Vec<usize>) {
    let (mut text, mut places) = (String::new(), Vec::new());
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let (c, end) = match c {
            '\\' => match chars.next() {
                Some((at, c)) if !c.is_alphanumeric() => (c, at + c.len_utf8()),
                _ => break,
            },
            c if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') => (c, at + c.len_utf8()),
            _ => break,
        };
        // A character that may be repeated or left out is not text.
        if chars.peek().is_some_and(|(_, next)| matches!(next, '*' | '+' | '?' | '{')) {
            break;
        }
        text.push(c);
        places.push(end);
    }
    (text, places)
}

/// Refuses new paths whose rank or alpha is another one.
fn check_scales(work: &Work<'_>, prefixes: &Prefixes) -> Result<()> {
    let Some(config) = &work.config else { return Ok(()) };
    let after = AdapterConfig::from_json(&config.values().clone().into())?;
    for module in &work.read.modules {
        let new = prefixes.renamed(&module.path).unwrap_or_else(|| module.path.clone());
        let ((rank, scaling), (new_rank, new_scaling)) =
            (work.read.config.of_module(&module.key()), after.of_module(&module.key_at(&new)));
        let field = match (rank == new_rank, scaling == new_scaling) {
            (true, true) => continue,
            (false, _) => "rank_pattern",
            (true, false) => "alpha_pattern",
        };
        let problem = Problem::Pattern { field, path: module.path.clone() };
        return Err(Error::from(problem).at(&work.files.config_path()));
    }
    Ok(())
}

/// Makes `target_modules` name the modules that it named: an expression is renamed where it must be, and modules that
/// are still missing are listed by their whole paths.
fn keep_targets(work: &mut Work<'_>, before: &Map<String, Value>, names: &Names<'_>) -> Result<()> {
    const FIELD: &str = "target_modules";
    let Some(config) = &work.config else { return Ok(()) };
    let (Some(old), Some(new)) = (Targets::of(before.get(FIELD)), Targets::of(config.values().get(FIELD)))
    else {
        return Ok(());
    };
    let modules = work.read.modules.iter().map(|module| module.path.as_str());
    let renamed = |path: &str| names.prefixes.renamed(path).unwrap_or_else(|| path.to_string());
    let targeted: Vec<String> = modules.filter(|path| old.name(path)).map(renamed).collect();
    let lost = |targets: &Targets| targeted.iter().filter(|path| !targets.name(path)).cloned().collect();
    let lost_now: Vec<String> = lost(&new);
    if lost_now.is_empty() {
        return Ok(());
    }
    let (kept, paths) = match config.get(FIELD) {
        Value::Array(items) => (items.clone(), lost_now),
        Value::String(text) => {
            let text = Value::from(names.expression(text));
            if Targets::of(Some(&text)).is_some_and(|targets| lost(&targets).is_empty()) {
                return work.set_config("paths", FIELD, &text);
            }
            (Vec::new(), targeted.clone())
        }
        _ => return Ok(()),
    };
    work.note("targets", format!("`{FIELD}` lists {} by their whole paths", modules_of(paths.len())));
    let all: Vec<Value> = kept.into_iter().chain(paths.into_iter().map(Value::from)).collect();
    work.set_config("paths", FIELD, &all.into())
}

/// `target_modules`, as PEFT understands it.
enum Targets {
    Names(HashSet<String>),
    Expression(Box<Regex>),
}

impl Targets {
    fn of(value: Option<&Value>) -> Option<Self> {
        match value? {
            Value::Array(items) => {
                Some(Targets::Names(items.iter().filter_map(Value::as_str).map(str::to_string).collect()))
            }
            // Every linear layer.
            Value::String(all) if all == "all-linear" => None,
            Value::String(text) => {
                Some(Targets::Expression(Box::new(Regex::new(&format!("^(?:{text})$")).ok()?)))
            }
            _ => None,
        }
    }

    fn name(&self, path: &str) -> bool {
        match self {
            Targets::Names(names) => ends(path).any(|end| names.contains(end)),
            Targets::Expression(regex) => regex.is_match(path).unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An adapter that changes these modules.
    fn names<'a>(paths: &[&'a str], prefixes: &'a Prefixes) -> Names<'a> {
        let mut ends = HashSet::new();
        for path in paths {
            ends.extend(after_dots(path));
        }
        Names { prefixes, paths: paths.iter().copied().collect(), ends }
    }

    fn prefixes(old: &str, new: &str) -> Prefixes {
        Prefixes::new(&[(old.to_string(), new.to_string())])
    }

    const PATHS: &[&str] = &["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up", "head"];

    #[test]
    fn names_of_whole_paths_alone_are_renamed() {
        let (to, away, before) =
            (prefixes("model", "text.model"), prefixes("model", ""), prefixes("", "text"));
        let cases = [
            ("q_proj", "q_proj", "q_proj", "q_proj"),
            ("head", "head", "head", "text.head"),
            ("layers.1.mlp.up", "layers.1.mlp.up", "layers.1.mlp.up", "layers.1.mlp.up"),
            (
                "model.layers.1.mlp.up",
                "text.model.layers.1.mlp.up",
                "layers.1.mlp.up",
                "text.model.layers.1.mlp.up",
            ),
            // A parameter, and a module that the adapter has no factors for.
            ("head.weight", "head.weight", "head.weight", "text.head.weight"),
            ("model.norm", "text.model.norm", "norm", "model.norm"),
            ("absent", "absent", "absent", "absent"),
        ];
        for (name, renamed, shorter, longer) in cases {
            assert_eq!(names(PATHS, &to).name(name), renamed);
            assert_eq!(names(PATHS, &away).name(name), shorter);
            assert_eq!(names(PATHS, &before).name(name), longer);
        }
    }

    #[test]
    fn expressions_are_renamed_in_their_own_spelling() {
        let cases = [
            (r"model\.layers\.0\.self_attn\.q_proj", r"text\.model\.layers\.0\.self_attn\.q_proj"),
            ("model.layers.1.mlp.up", "text.model.layers.1.mlp.up"),
            (r"^model\.layers\.(0|1)\..*", r"^text\.model\.layers\.(0|1)\..*"),
            (r"model\.layers\.\d+\.mlp\.up", r"text\.model\.layers\.\d+\.mlp\.up"),
            (r"mode.*up", r"mode.*up"),
            (r"models?\.layers", r"models?\.layers"),
            (r".*up", r".*up"),
            (r"layers\.1\.mlp\.up", r"layers\.1\.mlp\.up"),
            ("^head", "^head"),
        ];
        let to = prefixes("model", "text.model");
        for (pattern, renamed) in cases {
            assert_eq!(names(PATHS, &to).pattern(pattern), renamed);
        }
        let before = prefixes("", "text");
        for (pattern, renamed) in [("^head", r"^text\.head"), ("head", r"text\.head"), (".*up", ".*up")] {
            assert_eq!(names(PATHS, &before).pattern(pattern), renamed);
        }
        let away = prefixes("model", "");
        assert_eq!(names(PATHS, &away).pattern(r"^model\.layers\.0\..*"), r"^layers\.0\..*");
    }
}
