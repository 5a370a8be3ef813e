//! What a format says of the places that its files have for edits.

use super::super::options::Alpha;
use super::super::prefix::Prefixes;
use super::super::work::Work;
use crate::Result;
use crate::adapter::{Adapter, Files, Scaling};

/// The places for edits in the files of one format. What has no place goes into [`Work::refused`], with the reason.
pub(crate) trait Place: Sync {
    /// The name of the format.
    fn format(&self) -> &'static str;

    /// The stem of the tensor file in the output folder; `None` if the output is one file.
    fn stem(&self, files: &Files) -> Option<&'static str>;

    /// Whether the scale of a module may be moved into the tensor of that name: a `B`, or its bias.
    fn is_b(&self, name: &str) -> bool;

    /// What an alpha means.
    fn scaling(&self, _read: &Adapter, alpha: f64) -> Scaling {
        Scaling::Alpha(alpha)
    }

    /// Names base, revision, licence and tags, apart from the model card of a folder.
    ///
    /// # Errors
    /// If a file of the adapter makes no sense.
    fn describe(&self, work: &mut Work<'_>) -> Result<()>;

    /// Says what the scale is, now that the factors are multiplied.
    ///
    /// # Errors
    /// If a file of the adapter makes no sense, or cannot hold the alpha.
    fn set_alpha(&self, work: &mut Work<'_>, alpha: Alpha) -> Result<()>;

    /// Gives tensors their new names, and the configuration the new paths.
    ///
    /// # Errors
    /// If names or configuration cannot follow.
    fn rename(&self, work: &mut Work<'_>, prefixes: &Prefixes) -> Result<()>;

    /// What else follows from the tensors.
    fn finish(&self, _work: &mut Work<'_>) {}
}
