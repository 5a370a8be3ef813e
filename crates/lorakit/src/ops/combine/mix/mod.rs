//! What becomes of the entries of several adapters in one place: one module for each way, which is one line of
//! [`MIXES`].

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
    /// The weighted sum.
    pub const LINEAR: Mix = Mix(&linear::RULE);
    /// The weighted mean of those among the largest of their tensor that have the sign of the majority (TIES: Yadav et
    /// al. 2023).
    pub const TIES: Mix = Mix(&ties::RULE);
    /// The weighted sum of a random choice, scaled up (DARE: Yu et al. 2024).
    pub const DARE_LINEAR: Mix = Mix(&dare::LINEAR);
    /// The weighted mean of those in a random choice that have the sign of the majority.
    pub const DARE_TIES: Mix = Mix(&dare::TIES);
    /// The weighted sum of those that are among the largest of their tensor.
    pub const MAGNITUDE_PRUNE: Mix = Mix(&magnitude_prune::RULE);
}
