//! `lorakit quantize`, and `lorakit merge --quantize`.

mod blocks;
mod errors;
mod experts;
mod float8;
mod gate;
mod llama_quantize;
mod mxfp4;
mod one_pass;
mod packed;
mod reports;
