//! How values become those of a dtype.

use lorakit_quant::{Codec, Encoder, codec, encoder};
use lorakit_tensor::DType;

/// Encodes values and decodes them again.
#[derive(Clone, Copy)]
pub(super) struct Storing {
    encoder: &'static dyn Encoder,
    decoder: &'static dyn Codec,
}

impl Storing {
    /// `None` for a dtype that cannot be encoded.
    pub(super) fn new(dtype: DType) -> Option<Self> {
        encoder(dtype).zip(codec(dtype)).map(|(encoder, decoder)| Storing { encoder, decoder })
    }

    /// Whether an importance matrix makes a difference.
    pub(super) fn uses_importance(self) -> bool {
        self.encoder.uses_importance()
    }

    /// Fills `bytes` with `values`.
    pub(super) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        bytes.resize(self.encoder.dtype().byte_len(values.len() as u64).unwrap_or(0) as usize, 0);
        self.encoder.encode(values, bytes);
    }

    /// The same; `values` become what a reader gets.
    pub(super) fn store(self, values: &mut [f32], bytes: &mut Vec<u8>) {
        self.encode(values, bytes);
        self.decoder.decode(bytes, values);
    }
}
