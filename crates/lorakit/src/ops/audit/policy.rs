//! What a policy asks of adapters and models.
//!
//! ```toml
//! bases = ["meta-llama/Llama-3.*", "Qwen/Qwen3-*"]
//! formats = ["peft", "gguf"]
//! licenses = ["apache-2.0", "mit"]
//! max-size = "500MB"
//!
//! [rank]
//! max = 64
//!
//! [findings]
//! forbid = ["warning"]
//! allow = ["local-path"]
//! ```

use std::path::Path;

use lorakit_tensor::Reader;

use super::problem::Problem;
use super::rules::{self, Rules};
use crate::{Error, Result};

/// The largest policy that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Rules for what may be deployed. A rule that is left out allows everything, except that findings of the severity
/// error are always forbidden unless they are allowed by name.
#[derive(Debug, Clone, Default)]
pub struct Policy(pub(super) Rules);

impl Policy {
    /// Reads a policy from a file.
    ///
    /// # Errors
    /// As [`Self::parse`], and any error of reading the file.
    pub fn read(path: &Path, reader: &Reader) -> Result<Self> {
        let bytes = reader.bytes(path, MAX_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::from(Problem::PolicyText).at(path))?;
        Self::parse(&text).map_err(|error| error.at(path))
    }

    /// Reads a policy from the text of a file.
    ///
    /// ```
    /// use lorakit::ops::audit::Policy;
    ///
    /// assert!(Policy::parse("formats = ['peft']\nrank = { max = 64 }").is_ok());
    /// let error = Policy::parse("formats = ['peft']\nlicences = ['mit']\nranks.max = 64").unwrap_err();
    /// assert_eq!(error.to_string(), "line 3: `ranks` is not a rule; the nearest is `rank`");
    /// ```
    ///
    /// # Errors
    /// `ErrorKind::Usage` for anything that is not a rule, or not a value of one, with its line.
    pub fn parse(text: &str) -> Result<Self> {
        rules::parse(text).map(Policy)
    }
}
