//! The singular values of each module's delta: how much of its rank an adapter uses.

use lorakit_linalg::rank;

use super::{ModuleReport, Spectrum};

/// Directions weaker than this, relative to the strongest, do nothing that 16-bit weights could hold.
const DEAD: f64 = 1e-4;

impl Spectrum {
    pub(super) fn new(values: Vec<f64>) -> Self {
        let most = values.first().copied().unwrap_or(0.0);
        Spectrum {
            effective: rank::effective(&values),
            stable: rank::stable(&values),
            rank90: rank::for_energy(&values, 0.9),
            rank99: rank::for_energy(&values, 0.99),
            dead: values.iter().filter(|v| **v <= DEAD * most).count(),
            values,
        }
    }
}

/// The lowest rank that, for all modules alike, keeps `share` of the energy of all together; `None` without spectra.
pub fn uniform_rank(modules: &[ModuleReport], share: f64) -> Option<usize> {
    let spectra = || modules.iter().filter_map(|m| m.spectrum.as_ref());
    let largest = spectra().map(|s| s.values.len()).max()?;
    let square = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>();
    let whole: f64 = spectra().map(|s| square(&s.values)).sum();
    let kept = |rank: usize| spectra().map(|s| square(&s.values[..rank.min(s.values.len())])).sum::<f64>();
    (1..=largest).find(|&rank| kept(rank) >= share * whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_directions_are_all_in_use() {
        let flat = Spectrum::new(vec![2.0; 8]);
        assert!((flat.effective - 8.0).abs() < 1e-9 && (flat.stable - 8.0).abs() < 1e-9);
        assert_eq!((flat.rank90, flat.rank99, flat.dead), (8, 8, 0));
        let steep = Spectrum::new(vec![10.0, 1.0, 1e-6, 0.0]);
        assert_eq!((steep.rank90, steep.rank99, steep.dead), (1, 1, 2));
        assert!(steep.effective < 2.0);
        let none = Spectrum::new(vec![0.0; 3]);
        assert_eq!(none.dead, 3);
    }
}
