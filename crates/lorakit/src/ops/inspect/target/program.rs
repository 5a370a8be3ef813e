//! A runtime in the table.

use super::case::Case;

/// What a module says of its runtime.
pub(super) struct Program {
    /// What it is called in options.
    pub(super) id: &'static str,
    /// What else it is called there.
    pub(super) aliases: &'static [&'static str],
    /// Its name, as its authors write it.
    pub(super) title: &'static str,
    /// What it loads, in one line.
    pub(super) about: &'static str,
    /// The format of adapters that it is for.
    pub(super) format: &'static str,
    /// Asks it.
    pub(super) ask: fn(&mut Case<'_>),
}
