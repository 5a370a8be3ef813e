//! `lorakit quantize`, and `lorakit merge --quantize`.

mod llama_quantize;
