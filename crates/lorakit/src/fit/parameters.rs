//! PEFT's `target_parameters`, found by the module that has them.

use std::collections::HashMap;

/// Names such as `mlp.experts.down_proj`: the ending of a module's path, followed by one of its parameters.
///
/// A list may name a parameter of each of thousands of layers, so a lookup table finds those of one layer.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    /// By everything before the last name: places in the list, and the last name.
    of_path: HashMap<&'a str, Vec<(usize, &'a str)>>,
    /// Names without a path, which belong to every module.
    of_any: Vec<(usize, &'a str)>,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(targets: &'a [String]) -> Self {
        let mut all = Parameters { of_path: HashMap::new(), of_any: Vec::new() };
        for (place, target) in targets.iter().enumerate() {
            match target.rsplit_once('.') {
                Some((path, leaf)) => all.of_path.entry(path).or_default().push((place, leaf)),
                None => all.of_any.push((place, target)),
            }
        }
        all
    }

    /// The parameters of the module at `path` that match names in the list, in the order of the list.
    pub(super) fn of(&self, path: &str) -> Vec<&'a str> {
        let mut found = self.of_any.clone();
        if !self.of_path.is_empty() {
            let starts = path.char_indices().map(|(start, _)| start).chain([path.len()]);
            found.extend(starts.filter_map(|start| self.of_path.get(&path[start..])).flatten());
            found.sort_unstable_by_key(|(place, _)| *place);
        }
        found.into_iter().map(|(_, leaf)| leaf).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_those_whose_names_end_so(
            targets in prop::collection::vec("[ab]{0,2}(\\.[ab]{0,2}){0,3}", 0..12), path in "[ab]{0,3}(\\.[ab]{0,2}){0,3}",
        ) {
            let ends = |target: &&String| {
                let leaf = target.rsplit('.').next().unwrap_or_default();
                format!("{path}.{leaf}").ends_with(target.as_str())
            };
            let expected: Vec<&str> =
                targets.iter().filter(ends).filter_map(|target| target.rsplit('.').next()).collect();
            prop_assert_eq!(Parameters::new(&targets).of(&path), expected);
        }
    }
}
