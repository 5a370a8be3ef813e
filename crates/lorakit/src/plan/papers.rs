//! What an output says about itself: to programs, where it came from; to people, its model card.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use super::{Content, OutputFile, Plan, Provenance, SideFile, Target, TensorRetention};
use crate::Result;
use crate::card::CARD_FILE;

/// What an output says about itself.
#[derive(Debug, Clone, Default)]
pub struct Papers {
    /// Where it came from.
    pub provenance: Option<Arc<dyn Provenance>>,
    /// The model card of a folder.
    pub cover: Option<Arc<dyn Cover>>,
}

/// Writes the model card of an output folder.
pub trait Cover: Debug + Send + Sync {
    /// The content of [`CARD_FILE`] for an output that holds this.
    fn page(&self, held: &Held<'_>) -> Vec<u8>;

    /// The card of an input that [`Self::page`] keeps and completes.
    fn kept(&self) -> Option<Vec<u8>>;
}

/// What an output holds.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// The tensor files.
    pub files: &'a [OutputFile],
    /// The files next to them.
    pub side_files: &'a [SideFile],
    /// Bytes of all tensor files.
    pub bytes: u64,
    /// How much of the adapters is left in each edited tensor; empty before a run.
    pub retention: &'a [TensorRetention],
}

/// Whether a file of an output is its model card.
pub(super) fn is_card(name: &Path) -> bool {
    name == Path::new(CARD_FILE)
}

/// `cover`, if it may write the card of this output. A card that could not be read travels as it is.
pub(super) fn allowed(
    cover: Option<Arc<dyn Cover>>,
    target: &Target,
    side_files: &mut Vec<SideFile>,
) -> Option<Arc<dyn Cover>> {
    let cover = cover.filter(|_| matches!(target, Target::Folder(_)))?;
    let travels = side_files.iter().any(|side| is_card(&side.name));
    if travels && cover.kept().is_none() {
        return None;
    }
    side_files.retain(|side| !is_card(&side.name));
    Some(cover)
}

pub(super) fn card(cover: &dyn Cover, held: &Held<'_>) -> SideFile {
    SideFile { name: CARD_FILE.into(), content: Content::bytes(cover.page(held)) }
}

impl Plan {
    /// Writes [`CARD_FILE`] again, now that the run has measured what it says.
    pub(super) fn write_card(&self, bytes: u64, retention: &[TensorRetention], staged: &Path) -> Result<()> {
        let Some(cover) = &self.cover else { return Ok(()) };
        card(cover.as_ref(), &Held { files: &self.files, side_files: &self.side_files, bytes, retention })
            .write(staged)
    }

    /// The bytes of a card that may be replaced with the old output although nothing there names it: that of the input,
    /// carried along unchanged.
    pub(super) fn carried_card(&self) -> Option<Vec<u8>> {
        if let Some(cover) = &self.cover {
            return cover.kept();
        }
        match &self.side_files.iter().find(|side| is_card(&side.name))?.content {
            Content::Bytes(bytes) => Some(bytes.to_vec()),
            Content::CopyOf(path) => std::fs::read(path).ok(),
        }
    }
}
