//! File names of models that are split into several GGUF files.

/// What the name of a part says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitName {
    /// The name before the numbers.
    pub stem: String,
    /// Which part this is, from 1.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

/// The numbers in `{stem}-{index:05}-of-{count:05}.gguf`, or `None` if `file_name` is not exactly of that form.
pub fn parse_split_name(file_name: &str) -> Option<SplitName> {
    let (rest, count) = file_name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    let (index, count) = (index.parse().ok()?, count.parse().ok()?);
    let canonical = (1..=count).contains(&index) && split_name(stem, index, count) == file_name;
    canonical.then(|| SplitName { stem: stem.to_string(), index, count })
}

/// The name of part `index` (from 1) of `count`.
pub fn split_name(stem: &str, index: usize, count: usize) -> String {
    format!("{stem}-{index:05}-of-{count:05}.gguf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (stem, index, count) in [("model", 1, 1), ("a-00001-of-00002", 2, 7), ("big", 99_999, 100_000)] {
            let parsed = parse_split_name(&split_name(stem, index, count));
            assert_eq!(parsed, Some(SplitName { stem: stem.to_string(), index, count }));
        }
    }

    #[test]
    fn other_names_are_not_splits() {
        for name in [
            "model.gguf",
            "model-00001-of-00002.safetensors",
            "model-1-of-2.gguf",
            "model-00000-of-00002.gguf",
            "model-00003-of-00002.gguf",
            "model-+0001-of-00002.gguf",
            "model-00001-of-99999999999999999999999.gguf",
            "00001-of-00002.gguf",
        ] {
            assert_eq!(parse_split_name(name), None, "{name}");
        }
    }
}
