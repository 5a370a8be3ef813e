//! How many triplets of a difference are worth keeping.

/// How ranks are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The same for every module.
    Rank(usize),
    /// The lowest that keeps this share of a module's energy, its squared norm.
    Energy(f64),
    /// What stands out of the noise that rounding to the tuned model's dtype left, which is measured: see `noise.rs`.
    Auto,
}

impl Rule {
    /// Triplets to compute first.
    pub(super) fn first(self) -> usize {
        match self {
            Rule::Rank(rank) => rank,
            _ => 32,
        }
    }
}

/// How many of the leading singular values `s` of a matrix hold this share of its energy; `None` if they do not.
pub(super) fn for_energy(s: &[f64], share: f64, energy: f64) -> Option<usize> {
    let mut kept = 0.0;
    let last = s.iter().position(|s| {
        kept += s * s;
        kept >= share * energy
    });
    last.map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_that_of_the_whole_matrix() {
        assert_eq!(for_energy(&[3.0, 0.5], 0.9, 10.0), Some(1));
        assert_eq!(for_energy(&[3.0, 0.5], 0.95, 10.0), None);
        assert_eq!(for_energy(&[3.0, 1.0], 1.0, 10.0), Some(2));
    }
}
