//! Finite differences and goldens.

use std::path::PathBuf;

/// Numbers between -1 and 1.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    };
    (0..count).map(next).collect()
}

/// Checks that `gradient` is that of `f` at `x`, by central differences, within 1e-6 of its largest entry.
pub(super) fn agrees(x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    let largest = gradient.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    assert!(largest > 0.0, "a gradient of zeros");
    let mut moved = x.to_vec();
    for (at, found) in gradient.iter().enumerate().step_by(1 + x.len() / 200) {
        moved[at] = x[at] + STEP;
        let above = f(&moved);
        moved[at] = x[at] - STEP;
        let expected = (above - f(&moved)) / (2.0 * STEP);
        moved[at] = x[at];
        assert!((found - expected).abs() < 1e-6 * largest, "at {at}: {found} is not {expected}");
    }
}

pub(super) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/train").join(name)
}

pub(crate) fn golden_json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(golden(&format!("{name}.json"))).unwrap()).unwrap()
}
