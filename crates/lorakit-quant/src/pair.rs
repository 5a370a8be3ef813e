//! Two 4-bit codes in one byte, looked up together.

/// The values of the two codes of each byte.
pub(crate) type Pairs = [[f32; 2]; 256];

/// Which bits of a byte hold the first of its two codes.
#[derive(Clone, Copy)]
pub(crate) enum First {
    /// Bits 0–3.
    Low,
    /// Bits 4–7.
    High,
}

/// The pairs of a table of 16 values.
pub(crate) const fn pairs(table: &[f32; 16], first: First) -> Pairs {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (low, high) = (table[byte & 15], table[byte >> 4]);
        pairs[byte] = match first {
            First::Low => [low, high],
            First::High => [high, low],
        };
        byte += 1;
    }
    pairs
}

/// Decodes bytes to values with one scale. All pairs are looked up before they are multiplied, so that the products are
/// vectorised. If `values` end early, so do the codes.
#[inline(always)]
pub(crate) fn decode<const N: usize>(pairs: &Pairs, codes: &[u8; N], scale: f32, values: &mut [f32]) {
    let found = codes.map(|code| pairs[usize::from(code)]);
    values.iter_mut().zip(found.as_flattened()).for_each(|(value, found)| *value = found * scale);
}
