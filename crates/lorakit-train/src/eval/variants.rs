//! Adapters that an adapter is compared with: itself at other strengths, and noise of the same size.

use lorakit_linalg::random::{gaussian, philox4x32};

use crate::model::{Adapter, Lora, Shape, Slot};

/// The adapter at `scale` times its strength.
pub(super) fn scaled(adapter: &Adapter<f32>, scale: f64) -> Adapter<f32> {
    let mut scaled = adapter.clone();
    scaled.layers.iter_mut().flatten().flatten().for_each(|lora| lora.scale *= scale);
    scaled
}

/// An adapter of noise: normal values in each factor, with the Frobenius norm that the factor has, under the same scales.
/// The seed, the draw and the place decide the values.
pub(super) fn noise(adapter: &Adapter<f32>, shape: &Shape, seed: u64, draw: usize) -> Adapter<f32> {
    let mut noise = adapter.clone();
    for (layer, loras) in noise.layers.iter_mut().enumerate() {
        for (slot, lora) in Slot::ALL.into_iter().zip(loras) {
            let Some(Lora { a, b, .. }) = lora else { continue };
            let inputs = shape.size(slot).1;
            let rank = a.len() / inputs;
            for (side, factor, columns) in [(0, a, inputs), (1, b, rank)] {
                let key = [seed as u32, (seed >> 32) as u32];
                let place = [draw as u32, layer as u32, slot as u32, side];
                let [low, high, ..] = philox4x32(place, key);
                let seed = u64::from(high) << 32 | u64::from(low);
                fill(factor, columns, seed);
            }
        }
    }
    noise
}

/// Replaces values by normal ones of the same norm.
fn fill(values: &mut [f32], columns: usize, seed: u64) {
    let norm = |values: &[f32]| values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let before = norm(values);
    let random = gaussian(values.len() / columns.max(1), columns, seed);
    values.iter_mut().zip(&random).for_each(|(value, random)| *value = *random as f32);
    let factor = before / norm(values).max(f64::MIN_POSITIVE);
    values.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_norms_of_the_adapter() {
        let mut values: Vec<f32> = (0..60).map(|x| x as f32 / 7.0 - 3.0).collect();
        let before = values.clone();
        let norm = |values: &[f32]| values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        fill(&mut values, 12, 3);
        assert!((norm(&values) - norm(&before)).abs() < 1e-5 * norm(&before));
        let same = values.iter().zip(&before).filter(|(x, y)| x == y).count();
        assert_eq!(same, 0);
        let mut again = before.clone();
        fill(&mut again, 12, 3);
        assert_eq!(again, values);
        let mut zeros = [0.0; 4];
        fill(&mut zeros, 2, 3);
        assert_eq!(zeros, [0.0; 4]);
    }
}
