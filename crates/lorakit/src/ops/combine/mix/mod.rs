//! What becomes of the entries of several adapters in one place: a module for each way, which is one line of [`MIXES`].

mod dare;
#[cfg(test)]
mod dummy;
mod linear;
mod magnitude_prune;
mod ties;

use super::recipe::Mix;

/// Every way.
pub(super) const MIXES: &[Mix] = &[
    Mix::LINEAR,
    Mix::TIES,
    Mix::DARE_LINEAR,
    Mix::DARE_TIES,
    Mix::MAGNITUDE_PRUNE,
    #[cfg(test)]
    Mix(&dummy::RULE),
];

impl Mix {
    /// Their weighted sum.
    pub const LINEAR: Mix = Mix(&linear::RULE);
    /// Of the largest of their tensor, the weighted mean of those that have the sign of the majority (TIES: Yadav et al.
    /// 2023).
    pub const TIES: Mix = Mix(&ties::RULE);
    /// The weighted sum of a random choice, scaled up (DARE: Yu et al. 2024).
    pub const DARE_LINEAR: Mix = Mix(&dare::LINEAR);
    /// Of a random choice, the weighted mean of those that have the sign of the majority.
    pub const DARE_TIES: Mix = Mix(&dare::TIES);
    /// The weighted sum of those that are among the largest of their tensor.
    pub const MAGNITUDE_PRUNE: Mix = Mix(&magnitude_prune::RULE);
}
