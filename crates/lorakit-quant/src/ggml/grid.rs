//! The grids of the `IQ1`, `IQ2` and `IQ3` types: a code stands for 8 (`IQ3`: 4) neighbouring values, those of one
//! point of a lattice that quantised weights are often near.
//!
//! The points are data of ggml (MIT licence, the ggml authors), packed as gguf-py packs them: in hexadecimal, two bytes
//! per point, the first value in the lowest bits, each value as its index among those that occur.

/// 8 steps: -1, 0 or 1.
pub(super) static IQ1: [[i8; 8]; 2048] = unpack(include_bytes!("grids/iq1.hex"), &[-1, 0, 1]);
/// 8 magnitudes.
pub(super) static IQ2_XXS: [[i8; 8]; 256] = unpack(include_bytes!("grids/iq2_xxs.hex"), &IQ2_VALUES);
/// 8 magnitudes.
pub(super) static IQ2_XS: [[i8; 8]; 512] = unpack(include_bytes!("grids/iq2_xs.hex"), &IQ2_VALUES);
/// 8 magnitudes.
pub(super) static IQ2_S: [[i8; 8]; 1024] = unpack(include_bytes!("grids/iq2_s.hex"), &IQ2_VALUES);
/// 4 magnitudes.
pub(super) static IQ3_XXS: [[i8; 4]; 256] =
    unpack(include_bytes!("grids/iq3_xxs.hex"), &[4, 12, 20, 28, 36, 44, 52, 62]);
/// 4 magnitudes.
pub(super) static IQ3_S: [[i8; 4]; 512] =
    unpack(include_bytes!("grids/iq3_s.hex"), &[1, 3, 5, 7, 9, 11, 13, 15]);

const IQ2_VALUES: [i8; 3] = [8, 25, 43];

/// How far the steps of `IQ1` are shifted.
pub(super) const DELTA: f32 = 0.125;

/// The points of a grid, each of `V` indices into `values`.
const fn unpack<const V: usize, const N: usize>(hex: &[u8], values: &[i8]) -> [[i8; V]; N] {
    let bits = 16 / V;
    let mut points = [[0; V]; N];
    let (mut nibbles, mut at) = (0, 0);
    while at < hex.len() {
        let nibble = match hex[at] {
            digit @ b'0'..=b'9' => digit - b'0',
            letter @ b'a'..=b'f' => letter - b'a' + 10,
            _ => {
                at += 1;
                continue;
            }
        };
        // The high half of a byte comes first, and so does the low byte of a point.
        let bit = 4 * ((nibbles % 4) ^ 1);
        let point = &mut points[nibbles / 4];
        let mut place = 0;
        while place < 4 / bits {
            point[bit / bits + place] = values[nibble as usize >> (bits * place) & ((1 << bits) - 1)];
            place += 1;
        }
        nibbles += 1;
        at += 1;
    }
    assert!(nibbles == 4 * N, "a grid has all its points");
    points
}

/// The 32 values of points of a grid.
#[inline(always)]
pub(super) fn values<const V: usize, const N: usize, const P: usize>(
    grid: &[[i8; V]; N],
    points: [usize; P],
) -> [i8; 32] {
    let mut values = [0; 32];
    values.copy_from_slice(points.map(|point| grid[point]).as_flattened());
    values
}

/// Decodes 32 values with two scales: `d · magnitude`, negative where `signs` has a bit.
#[inline(always)]
pub(super) fn decode_signed(d: [f32; 2], magnitudes: &[i8; 32], signs: u32, values: &mut [f32; 32]) {
    for (l, (value, magnitude)) in values.iter_mut().zip(magnitudes).enumerate() {
        let sign = (signs >> l & 1) << 31;
        *value = f32::from_bits((d[l / 16] * f32::from(*magnitude)).to_bits() ^ sign);
    }
}

/// Decodes 32 values with two scales: `d · (step + delta)`, a delta for each point.
#[inline(always)]
pub(super) fn decode_shifted(d: [f32; 2], steps: &[i8; 32], delta: [f32; 4], values: &mut [f32; 32]) {
    for (l, (value, step)) in values.iter_mut().zip(steps).enumerate() {
        *value = d[l / 16] * (f32::from(*step) + delta[l / 8]);
    }
}

/// The signs of 32 values from 4 times 7 bits: the eighth of each group is the one that makes the number of minuses
/// even.
#[inline(always)]
pub(super) fn even_signs(sevens: u32) -> u32 {
    let group = |l: u32| {
        let seven = sevens >> (7 * l) & 127;
        (seven | (seven.count_ones() & 1) << 7) << (8 * l)
    };
    group(0) | group(1) | group(2) | group(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_unpacked_in_order() {
        assert_eq!(IQ1[0], [-1; 8]);
        assert_eq!(IQ1[1], [1, -1, -1, -1, -1, -1, -1, -1]);
        assert_eq!(IQ1[2047], [1; 8]);
        assert_eq!(IQ2_XXS[2], [25, 25, 8, 8, 8, 8, 8, 8]);
        assert_eq!(IQ3_S[3], [11, 1, 1, 1]);
    }

    #[test]
    fn minuses_are_even() {
        assert_eq!(even_signs(0b1111111_0000011_0000001_0000000), 0b11111111_00000011_10000001_00000000);
    }
}
