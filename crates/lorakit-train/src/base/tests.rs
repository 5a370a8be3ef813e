//! Models of every kind that is read, compared with what transformers and bitsandbytes make of them
//! (`fixtures/generate/base_logits.py`), and files that are refused.

use std::path::PathBuf;

use lorakit::ops::convert::{ToGgufOptions, hf_to_gguf};
use lorakit::ops::quantize::{self, Mix, Quantization, QuantizeOptions};
use lorakit::plan::{Packer, Silent};
use lorakit::{DType, FileType, MixOptions};
use lorakit_quant::bnb::FourBit;
use lorakit_tensor::Checkpoint;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::data::Text;
use crate::kernel::{Compute, Products};
use crate::model::Adapter;

const PRODUCTS: Products = Products { compute: Compute::F32, threads: 2 };

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn open(path: &Path, quant: Quant) -> Base {
    Base::open(path, quant, 2, &Silent).unwrap()
}

fn refused(path: &Path, quant: Quant) -> Error {
    Base::open(path, quant, 2, &Silent).err().expect("it is refused")
}

/// The message with its details, and without the path of the temporary folder.
fn told(error: &Error, folder: &Path) -> String {
    let lines = error.detail_lines().iter().map(|line| format!("\n    {line}"));
    let text = format!("{}: {error}{}", error.kind().name(), lines.collect::<String>());
    text.replace(&folder.display().to_string(), "TEMP")
}

fn golden() -> Checkpoint {
    Checkpoint::open(&fixture("golden/train/base.safetensors"), &Reader::default()).unwrap()
}

fn bytes_of(golden: &Checkpoint, name: &str) -> Vec<u8> {
    let index = golden.find(name).expect(name);
    golden.read(index, 0..golden.tensors()[index].byte_len()).unwrap().into_owned()
}

fn tokens(golden: &Checkpoint, model: &str) -> Vec<u32> {
    let bytes = bytes_of(golden, &format!("{model}.tokens"));
    bytes.as_chunks::<8>().0.iter().map(|token| i64::from_le_bytes(*token) as u32).collect()
}

fn floats(golden: &Checkpoint, name: &str) -> Vec<f32> {
    bytes_of(golden, name).as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

fn logits(model: &Model, adapter: &Adapter<f32>, tokens: &[u32]) -> Vec<f32> {
    model.logits(adapter, tokens, 0..tokens.len(), PRODUCTS)
}

fn alone(base: &Base, tokens: &[u32]) -> Vec<f32> {
    logits(&base.model, &Adapter::none(&base.model.shape), tokens)
}

fn furthest(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).fold(0.0, |most, (x, y)| most.max((x - y).abs()))
}

/// `tiny-orders` as a GGUF file of that type.
fn gguf(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(format!("{name}.gguf"));
    let source = fixture("tiny-orders");
    if name == "bf16" {
        hf_to_gguf(&ToGgufOptions::new(source, &path), &Silent).unwrap().plan.run(1, &Silent).unwrap();
    } else {
        let file_type = Some(FileType::from_name(&name.to_uppercase()).unwrap());
        let mix = Mix { file_type, options: MixOptions::default(), promote: None };
        let options = QuantizeOptions::new(source, &path, Quantization::Gguf { mix, imatrix: None });
        quantize::plan(&options, &Silent).unwrap().run(1, &Silent).unwrap();
    }
    path
}

#[test]
fn logits_are_those_of_transformers() {
    let golden = golden();
    for name in ["llama", "llama2", "mistral", "qwen2", "qwen3", "gemma3", "smollm3"] {
        let base = open(&fixture(&format!("golden/convert/{name}")), Quant::F32);
        let tokens = tokens(&golden, name);
        let (found, expected) = (alone(&base, &tokens), floats(&golden, &format!("{name}.logits")));
        let off = furthest(&found, &expected);
        println!(
            "{name}: logits off by {off:.1e}, at most {:.1}",
            furthest(&expected, &vec![0.0; expected.len()])
        );
        assert!(off < 1e-5, "{name}: {off:e}");
        let kept = open(&fixture(&format!("golden/convert/{name}")), Quant::Keep);
        assert!(alone(&kept, &tokens) == found, "{name}: bf16 as it is");
    }
}

#[test]
fn logits_with_an_adapter_are_those_of_peft() {
    let golden = golden();
    let base = open(&fixture("tiny-orders"), Quant::F32);
    let tokens = tokens(&golden, "tiny-orders");
    assert!(furthest(&alone(&base, &tokens), &floats(&golden, "tiny-orders.logits")) < 1e-5);
    let (_, adapter) = crate::adapter::read(&fixture("tiny-json-lora"), &base).unwrap();
    let expected = floats(&golden, "tiny-orders.lora");
    let off = furthest(&logits(&base.model, &adapter, &tokens), &expected);
    let largest = furthest(&expected, &vec![0.0; expected.len()]);
    println!("with the adapter off by {off:.1e}, at most {largest:.1}");
    assert!(off < 1e-6 * largest, "{off:e}");
}

#[test]
fn nf4_has_the_bits_of_bitsandbytes() {
    let golden = golden();
    let base = open(&fixture("tiny-orders"), Quant::Nf4 { double: false });
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixture("golden/train/nf4.json")).unwrap()).unwrap();
    let mut compared = 0;
    for (at, layer) in base.model.layers.iter().enumerate() {
        for (slot, linear) in Slot::ALL.into_iter().zip(&layer.linears) {
            let (rows, cols) = (linear.weight.rows(), linear.weight.cols());
            let mut values = vec![0.0; rows * cols];
            values
                .chunks_exact_mut(cols)
                .enumerate()
                .for_each(|(row, out)| linear.weight.decode(row, 0..cols, out));
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(expected[base.weight(at, slot)], json!(digest), "{at} {slot:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, expected.as_object().unwrap().len());
    let tokens = tokens(&golden, "tiny-orders");
    let off = |base: &Base, name: &str| furthest(&alone(base, &tokens), &floats(&golden, name));
    let plain = off(&base, "tiny-orders.nf4");
    // The mean of the scales, which torch sums in another order, is off by the last bit in some tensors.
    let double = open(&fixture("tiny-orders"), Quant::Nf4 { double: true });
    let doubly = off(&double, "tiny-orders.nf4-double");
    println!("off by {plain:.1e}, with double quantisation {doubly:.1e}");
    assert!(plain < 1e-5 && doubly < 1e-2, "{plain:e} {doubly:e}");
    assert!(double.bytes < 600_000, "{} bytes", double.bytes);
}

/// What is quantised while it streams in is what `lorakit quantize` writes, and has the same digest.
#[test]
fn a_folder_of_bitsandbytes_is_the_same_as_quantising_here() {
    for double in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let packed =
            packed(&folder, "packed", Packer::FourBit { kind: FourBit::Nf4, block: 64, nested: double });
        let (here, read) = (open(&fixture("tiny-orders"), Quant::Nf4 { double }), open(&packed, Quant::Keep));
        assert_eq!(Quant::usual(read.opened()), Quant::Keep);
        let tokens = [1, 5, 9, 200];
        assert!(alone(&here, &tokens) == alone(&read, &tokens));
        assert_eq!((&here.trained_on, here.bytes), (&read.trained_on, read.bytes));
        assert_eq!(read.trained_on, read.weights);
        assert_ne!(here.trained_on, here.weights);

        let decoded = open(&packed, Quant::F32);
        assert!(furthest(&alone(&decoded, &tokens), &alone(&read, &tokens)) < 0.1, "rounded to bf16");
        if !double {
            let error = refused(&packed, Quant::Nf4 { double });
            insta::assert_snapshot!(told(&error, folder.path()), @"Requantized: `TEMP/packed/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: is stored as bitsandbytes NF4; quantising it again would lose twice: train on it as it is (`keep`), or on the model from which it was made");
        }
    }
}

#[test]
fn shards_and_floats_of_any_kind_are_read() {
    let tokens = [1, 5, 9, 60];
    let of = |name: &str, quant| alone(&open(&fixture(&format!("golden/peft/bases/{name}")), quant), &tokens);
    assert!(of("llama-bf16-sharded", Quant::Keep) == of("llama-bf16", Quant::Keep));
    for name in ["llama-bf16", "llama-f16", "llama-f32"] {
        let kept = of(name, Quant::Keep);
        assert!(of(name, Quant::F32) == kept, "{name}");
        for quant in [Quant::F16, Quant::Bf16] {
            let off = furthest(&of(name, quant), &kept);
            assert!(off < 0.05, "{name} {quant}: {off}");
        }
        assert!(of(name, Quant::Nf4 { double: true }) != kept, "{name}");
    }
}

/// The text part of a model that also sees.
#[test]
fn a_model_that_sees_is_trained_on_its_text() {
    let golden = golden();
    let folder = changed_of(
        "golden/convert/gemma3",
        |config| {
            let text = config.clone();
            let classes = json!(["Gemma3ForConditionalGeneration"]);
            *config = json!({"model_type": "gemma3", "architectures": classes, "text_config": text});
        },
        |all| {
            all.iter_mut().for_each(|(name, ..)| name.insert_str(0, "language_model."));
            all.push(("vision_tower.vision_model.post_layernorm.weight".into(), vec![4], vec![0; 8]));
        },
    );
    let base = open(folder.path(), Quant::Keep);
    let tokens = tokens(&golden, "gemma3");
    assert!(furthest(&alone(&base, &tokens), &floats(&golden, "gemma3.logits")) < 1e-5);
    assert_eq!(base.weight(1, Slot::Up), "language_model.model.layers.1.mlp.up_proj.weight");
    assert_eq!(base.module(1, Slot::Up), "model.language_model.layers.1.mlp.up_proj");
}

/// `tiny-orders` packed for transformers.
fn packed(folder: &TempDir, name: &str, packing: Packer) -> PathBuf {
    let output = folder.path().join(name);
    let to = Quantization::Packed { packing, promote: false };
    let options = QuantizeOptions::new(fixture("tiny-orders"), &output, to);
    quantize::plan(&options, &Silent).unwrap().run(1, &Silent).unwrap();
    output
}

#[test]
fn other_packings_are_decoded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = packed(&folder, "packed", Packer::Int8);
    insta::assert_snapshot!(told(&refused(&path, Quant::Keep), folder.path()), @"Unsupported: `TEMP/packed/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: is packed as bitsandbytes LLM.int8, which is not computed with as it is; `bf16` decodes it");
    let exact = alone(&open(&fixture("tiny-orders"), Quant::Bf16), &[1, 5, 9]);
    let off = furthest(&alone(&open(&path, Quant::Bf16), &[1, 5, 9]), &exact);
    assert!(off < 1.0, "{off}");
}

/// A tensor is read in panels that end between blocks.
#[test]
fn panels_make_no_difference() {
    let (rows, cols) = (1100, 1000);
    let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 1009) as f32 - 500.0) / 77.0).collect();
    let tensor = lorakit::TensorRef::of_values("w", DType::F32, [rows, cols], &values).unwrap();
    for double in [false, true] {
        let loaded = four_bit::quantised(&tensor, FourBit::Nf4, double).unwrap();
        let whole = crate::kernel::FourBitMatrix::encode(FourBit::Nf4, &values, cols, double);
        let (mut x, mut y) = (vec![0.0; cols], vec![0.0; cols]);
        for row in 0..rows {
            loaded.matrix.decode(row, 0..cols, &mut x);
            whole.decode(row, 0..cols, &mut y);
            assert!(x == y, "row {row}");
        }
    }
}

#[test]
fn a_gguf_file_is_the_model_it_was_made_from() {
    let golden = golden();
    // The one called llama has heads so small that its scaling of positions does not follow from the file.
    for name in ["llama2", "mistral", "qwen2", "qwen3", "gemma3", "smollm3"] {
        let folder = open(&fixture(&format!("golden/convert/{name}")), Quant::Keep);
        let mut file = open(&fixture(&format!("golden/convert/{name}.bf16.gguf")), Quant::Keep);
        let mut shape = folder.model.shape.clone();
        if name == "gemma3" {
            // GGUF files of Gemma 3 do not say it: llama.cpp knows that it is the size of heads.
            assert_eq!(file.model.shape.score_scale, 0.25);
            file.model.shape.score_scale = shape.score_scale;
            shape.norm_plus_one = file.model.shape.norm_plus_one;
        }
        // Those of Mistral do not say how far its tokens see.
        assert!(name == "mistral" || file.model.shape.layers == shape.layers, "{name}");
        let tokens = tokens(&golden, name);
        let off = furthest(&alone(&file, &tokens), &floats(&golden, &format!("{name}.logits")));
        println!("{name}: {off:.1e}");
        assert!(off < 1e-5, "{name}: {off:e}");
        assert_eq!(file.trained_on, file.weights);
    }
}

#[test]
fn blocks_stay_as_they_are_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = [1, 5, 9, 200, 300, 17];
    let exact = alone(&open(&fixture("tiny-orders"), Quant::F32), &tokens);
    for (name, near) in [("bf16", 0.0), ("q8_0", 0.2), ("q4_0", 4.0), ("q4_1", 4.0)] {
        let path = gguf(&folder, name);
        let (kept, decoded) = (open(&path, Quant::Keep), open(&path, Quant::F32));
        assert!(alone(&kept, &tokens) == alone(&decoded, &tokens), "{name}: packed and decoded");
        let off = furthest(&alone(&kept, &tokens), &exact);
        println!("{name}: {off:.2}, {} bytes", kept.bytes);
        assert!(off <= near, "{name}: {off}");
        assert!(kept.bytes < decoded.bytes);
        assert_eq!(Quant::usual(kept.opened()), Quant::Keep);
    }
    insta::assert_snapshot!(
        told(&refused(&folder.path().join("q8_0.gguf"), Quant::Nf4 { double: true }), folder.path()),
        @"Requantized: `TEMP/q8_0.gguf`: `model.layers.0.self_attn.q_proj.weight`: is stored as Q8_0; quantising it again would lose twice: train on it as it is (`keep`), or on the model from which it was made"
    );
}

/// The tokenizer, the template and the ends of a GGUF file are those of the folder it was made from.
#[test]
fn text_is_the_same_from_a_gguf_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = |path: &Path| {
        let base = open(path, Quant::Keep);
        let text = Text::of(base.opened().folder(), &|name| base.text.read(name)).unwrap();
        let messages = [json!({"role": "user", "content": "Quito wants 4 kettles, price 785."})];
        (text.prompt(&messages, None).unwrap(), text.ends.clone(), text.bos.clone(), base.text.beside().len())
    };
    let (of_folder, of_file) = (text(&fixture("tiny-orders")), text(&gguf(&folder, "bf16")));
    assert_eq!((&of_folder.0, &of_folder.1, &of_folder.2), (&of_file.0, &of_file.1, &of_file.2));
    assert_eq!((of_folder.3, of_file.3), (3, 3));
}

#[test]
fn threads_change_nothing() {
    let read =
        |threads| Base::open(&fixture("tiny-orders"), Quant::Nf4 { double: true }, threads, &Silent).unwrap();
    let (one, five) = (read(1), read(5));
    assert_eq!((&one.trained_on, &one.weights, one.bytes), (&five.trained_on, &five.weights, five.bytes));
    assert!(alone(&one, &[1, 2, 3]) == alone(&five, &[1, 2, 3]));
}

/// Tensors by name, with their shapes and bytes.
type Tensors = Vec<(String, Vec<usize>, Vec<u8>)>;

/// `tiny-orders` with other tensors or another configuration.
fn changed(config: impl Fn(&mut Value), tensors: impl Fn(&mut Tensors)) -> TempDir {
    changed_of("tiny-orders", config, tensors)
}

/// A folder in bf16 with other tensors or another configuration.
fn changed_of(name: &str, config: impl Fn(&mut Value), tensors: impl Fn(&mut Tensors)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture(name);
    let mut json: Value =
        serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
    config(&mut json);
    std::fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    let stored = Checkpoint::open(&source.join("model.safetensors"), &Reader::default()).unwrap();
    let mut all: Tensors = (0..stored.tensors().len())
        .map(|index| {
            let info = &stored.tensors()[index];
            (
                info.name.clone(),
                info.shape.clone(),
                stored.read(index, 0..info.byte_len()).unwrap().into_owned(),
            )
        })
        .collect();
    tensors(&mut all);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, bytes) in &all {
        let from = data.len();
        data.extend_from_slice(bytes);
        header.insert(
            name.clone(),
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [from, data.len()]}),
        );
    }
    let header = Value::from(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    folder
}

fn refusal(config: impl Fn(&mut Value), tensors: impl Fn(&mut Tensors)) -> String {
    let folder = changed(config, tensors);
    told(&refused(folder.path(), Quant::Nf4 { double: true }), folder.path())
}

#[test]
fn every_tensor_is_used_once_or_named() {
    let extra = |name: &str| {
        let name = name.to_string();
        move |all: &mut Tensors| all.push((name.clone(), vec![4], vec![0; 8]))
    };
    insta::assert_snapshot!(refusal(|_| (), extra("model.layers.0.self_attn.q_proj.bias")), @r"
    Unsupported: `TEMP`: has a tensor, of 39, that no part of a model of its kind is made of; training without that would train another model
        model.layers.0.self_attn.q_proj.bias
    ");
    insta::assert_snapshot!(refusal(|_| (), extra("model.layers.4.input_layernorm.weight")), @r"
    Unsupported: `TEMP`: has a tensor, of 39, that no part of a model of its kind is made of; training without that would train another model
        model.layers.4.input_layernorm.weight
    ");
    insta::assert_snapshot!(
        refusal(|_| (), |all| all.retain(|(name, ..)| !name.contains("layers.2.mlp") && name != "model.norm.weight")),
        @r"
    Incomplete: `TEMP`: lacks 4 tensors that its configuration asks for
        model.norm.weight
        model.layers.2.mlp.gate_proj.weight
        model.layers.2.mlp.up_proj.weight
        model.layers.2.mlp.down_proj.weight
    "
    );
    insta::assert_snapshot!(refusal(|config| config["intermediate_size"] = json!(192), |_| ()), @r"
    Corrupt: `TEMP`: has 12 tensors of another shape than its configuration asks for
        model.layers.0.mlp.gate_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.0.mlp.up_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.0.mlp.down_proj.weight  [128, 384]; it must be [128, 192]
        model.layers.1.mlp.gate_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.1.mlp.up_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.1.mlp.down_proj.weight  [128, 384]; it must be [128, 192]
        model.layers.2.mlp.gate_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.2.mlp.up_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.2.mlp.down_proj.weight  [128, 384]; it must be [128, 192]
        model.layers.3.mlp.gate_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.3.mlp.up_proj.weight  [384, 128]; it must be [192, 128]
        model.layers.3.mlp.down_proj.weight  [128, 384]; it must be [128, 192]
    ");
    insta::assert_snapshot!(refusal(|config| config["tie_word_embeddings"] = json!(false), |_| ()), @r"
    Incomplete: `TEMP`: lacks a tensor that its configuration asks for
        lm_head.weight
    ");
    insta::assert_snapshot!(
        refusal(|_| (), |all| all.iter_mut().for_each(|(name, ..)| name.insert_str(0, "other."))),
        @"Incomplete: `TEMP`: has no embeddings, which would be model.embed_tokens.weight or model.language_model.embed_tokens.weight or language_model.model.embed_tokens.weight"
    );
    // Tables that are computed, and a head that is the embedding, hold nothing more.
    let folder = changed(
        |_| (),
        |all| {
            all.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), vec![16], vec![0; 32]));
            let embedding =
                all.iter().find(|(name, ..)| name == "model.embed_tokens.weight").unwrap().clone();
            all.push(("lm_head.weight".into(), embedding.1, embedding.2));
        },
    );
    open(folder.path(), Quant::Keep);
    let other_head = |all: &mut Tensors| {
        let embedding = all.iter().find(|(name, ..)| name == "model.embed_tokens.weight").unwrap().clone();
        all.push(("lm_head.weight".into(), embedding.1, vec![0; embedding.2.len()]));
    };
    insta::assert_snapshot!(refusal(|_| (), other_head), @"Corrupt: `TEMP`: `lm_head.weight`: differs from the embeddings, although the configuration says that both are one tensor (`tie_word_embeddings`)");
}

#[test]
fn what_is_no_number_is_named() {
    let broken = |name: &'static str| {
        move |all: &mut Tensors| {
            let tensor = all.iter_mut().find(|(other, ..)| other == name).unwrap();
            tensor.2[6..8].copy_from_slice(&[0xc0, 0x7f]);
        }
    };
    insta::assert_snapshot!(refusal(|_| (), broken("model.layers.1.mlp.up_proj.weight")), @"NonFinite: `TEMP/model.safetensors`: `model.layers.1.mlp.up_proj.weight`: holds NaN at row 0, column 3 (BF16)");
    insta::assert_snapshot!(refusal(|_| (), broken("model.embed_tokens.weight")), @"NonFinite: `TEMP/model.safetensors`: `model.embed_tokens.weight`: holds NaN at row 0, column 3 (BF16)");
    insta::assert_snapshot!(refusal(|_| (), broken("model.norm.weight")), @"NonFinite: `TEMP/model.safetensors`: `model.norm.weight`: holds NaN at index 3 (BF16)");
    let large = |all: &mut Tensors| {
        let tensor = all.iter_mut().find(|(other, ..)| other == "model.layers.1.mlp.up_proj.weight").unwrap();
        tensor.2[6..8].copy_from_slice(&[0x00, 0x48]);
    };
    let folder = changed(|_| (), large);
    insta::assert_snapshot!(told(&refused(folder.path(), Quant::F16), folder.path()), @"NonFinite: `TEMP/model.safetensors`: `model.layers.1.mlp.up_proj.weight`: has values that F16 cannot hold");
}

/// Overwrites bytes of a stored tensor.
fn overwrite(path: &Path, tensor: &str, at: usize, new: &[u8]) {
    let file = Checkpoint::open(path, &Reader::default()).unwrap();
    let offset = file.extent(file.find(tensor).unwrap()).unwrap().offset as usize + at;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset..][..new.len()].copy_from_slice(new);
    drop(file);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn scales_that_are_no_numbers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = gguf(&folder, "q4_0");
    // The f16 scale of the third block of 18 bytes.
    overwrite(&path, "blk.2.ffn_up.weight", 2 * 18, &[0x00, 0x7e]);
    insta::assert_snapshot!(told(&refused(&path, Quant::Keep), folder.path()), @"NonFinite: `TEMP/q4_0.gguf`: `blk.2.ffn_up.weight`: holds NaN at row 0, column 64 (Q4_0)");

    let path = packed(&folder, "packed", Packer::FourBit { kind: FourBit::Nf4, block: 64, nested: false });
    let infinity = f32::NEG_INFINITY.to_le_bytes();
    overwrite(&path.join("model.safetensors"), "model.layers.1.self_attn.v_proj.weight.absmax", 8, &infinity);
    insta::assert_snapshot!(told(&refused(&path, Quant::Keep), folder.path()), @"NonFinite: `TEMP/packed/model.safetensors`: `model.layers.1.self_attn.v_proj.weight`: has the scale -inf at block 2");
}

#[test]
fn other_models_are_refused() {
    insta::assert_snapshot!(refusal(|config| config["model_type"] = json!("gpt2"), |_| ()), @"Unsupported: `TEMP`: models of the type `gpt2` are not trained; the known types are llama, mistral, qwen2, qwen3, smollm3, gemma3_text");
    insta::assert_snapshot!(refusal(|config| config["num_attention_heads"] = json!(1u64 << 31), |_| ()), @r"
    Corrupt: `TEMP`: has 8 tensors of another shape than its configuration asks for
        model.layers.0.self_attn.q_proj.weight  [128, 128]; it must be [68719476736, 128]
        model.layers.0.self_attn.o_proj.weight  [128, 128]; it must be [128, 68719476736]
        model.layers.1.self_attn.q_proj.weight  [128, 128]; it must be [68719476736, 128]
        model.layers.1.self_attn.o_proj.weight  [128, 128]; it must be [128, 68719476736]
        model.layers.2.self_attn.q_proj.weight  [128, 128]; it must be [68719476736, 128]
        model.layers.2.self_attn.o_proj.weight  [128, 128]; it must be [128, 68719476736]
        model.layers.3.self_attn.q_proj.weight  [128, 128]; it must be [68719476736, 128]
        model.layers.3.self_attn.o_proj.weight  [128, 128]; it must be [128, 68719476736]
    ");
    insta::assert_snapshot!(refusal(|config| config["num_hidden_layers"] = json!(60_000), |_| ())
        .lines().take(3).collect::<Vec<_>>().join("\n"), @r"
    Incomplete: `TEMP`: lacks 539964 tensors that its configuration asks for
        model.layers.4.self_attn.q_proj.weight
        model.layers.4.self_attn.k_proj.weight
    ");
    let folder = changed(|_| (), |_| ());
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    insta::assert_snapshot!(told(&refused(folder.path(), Quant::Keep), folder.path()), @"Unsupported: `TEMP`: has no `config.json`, which says what kind of model it is");
    let adapter = fixture("tiny-json-lora");
    insta::assert_snapshot!(told(&refused(&adapter, Quant::Keep), adapter.parent().unwrap()), @"WrongRole: `TEMP/tiny-json-lora`: is an adapter (it has `adapter_config.json`), not a full model");
}

/// Files that are cut or overwritten end in an error or a model, never in a panic.
#[test]
fn damaged_files_never_panic() {
    let temporary = tempfile::tempdir().unwrap();
    let source = gguf(&temporary, "q4_0");
    let whole = std::fs::read(&source).unwrap();
    let path = temporary.path().join("damaged.gguf");
    for at in 0..60u64 {
        let mut bytes = whole.clone();
        let place = (at * 7919 * 131) as usize % bytes.len().min(40_000);
        match at % 3 {
            0 => bytes.truncate(place),
            1 => bytes[place] ^= 0xff,
            _ => bytes[place..].iter_mut().take(16).for_each(|byte| *byte = 0xff),
        }
        std::fs::write(&path, &bytes).unwrap();
        drop(Base::open(&path, Quant::Keep, 1, &Silent));
    }
}

#[test]
fn a_run_can_be_stopped() {
    struct Stop;
    impl Progress for Stop {
        fn advance(&self, _: u64) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let error = Base::open(&fixture("tiny-orders"), Quant::Keep, 1, &Stop).err().unwrap();
    assert_eq!(error.kind(), lorakit::ErrorKind::Interrupted);
}
