//! Random numbers that depend on where they are used and on nothing before: Philox4x32-10 (Salmon et al. 2011).

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Four random words for a key and a counter.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let wide = |multiplier: u32, word: u32| u64::from(multiplier) * u64::from(word);
        let (first, second) = (wide(MULTIPLIERS[0], counter[0]), wide(MULTIPLIERS[1], counter[2]));
        let high = |wide: u64| (wide >> 32) as u32;
        counter = [
            high(second) ^ counter[1] ^ key[0],
            second as u32,
            high(first) ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Numbers between -1 and 1, evenly spread: for each seed, layer and linear another row of them.
pub(super) fn uniform(seed: u64, layer: usize, slot: usize, count: usize) -> impl Iterator<Item = f64> {
    let key = [seed as u32, (seed >> 32) as u32];
    let words =
        move |at: usize| philox([at as u32, (at as u64 >> 32) as u32, layer as u32, slot as u32], key);
    let number = |word: u32| (f64::from(word) + 0.5) / f64::from(1u32 << 31) - 1.0;
    (0..count.div_ceil(4)).flat_map(words).take(count).map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kat_vectors` of Random123.
    #[test]
    fn words_are_those_of_the_paper() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(
            philox(pi, [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

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
