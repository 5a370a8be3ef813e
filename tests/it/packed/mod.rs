//! Quantised checkpoints read like ordinary ones, and adapters merged into them.

mod decoded;
mod merged;
mod refusals;

use std::fs;
use std::path::Path;

use lorakit::Model;
use lorakit_tensor::{ReadMode, Reader};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::fixtures;
use crate::weights::{Tensor, Weights, read_file, write_file};

/// The module whose weight is packed.
const MODULE: &str = "model.layers.0.self_attn.q_proj";

/// Writes a model folder: `weights` and a `config.json` with that `quantization_config`.
fn write_model(folder: &Path, weights: &Weights, quantization: Value) {
    fs::create_dir_all(folder).unwrap();
    write_file(&folder.join("model.safetensors"), weights);
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 1,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": false,
        "quantization_config": quantization,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// A case of `fixtures/golden/bnb` as tensors of [`MODULE`], next to a norm; and what bitsandbytes decodes it to.
fn golden(case: &str) -> (Weights, Tensor) {
    let mut file = read_file(&fixtures().join(format!("golden/bnb/{case}.safetensors")));
    let dequantized = file.remove("dequantized").unwrap();
    file.remove("input");
    let named = file.into_iter().map(|(name, tensor)| (format!("{MODULE}.{name}"), tensor));
    (named.chain([("model.norm.weight".to_string(), norm())]).collect(), dequantized)
}

fn norm() -> Tensor {
    Tensor::new(Dtype::F32, &[4], &[1.0, 0.5, 0.25, 2.0])
}

fn bytes(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor { dtype, shape: shape.to_vec(), bytes }
}

/// What a folder looks like with its packed weights decoded.
fn seen(folder: &Path, mode: ReadMode) -> (Weights, Option<String>) {
    let model = Model::open_as_hf(folder, &Reader::new(mode), None).unwrap();
    let tensor = |index: usize| {
        let tensor = model.tensor(index);
        let info = tensor.info();
        let dtype = match info.dtype.name() {
            "F32" => Dtype::F32,
            "BF16" => Dtype::BF16,
            "F16" => Dtype::F16,
            other => panic!("{other}"),
        };
        let all = tensor.read(0..info.byte_len()).unwrap().into_owned();
        // Any range is that range of the whole.
        let len = all.len() as u64;
        for (start, end) in [(0, 1), (1, 3), (len / 3, len / 2 + 1), (len - 1, len)] {
            assert_eq!(*tensor.read(start..end).unwrap(), all[start as usize..end as usize]);
        }
        (info.name.clone(), bytes(dtype, &info.shape, all))
    };
    let packing = model.packing.as_ref().map(|packing| {
        let names: Vec<&str> = packing.tensors.iter().map(|&i| model.tensors()[i].name.as_str()).collect();
        format!("{}: {}", packing.scheme, names.join(" "))
    });
    ((0..model.tensors().len()).map(tensor).collect(), packing)
}
