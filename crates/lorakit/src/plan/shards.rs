//! How many files the tensors of an output need.

use lorakit_tensor::format::safetensors;

use super::OutputTensor;

/// What one file holds at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of data; a larger tensor gets a file of its own.
    pub(super) data: u64,
    /// Number of tensors.
    pub(super) tensors: usize,
    /// Bytes of the header that describe tensors.
    pub(super) header: u64,
}

impl Limits {
    /// The limits of a safetensors file with `metadata` bytes of other entries in its header. If its data is not
    /// limited, it is the only file: readers of adapters do not know shards.
    pub(super) fn of_safetensors(data: u64, metadata: u64) -> Self {
        const FRAME: u64 = 64;
        if data == u64::MAX {
            return Limits { data, tensors: usize::MAX, header: u64::MAX };
        }
        let header = safetensors::MAX_HEADER_BYTES.saturating_sub(metadata + FRAME);
        Limits { data, tensors: safetensors::MAX_TENSORS, header }
    }

    /// Cuts the list into runs that fit, never cutting a tensor.
    pub(super) fn split(self, tensors: Vec<OutputTensor>) -> Vec<Vec<OutputTensor>> {
        let mut shards: Vec<Vec<OutputTensor>> = Vec::new();
        let mut shard: Vec<OutputTensor> = Vec::new();
        let (mut data, mut header) = (0, 0);
        for tensor in tensors {
            let bytes = tensor.info.byte_len();
            let entry = safetensors::entry_bytes(&tensor.info);
            let full = data > 0 && data + bytes > self.data
                || shard.len() == self.tensors
                || header > 0 && header + entry > self.header;
            if full {
                shards.push(std::mem::take(&mut shard));
                (data, header) = (0, 0);
            }
            data += bytes;
            header += entry;
            shard.push(tensor);
        }
        shards.push(shard);
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::tests::tensor;

    /// Lengths of the runs that tensors of these sizes are cut into.
    fn cut(limits: Limits, sizes: &[usize]) -> Vec<usize> {
        let tensors = sizes.iter().enumerate().map(|(i, size)| {
            let values = vec![0.0; size / 4];
            OutputTensor::copy(tensor(&format!("t{i}"), &[values.len()], &values))
        });
        limits.split(tensors.collect()).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_file_is_full_of_bytes_of_tensors_or_of_names() {
        let all = Limits { data: u64::MAX, tensors: 100, header: u64::MAX };
        assert_eq!(cut(all, &[4; 7]), [7]);
        assert_eq!(cut(Limits { data: 8, ..all }, &[4, 4, 4, 12, 0, 4]), [2, 1, 1, 2]);
        assert_eq!(cut(Limits { tensors: 3, ..all }, &[4; 7]), [3, 3, 1]);
        let entry = safetensors::entry_bytes(tensor("t0", &[1], &[0.0]).info());
        assert_eq!(cut(Limits { header: 2 * entry, ..all }, &[4; 5]), [2, 2, 1]);
        assert_eq!(cut(Limits { header: 0, ..all }, &[4; 2]), [1, 1]);
        assert_eq!(cut(all, &[]), [0]);
    }
}
