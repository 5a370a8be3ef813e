//! `tokenizer.model`.

use super::{Sources, Vocab};
use crate::Result;

pub(super) fn vocab(_: &Sources<'_>) -> Result<Option<Vocab>> {
    Ok(None)
}
