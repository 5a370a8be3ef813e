//! Double quantisation: the scales of blocks, themselves quantised.
//!
//! ```text
//! code u8 │ one f32 scale for 256 codes, one f32 offset for all      absmax = MAP[code] · scale + offset
//! ```
//!
//! The map holds 256 values that are dense around zero: seven decades of magnitudes, each with twice the values of
//! the one below (Dettmers et al. 2021, "dynamic tree quantization").

use crate::float::absmax as largest_magnitude;

/// Scales that are coded together.
pub const BLOCK: usize = 256;

/// How a scale finds its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rounding {
    /// The nearest entry of the map, as in the CUDA version of bitsandbytes; of two equally near, the lower.
    #[default]
    Nearest,
    /// As in the processor version, which rounds to one of 65536 steps first: 0.15 % of the codes are next to the
    /// nearest.
    Cpu,
}

/// The mean of the scales, which [`encode`] subtracts. Summed as `f64`, where PyTorch sums `f32` in an order that
/// depends on the machine: the two may differ in the last place.
pub fn offset(absmax: &[f32]) -> f32 {
    let sum: f64 = absmax.iter().map(|&a| f64::from(a)).sum();
    (sum / absmax.len().max(1) as f64) as f32
}

/// Encodes the scales of a tensor, or a part of them that starts at a multiple of [`BLOCK`].
///
/// # Panics
/// Unless there are as many `codes` as scales, and one `nested_absmax` for each [`BLOCK`] of them.
pub fn encode(absmax: &[f32], offset: f32, rounding: Rounding, codes: &mut [u8], nested_absmax: &mut [f32]) {
    assert_eq!(codes.len(), absmax.len());
    assert_eq!(nested_absmax.len(), absmax.len().div_ceil(BLOCK));
    let blocks = absmax.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
    for ((absmax, codes), nested) in blocks.zip(nested_absmax) {
        let mut residual = [0.0; BLOCK];
        residual.iter_mut().zip(absmax).for_each(|(r, a)| *r = a - offset);
        *nested = largest_magnitude(&residual[..absmax.len()]);
        if *nested == 0.0 {
            codes.fill(0);
            continue;
        }
        let reciprocal = 1.0 / *nested;
        for (code, residual) in codes.iter_mut().zip(residual) {
            let value = (residual * reciprocal).clamp(-1.0, 1.0);
            *code = nearest(match rounding {
                Rounding::Nearest => value,
                Rounding::Cpu => {
                    let step = ((value + 1.0) * 0.5 * 65535.0 + 0.5) as u16;
                    -1.0 + f32::from(step) * 2.0 / 65535.0
                }
            });
        }
    }
}

/// Decodes `absmax.len()` scales, starting at scale `skip` of the first block in `codes` and `nested_absmax`. The map
/// is the file's; [`MAP`] is what bitsandbytes writes.
///
/// # Panics
/// If `codes` or `nested_absmax` end before the scales do.
pub fn decode(
    codes: &[u8],
    nested_absmax: &[f32],
    map: &[f32; 256],
    offset: f32,
    skip: usize,
    absmax: &mut [f32],
) {
    let (mut codes, mut absmax) = (&codes[skip..skip + absmax.len()], absmax);
    let mut room = BLOCK - skip % BLOCK;
    for nested in nested_absmax.iter().skip(skip / BLOCK) {
        if codes.is_empty() {
            break;
        }
        let (of_block, after) = codes.split_at(room.min(codes.len()));
        let (scales, left) = absmax.split_at_mut(of_block.len());
        decode_block(of_block, *nested, map, offset, scales);
        (codes, absmax, room) = (after, left, BLOCK);
    }
    assert!(codes.is_empty(), "{} scales have no scale", codes.len());
}

wide! {
    fn decode_block(codes: &[u8], nested: f32, map: &[f32; 256], offset: f32, absmax: &mut [f32]) {
        for (absmax, code) in absmax.iter_mut().zip(codes) {
            *absmax = map[usize::from(*code)] * nested + offset;
        }
    }
}

/// The code of the entry nearest to a value: the number of midpoints below it.
fn nearest(value: f32) -> u8 {
    const MIDPOINTS: [f32; 255] = {
        let mut midpoints = [0.0; 255];
        let mut i = 0;
        while i < 255 {
            midpoints[i] = 0.5 * (MAP[i] + MAP[i + 1]);
            i += 1;
        }
        midpoints
    };
    MIDPOINTS.partition_point(|&midpoint| midpoint < value) as u8
}

/// The values of the codes: `create_dynamic_map` of bitsandbytes.
pub const MAP: [f32; 256] = {
    let mut map = [0.0; 256];
    let mut i = 0;
    while i < 256 {
        map[i] = f32::from_bits(BITS[i]);
        i += 1;
    }
    map
};

#[rustfmt::skip]
const BITS: [u32; 256] = [
    0xbf7e3333, 0xbf7a999a, 0xbf770000, 0xbf736666, 0xbf6fcccd, 0xbf6c3333, 0xbf68999a, 0xbf650000,
    0xbf616666, 0xbf5dcccd, 0xbf5a3333, 0xbf56999a, 0xbf530000, 0xbf4f6666, 0xbf4bcccd, 0xbf483333,
    0xbf44999a, 0xbf410000, 0xbf3d6666, 0xbf39cccd, 0xbf363334, 0xbf32999a, 0xbf2f0000, 0xbf2b6666,
    0xbf27cccd, 0xbf243334, 0xbf20999a, 0xbf1d0000, 0xbf196666, 0xbf15cccd, 0xbf123334, 0xbf0e999a,
    0xbf0b0000, 0xbf076666, 0xbf03cccc, 0xbf003333, 0xbef93332, 0xbef20000, 0xbeeacccc, 0xbee3999a,
    0xbedc6666, 0xbed53333, 0xbece0000, 0xbec6cccc, 0xbebf999a, 0xbeb86666, 0xbeb13333, 0xbeaa0000,
    0xbea2cccc, 0xbe9b999a, 0xbe946666, 0xbe8d3334, 0xbe860000, 0xbe7d9999, 0xbe6f3333, 0xbe60cccd,
    0xbe526666, 0xbe440000, 0xbe35999a, 0xbe273333, 0xbe18cccd, 0xbe0a6666, 0xbdf80000, 0xbddb3334,
    0xbdc9eb85, 0xbdc428f7, 0xbdbe6667, 0xbdb8a3d7, 0xbdb2e148, 0xbdad1eb8, 0xbda75c2a, 0xbda1999a,
    0xbd9bd70a, 0xbd96147b, 0xbd9051eb, 0xbd8a8f5d, 0xbd84cccd, 0xbd7e147b, 0xbd728f5d, 0xbd670a3d,
    0xbd5b851f, 0xbd500000, 0xbd447ae1, 0xbd38f5c3, 0xbd2d70a3, 0xbd21eb85, 0xbd166667, 0xbd0ae148,
    0xbcfeb852, 0xbce7ae15, 0xbcd0a3d7, 0xbcb9999a, 0xbca28f5d, 0xbc8b851f, 0xbc68f5c3, 0xbc3ae148,
    0xbc1f3b64, 0xbc160418, 0xbc0ccccd, 0xbc039581, 0xbbf4bc6a, 0xbbe24dd3, 0xbbcfdf3b, 0xbbbd70a4,
    0xbbab020d, 0xbb989374, 0xbb8624dd, 0xbb676c8a, 0xbb428f5c, 0xbb1db22d, 0xbaf1a9fc, 0xbaa7ef9d,
    0xba7765ff, 0xba59e83e, 0xba3c6a80, 0xba1eecc1, 0xba016f01, 0xb9c7e283, 0xb98ce705, 0xb923d70b,
    0xb8ba1f4b, 0xb88aefb3, 0xb8378034, 0xb7b24206, 0xb70205ff, 0xb65a1a94, 0xb513a3b7, 0x00000000,
    0x3513a3b7, 0x365a1a94, 0x370205ff, 0x37b24206, 0x38378034, 0x388aefb3, 0x38ba1f4b, 0x3923d70b,
    0x398ce705, 0x39c7e283, 0x3a016f01, 0x3a1eecc1, 0x3a3c6a80, 0x3a59e83e, 0x3a7765ff, 0x3aa7ef9d,
    0x3af1a9fc, 0x3b1db22d, 0x3b428f5c, 0x3b676c8a, 0x3b8624dd, 0x3b989374, 0x3bab020d, 0x3bbd70a4,
    0x3bcfdf3b, 0x3be24dd3, 0x3bf4bc6a, 0x3c039581, 0x3c0ccccd, 0x3c160418, 0x3c1f3b64, 0x3c3ae148,
    0x3c68f5c3, 0x3c8b851f, 0x3ca28f5d, 0x3cb9999a, 0x3cd0a3d7, 0x3ce7ae15, 0x3cfeb852, 0x3d0ae148,
    0x3d166667, 0x3d21eb85, 0x3d2d70a3, 0x3d38f5c3, 0x3d447ae1, 0x3d500000, 0x3d5b851f, 0x3d670a3d,
    0x3d728f5d, 0x3d7e147b, 0x3d84cccd, 0x3d8a8f5d, 0x3d9051eb, 0x3d96147b, 0x3d9bd70a, 0x3da1999a,
    0x3da75c2a, 0x3dad1eb8, 0x3db2e148, 0x3db8a3d7, 0x3dbe6667, 0x3dc428f7, 0x3dc9eb85, 0x3ddb3334,
    0x3df80000, 0x3e0a6666, 0x3e18cccd, 0x3e273333, 0x3e35999a, 0x3e440000, 0x3e526666, 0x3e60cccd,
    0x3e6f3333, 0x3e7d9999, 0x3e860000, 0x3e8d3334, 0x3e946666, 0x3e9b999a, 0x3ea2cccc, 0x3eaa0000,
    0x3eb13333, 0x3eb86666, 0x3ebf999a, 0x3ec6cccc, 0x3ece0000, 0x3ed53333, 0x3edc6666, 0x3ee3999a,
    0x3eeacccc, 0x3ef20000, 0x3ef93332, 0x3f003333, 0x3f03cccc, 0x3f076666, 0x3f0b0000, 0x3f0e999a,
    0x3f123334, 0x3f15cccd, 0x3f196666, 0x3f1d0000, 0x3f20999a, 0x3f243334, 0x3f27cccd, 0x3f2b6666,
    0x3f2f0000, 0x3f32999a, 0x3f363334, 0x3f39cccd, 0x3f3d6666, 0x3f410000, 0x3f44999a, 0x3f483333,
    0x3f4bcccd, 0x3f4f6666, 0x3f530000, 0x3f56999a, 0x3f5a3333, 0x3f5dcccd, 0x3f616666, 0x3f650000,
    0x3f68999a, 0x3f6c3333, 0x3f6fcccd, 0x3f736666, 0x3f770000, 0x3f7a999a, 0x3f7e3333, 0x3f800000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_its_own_nearest() {
        for (code, value) in MAP.iter().enumerate() {
            assert_eq!(usize::from(nearest(*value)), code);
        }
        assert!(MAP.is_sorted_by(|a, b| a < b));
        assert_eq!((MAP[0], MAP[127], MAP[255]), (-0.992_968_74, 0.0, 1.0));
    }

    #[test]
    fn scales_that_are_all_equal_are_the_offset() {
        let (mut codes, mut nested, mut back) = ([9; 300], [9.0; 2], [9.0; 300]);
        encode(&[0.25; 300], 0.25, Rounding::Nearest, &mut codes, &mut nested);
        assert_eq!((codes, nested), ([0; 300], [0.0; 2]));
        decode(&codes, &nested, &MAP, 0.25, 0, &mut back);
        assert_eq!(back, [0.25; 300]);
        assert_eq!(offset(&[0.25; 300]), 0.25);
        assert_eq!(offset(&[]), 0.0);
    }

    #[test]
    fn what_is_not_finite_does_not_panic() {
        for rounding in [Rounding::Nearest, Rounding::Cpu] {
            let (mut codes, mut nested) = ([9; 3], [9.0; 1]);
            encode(&[f32::NAN, f32::INFINITY, 1.0], 0.5, rounding, &mut codes, &mut nested);
            assert!(nested[0].is_nan());
            encode(&[1e-45, 0.0, 0.0], 0.0, rounding, &mut codes, &mut nested);
            assert_eq!(nested, [1e-45]);
        }
    }

    /// Any part decodes to the same values as in the whole.
    #[test]
    fn parts_decode_like_the_whole() {
        let codes: Vec<u8> = (0..700).map(|i| (i * 31 % 256) as u8).collect();
        let nested = [1.0, 2.0, 3.0];
        let mut whole = [0.0; 700];
        decode(&codes, &nested, &MAP, 0.1, 0, &mut whole);
        for (start, end) in [(0, 1), (255, 257), (300, 700), (512, 513)] {
            let mut part = vec![0.0; end - start];
            let block = start / BLOCK;
            decode(&codes[block * BLOCK..], &nested[block..], &MAP, 0.1, start % BLOCK, &mut part);
            assert_eq!(part, whole[start..end]);
        }
    }
}
