//! The ways to combine, by PEFT's names.

use std::sync::LazyLock;

use super::mix::MIXES;
use super::recipe::{Mix, Style};
use crate::Choice;

/// How adapters are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The weighted sum of the deltas, as near as the rank allows.
    Svd,
    /// The weighted sum exactly, in factors stacked on the rank.
    Cat,
    /// Entry by entry of `A` and of `B`, as PEFT does, which brings in cross terms.
    Factors(Mix),
    /// Entry by entry of the deltas, then the nearest of the rank.
    Deltas(Mix),
}

/// Every method: the two that combine whole deltas, and both ways to use each mix.
static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let mut methods = vec![Method::Svd, Method::Cat];
    methods.extend(MIXES.iter().map(|mix| Method::Factors(*mix)));
    let of_deltas = MIXES.iter().filter(|mix| mix.of_deltas().is_some());
    methods.extend(of_deltas.map(|mix| Method::Deltas(*mix)));
    methods
});

impl Choice for Method {
    fn all() -> &'static [Self] {
        &METHODS
    }

    fn name(self) -> &'static str {
        self.described().0
    }

    fn about(self) -> &'static str {
        self.described().1
    }
}

impl Method {
    /// Its name, and what it does. The weighted sum of deltas is `svd`.
    fn described(self) -> (&'static str, &'static str) {
        const SVD: (&str, &str) = ("svd", "the weighted sum of the deltas, as near as the rank allows");
        match self {
            Method::Svd => SVD,
            Method::Cat => ("cat", "the weighted sum of the deltas exactly, at the sum of the ranks"),
            Method::Factors(mix) => (mix.name(), mix.about()),
            Method::Deltas(mix) => mix.of_deltas().unwrap_or(SVD),
        }
    }

    /// The method it is in that style: mergekit does not know factors, and the weighted sum of deltas is `svd`.
    #[must_use]
    pub fn in_style(self, style: Style) -> Self {
        match self {
            Method::Factors(mix) if style == Style::Mergekit => Method::Deltas(mix).in_style(style),
            Method::Deltas(mix) if mix.of_deltas().is_none() => Method::Svd,
            other => other,
        }
    }

    /// Whether the rank of the result can be asked for.
    pub fn has_rank(self) -> bool {
        matches!(self, Method::Svd | Method::Deltas(_))
    }

    /// Whether only a share of the entries is kept, which must be given.
    pub fn has_density(self) -> bool {
        matches!(self, Method::Factors(mix) | Method::Deltas(mix) if mix.thins())
    }

    /// Whether a sign is elected for each entry, in one of several ways.
    pub fn elects_signs(self) -> bool {
        matches!(self, Method::Factors(mix) | Method::Deltas(mix) if mix.elects_signs())
    }

    /// Whether the seed matters.
    pub fn is_random(self) -> bool {
        matches!(self, Method::Factors(mix) | Method::Deltas(mix) if mix.is_random())
    }
}
