//! Merges that were written, but that nobody can have meant.

use crate::plan::{Retention, TensorRetention, by_type, overall};
use crate::units::number;
use crate::{Finding, Severity};

/// Deltas this many times as large as what they are added to leave nothing of the model. Deltas of adapters are between
/// a thousandth and a third of the weights; those of training from scratch are about as large as the weights.
const LARGE: f64 = 10.0;
/// The stored values have moved this many times as far along the deltas as the deltas go. Rounding to the coarsest
/// types, which is right on average, was never seen to exceed 1.2.
const GROWN: f64 = 1.5;

/// What the sums over all values make doubtful. Vectors are often zero at first, so only tensors that `is_matrix` picks
/// are looked at one by one.
pub(super) fn doubts(tensors: &[TensorRetention], is_matrix: impl Fn(&str) -> bool) -> Vec<Finding> {
    let all = overall(tensors);
    let strength = |r: &Retention| r.strength().unwrap_or(0.0);
    let all_large = strength(&all) > LARGE;
    let large =
        tensors.iter().filter(|t| strength(&t.retention) > LARGE && (all_large || is_matrix(&t.name)));
    let large: Vec<&TensorRetention> = large.collect();
    let worst = large.iter().max_by(|x, y| strength(&x.retention).total_cmp(&strength(&y.retention)));
    let mut findings = Vec::new();
    if let Some(worst) = worst {
        let (delta, weight) = (worst.retention.whole.sqrt(), worst.retention.base.sqrt());
        let others = match large.len() - 1 {
            0 => "nothing of the model is left in it".to_string(),
            n => {
                format!("nothing of the model is left in it, nor in {n} more with deltas above {LARGE} times")
            }
        };
        let message = format!(
            "its delta is {} times as large as the weights that it is added to (norms {} and {}): {others}; is the \
             adapter's weight the one that was meant?",
            number(delta / weight),
            number(delta),
            number(weight)
        );
        findings.push(Finding::new(Severity::Warning, "large-delta", &worst.name, message));
    }
    for (stored_as, retention) in by_type(tensors) {
        if let Some(ratio) = retention.ratio().filter(|ratio| *ratio > GROWN) {
            let message = format!(
                "tensors stored as {stored_as} change by {:.0} % of the deltas: this type is too coarse for them",
                ratio * 100.0
            );
            findings.push(Finding::new(Severity::Warning, "grown-delta", "", message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, kept: f64, whole: f64, base: f64) -> TensorRetention {
        let retention = Retention { kept, whole, base, moved: 1, ..Retention::default() };
        TensorRetention { name: name.into(), stored_as: "BF16", retention }
    }

    fn found(tensors: &[TensorRetention]) -> Vec<(&'static str, String)> {
        let findings = doubts(tensors, |name| name != "bias");
        findings.into_iter().map(|f| (f.code, f.subject)).collect()
    }

    #[test]
    fn deltas_beyond_the_weights() {
        let usual = tensor("q", 0.01, 0.01, 1.0);
        assert_eq!(found(std::slice::from_ref(&usual)), []);
        // The squares are compared: 10 times is 100.
        assert_eq!(found(&[usual.clone(), tensor("k", 99.0, 99.0, 1.0)]), []);
        let large = [usual.clone(), tensor("k", 101.0, 101.0, 1.0), tensor("o", 1e9, 1e9, 1e5)];
        assert_eq!(found(&large), [("large-delta", "o".to_string())]);
        let message = doubts(&large, |_| true)[0].message.clone();
        assert!(message.contains("is 100 times") && message.contains("nor in 1 more"), "{message}");
        // A bias of almost nothing may well be learned; one that dwarfs the model may not.
        assert_eq!(found(&[usual.clone(), tensor("bias", 1e-3, 1e-3, 1e-9)]), []);
        assert_eq!(found(&[usual, tensor("bias", 1e3, 1e3, 1e-9)]), [("large-delta", "bias".to_string())]);
        assert_eq!(found(&[tensor("new", 1.0, 1.0, 0.0)]), []);
    }

    #[test]
    fn changes_that_grow() {
        assert_eq!(found(&[tensor("q", 1.4, 1.0, 1.0)]), []);
        assert_eq!(found(&[tensor("q", 1.6, 1.0, 1.0)]), [("grown-delta", String::new())]);
        assert_eq!(found(&[tensor("q", 0.0, 0.0, 1.0)]), []);
    }
}
