//! The 6-bit scales and minima of `Q4_K` and `Q5_K`: eight pairs in twelve bytes.
//!
//! ```text
//! byte j     < 4 : scale j (bits 0–5), bits 4–5 of scale j + 4 (bits 6–7)
//! byte j + 4     : min j   (bits 0–5), bits 4–5 of min j + 4   (bits 6–7)
//! byte j + 8     : bits 0–3 of scale j + 4 (bits 0–3), bits 0–3 of min j + 4 (bits 4–7)
//! ```

/// The `(scale, min)` of each of the eight sub-blocks.
#[inline(always)]
pub(super) fn unpack(packed: &[u8; 12]) -> [(u8, u8); 8] {
    let mut pairs = [(0, 0); 8];
    for j in 0..4 {
        let (scale, min, low) = (packed[j], packed[j + 4], packed[j + 8]);
        pairs[j] = (scale & 63, min & 63);
        pairs[j + 4] = ((low & 15) | (scale >> 6) << 4, (low >> 4) | (min >> 6) << 4);
    }
    pairs
}
