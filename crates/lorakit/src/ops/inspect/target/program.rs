//! A runtime in the table.

use super::case::Case;

/// What a module says about its runtime.
pub(super) struct Program {
    /// Its name in options.
    pub(super) id: &'static str,
    /// Other names for it there.
    pub(super) aliases: &'static [&'static str],
    /// Its name, as its authors write it.
    pub(super) title: &'static str,
    /// What it loads, in one line.
    pub(super) about: &'static str,
    /// The format of adapters that it is for.
    pub(super) format: &'static str,
    /// Applies its rules.
    pub(super) ask: fn(&mut Case<'_>),
}
