//! Random numbers that depend on where they are used and on nothing before.

use lorakit_linalg::random::philox4x32;

/// Numbers between -1 and 1, evenly spread: for each seed, layer and linear another row of them.
pub(super) fn uniform(seed: u64, layer: usize, slot: usize, count: usize) -> impl Iterator<Item = f64> {
    let key = [seed as u32, (seed >> 32) as u32];
    let words =
        move |at: usize| philox4x32([at as u32, (at as u64 >> 32) as u32, layer as u32, slot as u32], key);
    let number = |word: u32| (f64::from(word) + 0.5) / f64::from(1u32 << 31) - 1.0;
    (0..count.div_ceil(4)).flat_map(words).take(count).map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly() {
        let numbers: Vec<f64> = uniform(42, 3, 5, 100_001).collect();
        let mean = |power: i32| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / numbers.len() as f64;
        assert!(numbers.iter().all(|x| -1.0 < *x && *x < 1.0));
        assert!(mean(1).abs() < 0.01 && (mean(2) - 1.0 / 3.0).abs() < 0.01, "{} {}", mean(1), mean(2));
        let others = [(43, 3, 5), (42, 4, 5), (42, 3, 6)];
        for (seed, layer, slot) in others {
            let same = uniform(seed, layer, slot, 1000).zip(&numbers).filter(|(x, y)| x == *y).count();
            assert_eq!(same, 0);
        }
    }
}
