//! Rules that stand for many layers.
//!
//! A rule is a pair of templates. `{i}` is a variable with a range, `{3b+l+1}` is a sum of variables and numbers, and
//! `{resnet}` stands for each layer of the list with that name in the data file or the common one.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// Lists of layers: `[path in diffusers, original path]`, or one entry if both are the same.
pub(super) type Templates = BTreeMap<String, Vec<Vec<String>>>;

/// A data file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelData {
    pub(super) title: String,
    pub(super) versions: Vec<String>,
    pub(super) version: String,
    pub(super) trainer: String,
    #[serde(default)]
    pub(super) kernels: HashMap<String, usize>,
    pub(super) components: Vec<Component>,
    #[serde(default)]
    pub(super) parts: Templates,
}

/// A network of the model; the first is the denoiser.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Component {
    /// Its name in diffusers, e.g. `unet`.
    pub(super) name: String,
    /// The beginnings of kohya's names; the first one is written.
    pub(super) kohya: Vec<String>,
    /// Whether kohya's names are derived from original paths, not from paths in diffusers.
    #[serde(default)]
    pub(super) kohya_as_original: bool,
    pub(super) modules: Vec<Rule>,
}

/// A pair of templates.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// Variables and their ranges, `first-last`.
    #[serde(default, rename = "in")]
    variables: BTreeMap<String, String>,
    /// The path in diffusers.
    path: String,
    /// More paths, if the original model has one layer for several.
    #[serde(default)]
    and: Vec<String>,
    /// The original path; if absent, it is the same as in diffusers.
    #[serde(default)]
    other: Option<String>,
    /// The share of the original layer's rows that each path has.
    #[serde(default)]
    shares: Vec<usize>,
    #[serde(default)]
    swapped: bool,
    /// Outputs and inputs of the original layer, as multiples of the model's width.
    #[serde(default)]
    size: Option<[usize; 2]>,
}

/// One layer.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) paths: Vec<String>,
    pub(super) other: String,
    pub(super) shares: Vec<usize>,
    pub(super) swapped: bool,
    pub(super) size: Option<[usize; 2]>,
}

impl Rule {
    /// Every layer for which the rule stands.
    pub(super) fn expand(&self, lists: &[&Templates]) -> Vec<Row> {
        let mut paths = vec![self.path.clone()];
        paths.extend(self.and.iter().cloned());
        let other = self.other.clone().unwrap_or_else(|| self.path.clone());
        let shares = if self.shares.is_empty() { vec![1] } else { self.shares.clone() };
        let mut rows = vec![Row { paths, other, shares, swapped: self.swapped, size: self.size }];
        for (name, entries) in lists.iter().flat_map(|list| list.iter()) {
            let place = format!("{{{name}}}");
            if self.path.contains(&place) {
                let pairs = entries.iter().filter_map(|entry| Some((entry.first()?, entry.last()?)));
                let pairs: Vec<_> = pairs.collect();
                rows = rows.iter().flat_map(|row| pairs.iter().map(|(a, b)| row.put(&place, a, b))).collect();
            }
        }
        let mut settings = vec![BTreeMap::new()];
        for (name, range) in &self.variables {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let values = first.parse().unwrap_or(0)..=last.parse::<usize>().unwrap_or(0);
            settings = settings
                .iter()
                .flat_map(|setting| values.clone().map(|value| with(setting, name, value)))
                .collect();
        }
        settings.iter().flat_map(|setting| rows.iter().map(|row| row.fill(setting))).collect()
    }
}

fn with<'a>(setting: &BTreeMap<&'a str, usize>, name: &'a str, value: usize) -> BTreeMap<&'a str, usize> {
    let mut setting = setting.clone();
    setting.insert(name, value);
    setting
}

impl Row {
    fn put(&self, place: &str, path: &str, other: &str) -> Row {
        let paths = self.paths.iter().map(|template| template.replace(place, path)).collect();
        Row { paths, other: self.other.replace(place, other), ..self.clone() }
    }

    fn fill(&self, setting: &BTreeMap<&str, usize>) -> Row {
        let paths = self.paths.iter().map(|template| fill(template, setting)).collect();
        Row { paths, other: fill(&self.other, setting), ..self.clone() }
    }
}

/// `template` with its sums computed.
fn fill(template: &str, setting: &BTreeMap<&str, usize>) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, (sum, after))) =
        rest.split_once('{').and_then(|(a, b)| Some((a, b.split_once('}')?)))
    {
        let value: usize = sum.split('+').map(|term| evaluate(term, setting)).sum();
        filled += before;
        filled += &value.to_string();
        rest = after;
    }
    filled + rest
}

/// A number, a variable, or a number times a variable: `4`, `b`, `3b`.
fn evaluate(term: &str, setting: &BTreeMap<&str, usize>) -> usize {
    let letter = term.find(|c: char| c.is_alphabetic()).unwrap_or(term.len());
    let (number, variable) = term.split_at(letter);
    let number = number.parse().unwrap_or(1);
    if variable.is_empty() { number } else { number * setting.get(variable).copied().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_stands_for_every_combination() {
        let rule: Rule = serde_json::from_str(
            r#"{"in": {"b": "1-2", "l": "0-1"}, "path": "down.{b}.{l}.{part}", "other": "in.{3b+l+1}.{part}"}"#,
        )
        .unwrap();
        let lists: Templates = serde_json::from_str(r#"{"part": [["x", "y"], ["same"]]}"#).unwrap();
        let rows = rule.expand(&[&lists]);
        let names: Vec<_> = rows.iter().map(|row| (row.paths[0].as_str(), row.other.as_str())).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], ("down.1.0.x", "in.4.y"));
        assert_eq!(names[7], ("down.2.1.same", "in.8.same"));
    }
}
