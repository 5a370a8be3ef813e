//! What "equal" means for merged weights.

use safetensors::tensor::Dtype;

use crate::weights::{Tensor, Weights};

/// Share of 16-bit elements that must be equal bit for bit. PEFT sums in f32, in a different order.
const EQUAL_SHARE: f64 = 0.9999;
/// Largest relative difference of f32 elements.
const F32_DIFFERENCE: f64 = 1e-6;

/// Asserts that `found` is `wanted` in every name, dtype and shape, and as near as the constants above require. A
/// 16-bit element may differ by one ulp of the larger of itself and the base's.
pub fn assert_near(case: &str, base: &Weights, found: &Weights, wanted: &Weights) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{case}");
    let (mut elements, mut different) = (0, 0);
    for (name, want) in wanted {
        let got = &found[name];
        assert_eq!((got.dtype, &got.shape), (want.dtype, &want.shape), "{case}: {name}");
        let (got_values, want_values) = (got.values(), want.values());
        let base_values = base.get(name).filter(|b| b.shape == want.shape).map(Tensor::values);
        for (i, (g, w)) in got_values.iter().zip(&want_values).enumerate() {
            let larger = w.abs().max(base_values.as_ref().map_or(0.0, |b| b[i].abs()));
            let allowed = match want.dtype {
                Dtype::F32 => F32_DIFFERENCE * larger,
                _ => want.ulp(larger),
            };
            assert!((g - w).abs() <= allowed, "{case}: {name}[{i}] is {g}, wanted {w} (+- {allowed:e})");
            if want.dtype != Dtype::F32 {
                elements += 1;
                different += usize::from(g.to_bits() != w.to_bits());
            }
        }
    }
    // In a small tensor one element is more than that share, and may still be next to a tie.
    let few = different <= 1 || different as f64 <= (1.0 - EQUAL_SHARE) * elements as f64;
    assert!(few, "{case}: {different} of {elements} elements differ");
}
