//! Numbers that look random, from counters: each depends on what it is for, not on how many were drawn before.

/// A permutation of 64 bits whose results look random: a step of SplitMix64 (Steele, Lea and Flood, *Fast splittable
/// pseudorandom number generators*, 2014).
pub(crate) fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    /// The first numbers of SplitMix64 whose state begins at 0.
    #[test]
    fn numbers_are_those_of_the_paper() {
        let states = (0..3u64).map(|step| step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let found: Vec<u64> = states.map(super::mixed).collect();
        assert_eq!(found, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }
}
