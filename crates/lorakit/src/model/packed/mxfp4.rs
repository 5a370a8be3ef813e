//! The experts of gpt-oss: see [`lorakit_quant::mxfp4`] for how they are stored.
//!
//! Matrices are stored as `[out, in]`, in groups along a row; the view shows them as `[in, out]`, as in transformers.

use lorakit_quant::mxfp4::{GROUP, decode};
use lorakit_tensor::{Checkpoint, DType, Result, TensorInfo, TensorSource};

use super::kind::{PackedType, PackingKind};
use super::scheme::{Packed, Scheme, Weight};
use super::stored::Stored;
use super::write_mxfp4;
use crate::plan::Packer;

/// MXFP4 of gpt-oss.
pub(super) const MXFP4: PackingKind = PackingKind {
    find,
    types: &[PackedType {
        name: "mxfp4",
        packer: Packer::Mxfp4,
        bits: 4.25,
        about: "4-bit floats, a power of two for 32 values: the experts of gpt-oss, only those",
    }],
    pack: write_mxfp4::experts,
    config: write_mxfp4::quantization_config,
};

/// Bytes of the codes of one group.
const BYTES: usize = GROUP / 2;

/// A stack of matrices, seen as `[experts, in, out]`.
struct Mxfp4Weight {
    info: TensorInfo,
    codes: usize,
    scales: usize,
}

/// Every `X_blocks` of groups that has `X_scales`.
fn find(stored: &Stored<'_>) -> crate::Result<Vec<Packed>> {
    let mut packed = Vec::new();
    for (codes, info) in stored.tensors().iter().enumerate() {
        let (Some(name), DType::U8, [experts, out, groups, BYTES]) =
            (info.name.strip_suffix("_blocks"), info.dtype, info.shape.as_slice())
        else {
            continue;
        };
        let count = (experts * out * groups) as u64;
        let scales = stored.need_values(&format!("{name}_scales"), codes, DType::U8, count)?;
        let shape = vec![*experts, groups * GROUP, *out];
        let info = TensorInfo { name: name.to_string(), dtype: DType::BF16, shape };
        let weight = Box::new(Mxfp4Weight { info, codes, scales });
        packed.push(Packed { weight, scheme: Scheme::Mxfp4, codes, sidecars: vec![scales] });
    }
    Ok(packed)
}

impl Weight for Mxfp4Weight {
    fn info(&self) -> &TensorInfo {
        &self.info
    }

    fn decode(&self, stored: &Checkpoint, first: u64, values: &mut [f32]) -> Result<()> {
        let (inputs, outputs) = (self.info.shape[1], self.info.shape[2]);
        let matrix_len = (inputs * outputs) as u64;
        let mut at = first;
        let mut rest = values;
        while !rest.is_empty() {
            let (expert, inside) = (at / matrix_len, (at % matrix_len) as usize);
            let (part, after) = rest.split_at_mut((inputs * outputs - inside).min(rest.len()));
            at += part.len() as u64;
            rest = after;
            // The whole matrix, because part of every row is needed; borrowed if the file is mapped.
            let groups = (matrix_len as usize / GROUP) as u64;
            let codes = stored
                .read(self.codes, expert * groups * BYTES as u64..(expert + 1) * groups * BYTES as u64)?;
            let scales = stored.read(self.scales, expert * groups..(expert + 1) * groups)?;
            transposed(&codes, &scales, inputs, outputs, inside, part);
        }
        Ok(())
    }
}

/// Values from `first` on of the transpose of a matrix `[outputs, inputs]`.
fn transposed(codes: &[u8], scales: &[u8], inputs: usize, outputs: usize, first: usize, values: &mut [f32]) {
    let end = first + values.len();
    let rows = first / outputs..end.div_ceil(outputs);
    let groups = rows.start / GROUP..rows.end.div_ceil(GROUP);
    let mut run = vec![0.0; groups.len() * GROUP];
    for output in 0..outputs {
        let before = output * inputs / GROUP;
        let (from, to) = (before + groups.start, before + groups.end);
        decode(&codes[from * BYTES..to * BYTES], &scales[from..to], &mut run);
        for row in rows.clone() {
            let at = row * outputs + output;
            if (first..end).contains(&at) {
                values[at - first] = run[row - groups.start * GROUP];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_transposed_like_the_whole() {
        let (inputs, outputs) = (96, 5);
        let codes: Vec<u8> = (0..inputs * outputs / 2).map(|i| (i * 37 % 256) as u8).collect();
        let scales: Vec<u8> = (0..inputs * outputs / GROUP).map(|i| 120 + i as u8).collect();
        let mut plain = vec![0.0; inputs * outputs];
        decode(&codes, &scales, &mut plain);
        for (start, end) in [(0, 480), (0, 1), (3, 8), (158, 163), (479, 480), (200, 200)] {
            let mut part = vec![9.0; end - start];
            transposed(&codes, &scales, inputs, outputs, start, &mut part);
            let expected: Vec<f32> =
                (start..end).map(|i| plain[i % outputs * inputs + i / outputs]).collect();
            assert_eq!(part, expected, "{start}..{end}");
        }
    }
}
