//! The singular values of each module's delta: how much of its rank an adapter uses.

use lorakit_linalg::{product_singular_values, rank};

use super::{ModuleReport, Spectrum, go_on};
use crate::adapter::factors::{Factors, of_linalg};
use crate::adapter::{Adapter, Module};
use crate::plan::{Progress, in_order};
use crate::{ErrorKind, Result};

/// Directions weaker than this, relative to the strongest, do nothing that 16-bit weights could hold.
const DEAD: f64 = 1e-4;

impl Spectrum {
    fn new(values: Vec<f64>) -> Self {
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

/// Enters the spectrum of every module in `reports`, except for packed experts and factors that are not finite.
///
/// # Errors
/// If factors cannot be read, or a decomposition does not converge; [`ErrorKind::Interrupted`].
pub(super) fn read(adapter: &Adapter, reports: &mut [ModuleReport], progress: &dyn Progress) -> Result<()> {
    progress.begin(adapter.modules.iter().map(Module::factor_bytes).sum());
    in_order(adapter.modules.iter().zip(reports), |(module, report)| {
        go_on(progress)?;
        report.spectrum = of_module(module)?;
        progress.advance(module.factor_bytes());
        Ok(())
    })?;
    Ok(())
}

fn of_module(module: &Module) -> Result<Option<Spectrum>> {
    if module.is_packed() {
        return Ok(None);
    }
    let factors = match Factors::load(module) {
        Err(error) if error.kind() == ErrorKind::NonFinite => return Ok(None),
        other => other?,
    };
    let values = product_singular_values(factors.b.view(), factors.a.view());
    let values = values.map_err(|e| of_linalg(&e, &module.path))?;
    Ok(Some(Spectrum::new(values.into_iter().map(|v| v * factors.scale.abs()).collect())))
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
