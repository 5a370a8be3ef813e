//! The ways to combine, by PEFT's names.

/// How adapters are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The weighted sum of the deltas, as near as the rank allows.
    Svd,
    /// The weighted sum exactly, in factors stacked on the rank.
    Cat,
    /// Entry by entry of `A` and of `B`, as PEFT does: cross terms come with it.
    Factors(Mix),
    /// Entry by entry of the deltas, then the nearest of the rank.
    Deltas(Mix),
}

/// What becomes of the entries in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Their weighted sum.
    Linear,
    /// The weighted sum of those that are among the largest of their tensor.
    MagnitudePrune,
    /// The weighted sum of a random choice, scaled up (DARE: Yu et al. 2024).
    DareLinear,
    /// Of the largest, the weighted mean of those that have the sign of the majority (TIES: Yadav et al. 2023).
    Ties,
    /// Of a random choice, likewise.
    DareTies,
}

/// Which sign the majority has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MajoritySign {
    /// That of the sum of the values.
    #[default]
    Total,
    /// That of more of the values.
    Frequency,
}

/// Whose definitions hold where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// PEFT's definitions without its mistake about rsLoRA.
    #[default]
    Fixed,
    /// What PEFT 0.21 writes: results are larger by the square root of the new rank if the first adapter is rsLoRA.
    Peft,
    /// mergekit's: signs are elected on weighted deltas, TIES divides by the weights that agree, DARE keeps the L1 norm.
    /// Deltas are combined, never factors.
    Mergekit,
}

/// Every method, by name.
pub const METHODS: &[(&str, Method)] = &[
    ("svd", Method::Svd),
    ("cat", Method::Cat),
    ("linear", Method::Factors(Mix::Linear)),
    ("ties", Method::Factors(Mix::Ties)),
    ("dare_linear", Method::Factors(Mix::DareLinear)),
    ("dare_ties", Method::Factors(Mix::DareTies)),
    ("magnitude_prune", Method::Factors(Mix::MagnitudePrune)),
    ("ties_svd", Method::Deltas(Mix::Ties)),
    ("dare_linear_svd", Method::Deltas(Mix::DareLinear)),
    ("dare_ties_svd", Method::Deltas(Mix::DareTies)),
    ("magnitude_prune_svd", Method::Deltas(Mix::MagnitudePrune)),
];

impl Method {
    /// The method called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("linear_svd", |(name, _)| name)
    }

    /// What it does in that style: mergekit knows no factors, and the weighted sum of deltas is `svd`.
    #[must_use]
    pub fn in_style(self, style: Style) -> Self {
        match self {
            Method::Deltas(Mix::Linear) => Method::Svd,
            Method::Factors(Mix::Linear) if style == Style::Mergekit => Method::Svd,
            Method::Factors(mix) if style == Style::Mergekit => Method::Deltas(mix),
            other => other,
        }
    }

    /// Whether the rank of the result can be asked for.
    pub fn has_rank(self) -> bool {
        matches!(self, Method::Svd | Method::Deltas(_))
    }

    /// Whether a share of the entries is kept, which must be said.
    pub fn has_density(self) -> bool {
        matches!(self, Method::Factors(mix) | Method::Deltas(mix) if mix != Mix::Linear)
    }

    /// Whether the seed matters.
    pub fn is_random(self) -> bool {
        let random = |mix| matches!(mix, Mix::DareLinear | Mix::DareTies);
        matches!(self, Method::Factors(mix) | Method::Deltas(mix) if random(mix))
    }
}

impl Mix {
    /// Whether signs are elected.
    pub(super) fn elects(self) -> bool {
        matches!(self, Mix::Ties | Mix::DareTies)
    }
}
