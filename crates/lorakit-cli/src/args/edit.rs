//! `lorakit edit`.

use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use super::values::{DtypeOrKeep, float_or_keep};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit edit adapter/ -o edited/ --base-model meta-llama/Llama-3.2-1B --revision main
  lorakit edit adapter/ -o edited/ --license apache-2.0 --tag chat --tag finance --remove-tag draft
  lorakit edit adapter/ -o edited/ --fold-alpha                # the scale becomes 1
  lorakit edit adapter/ -o edited/ --alpha 16 --dtype bf16
  lorakit edit adapter/ -o edited/ --rename-prefix model=language_model.model")]
pub(crate) struct Edit {
    /// The adapter: a folder or file, in any format
    pub(crate) adapter: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Name of the base model, e.g. OWNER/NAME
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) base_model: Option<String>,
    /// Revision of the base model: a branch, a tag or a commit
    #[arg(long, value_name = "REV", value_parser = name)]
    pub(crate) revision: Option<String>,
    /// Identifier of the licence, e.g. apache-2.0
    #[arg(long, value_name = "ID", value_parser = name)]
    pub(crate) license: Option<String>,
    /// Add a tag; may be repeated
    #[arg(long, value_name = "TAG", value_parser = tag)]
    pub(crate) tag: Vec<String>,
    /// Remove a tag; may be repeated
    #[arg(long, value_name = "TAG", value_parser = tag)]
    pub(crate) remove_tag: Vec<String>,
    /// Move the scale into the factors: B is multiplied, and the scale becomes 1
    #[arg(long, conflicts_with = "alpha")]
    pub(crate) fold_alpha: bool,
    /// Give the configuration this alpha, and divide the factors so that the delta stays the same
    #[arg(long, value_name = "N", value_parser = alpha, allow_negative_numbers = true)]
    pub(crate) alpha: Option<f64>,
    /// Dtype of the factors
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true, value_parser = float_or_keep())]
    pub(crate) dtype: DtypeOrKeep,
    /// Rename paths that begin with OLD, e.g. model=language_model.model; `OLD=` removes it, `=NEW` is put in front of all;
    /// may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = prefix)]
    pub(crate) rename_prefix: Vec<(String, String)>,
    /// The base model, if the adapter cannot be read without it: a folder or file
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must not be empty, and must not hold spaces".into());
    }
    Ok(text.to_string())
}

fn tag(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.trim() != text || text.contains([',', '\n', '\r', '\t']) {
        return Err("must not be empty, and must not hold commas; spaces may only be inside".into());
    }
    Ok(text.to_string())
}

fn alpha(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(alpha) if alpha > 0.0 && f64::is_finite(alpha) => Ok(alpha),
        _ => Err("must be a positive number".into()),
    }
}

fn prefix(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or("must be OLD=NEW; `OLD=` removes the prefix")?;
    let plain = |path: &str| {
        let path = path.strip_suffix('.').unwrap_or(path);
        path.is_empty()
            || path.split('.').all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
            })
    };
    if !plain(old) || !plain(new) {
        return Err("must be paths: letters, digits, `_` and `-`, with dots between".into());
    }
    if old == new {
        return Err("would change nothing".into());
    }
    Ok((old.to_string(), new.to_string()))
}
