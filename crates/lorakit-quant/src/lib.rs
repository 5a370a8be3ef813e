//! Block codecs: packed tensor values to `f32` and back, bit for bit as the reference implementations do.
//!
//! A quantised tensor is a sequence of blocks, each row a whole number of them. A block codes a fixed number of
//! neighbouring values together: small integers, and the scales that turn them back into values. `Q4_0`, say,
//! stores 32 values in 18 bytes:
//!
//! ```text
//! byte   0     2                                                    18
//!        ├─────┼──────────────────────────────────────────────────────┤
//!        │  d  │ qs[0]  qs[1]  …  qs[15]                              │
//!        └─────┴──────────────────────────────────────────────────────┘
//!          f16   qs[j]: bits 0–3 code value j, bits 4–7 value j + 16
//!
//! value = (code - 8) · d
//! ```
//!
//! [`codec`] finds the decoder of a type, [`encoder`] its encoder. Where scales are separate tensors, a module
//! describes how the tensors belong together: [`bnb`], [`fp8`], [`mxfp4`]. Every `f32` operation is one IEEE operation
//! in the order of the reference, never fused or reassociated, so results do not depend on the machine.
//!
//! ```
//! use lorakit_quant::codec;
//! use lorakit_tensor::DType;
//!
//! let mut block = [0x98; 18]; // every code is 8 or 9
//! block[..2].copy_from_slice(&[0x00, 0x38]); // d = 0.5
//!
//! let mut values = [f32::NAN; 32];
//! codec(DType::Q4_0).expect("has a codec").decode(&block, &mut values);
//! assert_eq!(values[..16], [0.0; 16]);
//! assert_eq!(values[16..], [0.5; 16]);
//! ```

#![deny(missing_docs)]

#[macro_use]
mod wide;

pub mod bnb;
pub mod fp8;
pub mod mix;
pub mod mxfp4;

mod codec;
mod error;
mod float;
mod float8;
mod ggml;
mod pair;

pub use codec::{CODECS, Codec, ENCODERS, Encoder, codec, encoder};
pub use float::all_finite;
