//! What either format of importance matrices holds.

use std::collections::BTreeMap;

/// What either format holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// By tensor: importance of each column, one matrix after the other.
    pub(super) importance: BTreeMap<String, Vec<f32>>,
    pub(super) datasets: Vec<String>,
    pub(super) chunks: u32,
}
