//! The formats of bitsandbytes (Dettmers et al. 2021, 2022, 2023): blocks and rows of codes whose scales are separate
//! tensors.
//!
//! A weight `P` of `n` values is stored as several tensors; [`QuantState`] is the one that describes the rest:
//!
//! ```text
//! P                               U8  [ceil(n / 2), 1]   4-bit codes, the first of a pair in bits 4–7
//! P.absmax                        F32 [blocks]           the largest magnitude of each block; or, quantised again:
//!                                 U8  [blocks]             codes of P.nested_quant_map
//! P.nested_absmax                 F32 [blocks / 256]       their scales
//! P.nested_quant_map              F32 [256]                [`double_quant::MAP`]
//! P.quant_map                     F32 [16]               [`FourBit::table`]
//! P.quant_state.bitsandbytes__nf4 U8  [length]           JSON
//!
//! value i = table[code i] · absmax[i / block]
//! ```
//!
//! Blocks run over the values in row-major order and may cross rows. The results of the processor version of
//! bitsandbytes are reproduced byte for byte; its CUDA version takes approximate reciprocals and differs in rare codes,
//! but decodes to the same values.

mod four_bit;
mod problem;
mod quant_state;
mod repr;
mod table;

pub mod double_quant;
pub mod int8;

pub use four_bit::{BLOCK_SIZES, FourBit};
pub use quant_state::{Nested, QuantState};
