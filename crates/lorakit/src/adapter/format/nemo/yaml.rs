//! The few scalars that are needed from a YAML file in OmegaConf's style: nested blocks of `key: value`.

use std::collections::HashMap;
use std::path::Path;

use lorakit_tensor::Reader;

use super::Problem;
use crate::{Error, Result};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Scalars by their path, e.g. `peft.lora_tuning.alpha`. Items of lists are left out.
#[derive(Debug)]
pub(super) struct Yaml(HashMap<String, String>);

impl Yaml {
    /// # Errors
    /// `ErrorKind::NoAdapter` if there is no such file; `ErrorKind::Config` if it is too large or not text.
    pub(super) fn open(path: &Path, reader: &Reader) -> Result<Self> {
        if !reader.has(path)? {
            return Err(Error::from(Problem::NoConfiguration).at(path));
        }
        match String::from_utf8(reader.bytes(path, MAX_BYTES)?) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(_) => Err(Error::from(Problem::NotText).at(path)),
        }
    }

    fn parse(text: &str) -> Self {
        let mut scalars = HashMap::new();
        // The open blocks: indentation and path.
        let mut open: Vec<(usize, String)> = Vec::new();
        for line in text.lines() {
            let content = line.trim_start();
            let indent = line.len() - content.len();
            let is_key = !content.starts_with(['#', '-', '"', '\'', '{', '[']);
            let Some((key, value)) = content.split_once(':').filter(|_| is_key) else { continue };
            while open.last().is_some_and(|(outer, _)| *outer >= indent) {
                open.pop();
            }
            let path = match open.last() {
                Some((_, outer)) => format!("{outer}.{}", key.trim()),
                None => key.trim().to_string(),
            };
            let value = value.split(" #").next().unwrap_or_default().trim();
            match value {
                "" => open.push((indent, path)),
                "null" | "~" => {}
                value => drop(scalars.insert(path, value.trim_matches(['\'', '"']).to_string())),
            }
        }
        Yaml(scalars)
    }

    /// The text of the value at `path`, unchanged.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// The number at `path`.
    ///
    /// # Errors
    /// `ErrorKind::Config` if the value is something else.
    pub(super) fn number(&self, path: &'static str) -> Result<Option<f64>> {
        self.parsed(path, "a finite number", |text| {
            text.parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    /// The whole number at `path`.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub(super) fn whole(&self, path: &'static str) -> Result<Option<usize>> {
        self.parsed(path, "a whole number below 2^32", |text| text.parse::<u32>().ok().map(|n| n as usize))
    }

    fn parsed<T>(
        &self,
        path: &'static str,
        needed: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(text) = self.text(path) else { return Ok(None) };
        let problem = || Problem::Value { path, found: text.escape_debug().to_string(), needed };
        Ok(Some(parse(text).ok_or_else(problem)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn blocks_nest_and_lists_are_left_out() {
        let text = "a: 1 # first\nb:\n  c:\n    d: 0.5\n    list:\n    - x: 9\n  e: 'text'\n# a: 2\nf: null\ng: none\n";
        let yaml = Yaml::parse(text);
        assert_eq!(yaml.whole("a").unwrap(), Some(1));
        assert_eq!(yaml.number("b.c.d").unwrap(), Some(0.5));
        assert_eq!((yaml.text("b.e"), yaml.text("f"), yaml.text("b.c.x")), (Some("text"), None, None));
        let error = yaml.number("g").unwrap_err();
        assert_eq!(error.to_string(), "`g` is `none`; it must be a finite number");
        assert_eq!(yaml.whole("b.c.d").unwrap_err().kind(), ErrorKind::Config);
    }
}
