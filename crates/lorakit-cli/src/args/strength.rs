//! Which modules take part in a sum, and how strongly.

use clap::Args;
use lorakit::adapter::{BlockWeight, NamePattern, Strengths};

/// Options of every command that adds up adapters.
#[derive(Debug, Args)]
pub(crate) struct Strength {
    /// Leave out modules whose path does not match; may be repeated: one match is enough
    #[arg(long, value_name = "REGEX")]
    pub(crate) only: Vec<NamePattern>,
    /// Leave out modules whose path matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub(crate) skip: Vec<NamePattern>,
    /// Multiply the weight of modules whose path matches; may be repeated: all that match multiply
    #[arg(long = "weight", value_name = "REGEX=WEIGHT")]
    pub(crate) weights: Vec<BlockWeight>,
}

impl Strength {
    pub(crate) fn strengths(&self) -> Strengths {
        Strengths { only: self.only.clone(), skip: self.skip.clone(), weights: self.weights.clone() }
    }
}
