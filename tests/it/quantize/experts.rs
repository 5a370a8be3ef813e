//! Stacked experts with an importance matrix: each expert is encoded with its own importances, and the file equals that
//! of llama-quantize, byte for byte.
//!
//! The digests are of files that the tool wrote; `fixtures/generate/experts_imatrix.py` says how, and has the formula.

use std::fs;
use std::path::Path;

use lorakit_tensor::format::gguf::{Array, Metadata, Value, layout};
use lorakit_tensor::{Checkpoint, DType, Reader, TensorInfo, TensorSource};
use safetensors::Dtype;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{Sandbox, fixtures};
use crate::weights::{Tensor, read_folder, write_file};

const COLUMNS: usize = 256;

/// The model, before it is quantised.
const MODEL: &str = "3704c9fb7a5c2279d94a7e04a0968f6526f4ce6b2f2c4cd2543260c61a2c780c";

/// A mix, and the SHA-256 of the file.
const MIXES: &[(&str, &str)] = &[
    ("Q2_K", "24118054deaf51870dd63cb8949570a91f3536249fc602dd5c53dc5c667cddba"),
    ("Q2_K_S", "6e7b127cfe329a856d3d7f0ef7e6871b0ee4705b2fc8cfb32d6b838185235d4f"),
    ("Q3_K_S", "cd79fa5cf6fd157d20b11b389ffd5107113b7e4db7ae0a8ee6e3b884499a30b8"),
    ("Q3_K_M", "d75e7490dd4ea9d4d5168d8f549f227205694d8912f8d4234d2a61be9b22cb4d"),
    ("Q3_K_L", "bf6153c9e50adb4ffd0ba90be943121fbef34634f34c00de5cc061d48a44b149"),
    ("Q4_0", "2787d7f453901aa940f1f7abca2db8be39b7368df07eb43c07ee6963a9b530a1"),
    ("Q4_1", "adc98e38151454fa07111a67bc596923511aa81b4d853db67e0d9f94350da6bd"),
    ("Q4_K_S", "5ca086fe273b0c2ec7c42056d42d9483f950b0c00bc29119aa854c3f5a69de2a"),
    ("Q4_K_M", "2deba2500ddf68f840c57c8365a967e6f8b29745996e65d0ef79c48a438a3329"),
    ("Q5_0", "7712477deca1410030db7fc361bccfda4abc3436ad0bfd03a1b93fd724ad65a5"),
    ("Q5_1", "521cb69dbbd51a01bb76e71e3dcf688174bbf2a3c59fde254da11728fde42621"),
    ("Q5_K_S", "332dc84c691a795e29f4abbaf50f43c05e589cd318f12beb170cf994c219b052"),
    ("Q5_K_M", "14cd96a47295a4484ae418d723dbc7244840090c234b80ece115458c455a1edf"),
    ("Q6_K", "987b40fa9e787811551588b10edb0497aa6fdd46527c3354e1376685f36a761d"),
    ("Q8_0", "fdaeee26520f53fcc54d50ea41f22d21f5dcf55b10a69cca5aa512ba3547949f"),
    ("IQ4_NL", "1abfa4e182fd850867ee098c19e01b081f548b327a3bc19158e26106b5be9f33"),
    ("IQ4_XS", "8a107019b4635c920d2c8419497a871346af036df966625983e24b5cad284695"),
    ("TQ1_0", "65dd0dd8225da0bdbe352eb5d34510c3adf33ca90d3b1689a3fc2d872d655be8"),
    ("TQ2_0", "a6cf5f38b0d7409e9511c7dac46d75308e3cf01e763d6ba30c4083fc17cdb7cd"),
    ("MXFP4_MOE", "e808ebeceb236b03db418732bbb33694132687f68b54e675554f017c7a778367"),
];

/// A sandbox with the model of the script and the importance matrix, which counts three experts differently and one
/// never.
fn sandbox(name: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("moe.gguf"), model(name)).unwrap();
    fs::copy(fixtures().join("imatrix/current.gguf"), sandbox.path("imatrix.gguf")).unwrap();
    sandbox
}

/// The model; its query matrix is called `name`.
fn model(name: &str) -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("llama".into()));
    for (key, value) in [
        ("context_length", Value::U32(64)),
        ("embedding_length", Value::U32(COLUMNS as u32)),
        ("block_count", Value::U32(1)),
        ("feed_forward_length", Value::U32(COLUMNS as u32)),
        ("attention.head_count", Value::U32(4)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("expert_count", Value::U32(3)),
        ("expert_used_count", Value::U32(1)),
    ] {
        metadata.set(&format!("llama.{key}"), value);
    }
    let shapes: [(&str, &[usize]); 5] = [
        ("token_embd.weight", &[8, COLUMNS]),
        (name, &[8, COLUMNS]),
        ("blk.0.attn_k.weight", &[1, COLUMNS]),
        ("blk.0.ffn_down_exps.weight", &[3, 8, COLUMNS]),
        ("output.weight", &[8, COLUMNS]),
    ];
    let infos: Vec<TensorInfo> = shapes
        .iter()
        .map(|(name, shape)| TensorInfo { name: name.to_string(), dtype: DType::F32, shape: shape.to_vec() })
        .collect();
    let layout = layout(&metadata, &infos).unwrap();
    let mut file = layout.header;
    for ((number, info), offset) in infos.iter().enumerate().zip(layout.offsets) {
        file.resize(offset as usize, 0);
        for i in 0..info.elements() {
            let value = ((i + 97 * number as u64) * 2_654_435_761 % 1000) as f32 / 512.0 - 1.0;
            file.extend(value.to_le_bytes());
        }
    }
    file.resize(layout.len as usize, 0);
    file
}

fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn files_equal_llama_quantize() {
    let sandbox = sandbox("blk.0.attn_q.weight");
    assert_eq!(sha256(&sandbox.path("moe.gguf")), MODEL, "the model is that of the script");
    for (mix, digest) in MIXES {
        let options = "--imatrix imatrix.gguf -o out.gguf --force";
        sandbox.run(&format!("quantize moe.gguf --type {mix} {options}"), &[]).ok();
        assert_eq!(sha256(&sandbox.path("out.gguf")), *digest, "{mix}");
    }
}

/// Of these types, few weigh errors: of ternary mixes, those of the token embedding, which no importance matrix knows, and
/// of the output.
#[test]
fn a_matrix_that_few_types_use_is_still_of_this_model() {
    let sandbox = sandbox("blk.0.attn_q.weight");
    let quantize = |mix: &str| {
        let options = "--imatrix imatrix.gguf -o out.gguf --force";
        sandbox.run(&format!("quantize moe.gguf --type {mix} {options}"), &[]).ok().stderr
    };
    for mix in ["TQ1_0", "TQ2_0"] {
        assert!(quantize(mix).contains("has no entry for `token_embd.weight`, 1 of 2 tensors"), "{mix}");
    }
    assert_eq!(quantize("NVFP4"), "");
    assert!(quantize("Q8_0").contains("changes nothing: no tensor that it knows becomes a type"));
    assert!(quantize("NVFP4 --pure").contains("changes nothing: no tensor that it knows becomes a type"));
}

/// The tool stops at such a tensor: the result would be garbage.
#[test]
fn two_bits_need_importances_for_every_tensor() {
    let sandbox = sandbox("blk.0.attn_other.weight");
    insta::assert_snapshot!(sandbox.refused("quantize moe.gguf --type Q2_K_S --imatrix imatrix.gguf -o out.gguf"), @"
exit 1
error: `imatrix.gguf`: has no entry for `blk.0.attn_other.weight`, 1 of the 2 tensors whose importances Q2_K_S cannot do without

hint: name an importance matrix of this model with `--imatrix`; llama.cpp makes one: `llama-imatrix -m MODEL.gguf -f TEXT.txt -o imatrix.gguf`
");
    sandbox.run("quantize moe.gguf --type Q2_K --imatrix imatrix.gguf -o out.gguf", &[]).ok();
}

/// A merge that leaves the experts as they are encodes them as quantising alone does.
#[test]
fn a_merge_leaves_untouched_experts_to_their_importances() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("golden/convert/qwen3moe"), "model");
    sandbox.run("convert model -o model.gguf --to gguf", &[]).ok();
    let base = Checkpoint::open(&sandbox.path("model.gguf"), &Reader::default()).unwrap();
    fs::write(sandbox.path("imatrix.gguf"), imatrix(base.tensors())).unwrap();
    adapter_of_queries(&sandbox.path("model"), &sandbox.path("adapter"));
    let options = "--imatrix imatrix.gguf --lineage never";
    sandbox.run(&format!("quantize model.gguf --type Q4_0 -o alone.gguf {options}"), &[]).ok();
    for source in ["model", "model.gguf"] {
        let line = format!("merge {source} adapter -o merged.gguf --quantize Q4_0 --force {options}");
        sandbox.run(&line, &[]).ok();
        let [alone, merged] = ["alone.gguf", "merged.gguf"]
            .map(|name| Checkpoint::open(&sandbox.path(name), &Reader::default()).unwrap());
        let mut same = 0;
        for (index, info) in alone.tensors().iter().enumerate().filter(|(_, t)| t.name.contains("_exps")) {
            let other = merged.find(&info.name).unwrap();
            assert_eq!(info.dtype, DType::Q4_0);
            let all = 0..info.byte_len();
            assert!(
                alone.read(index, all.clone()).unwrap() == merged.read(other, all).unwrap(),
                "{}",
                info.name
            );
            same += 1;
        }
        assert!(same >= 3, "{same}");
    }
}

/// Importances for every stack, in the GGUF form, other for each expert.
fn imatrix(tensors: &[TensorInfo]) -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.set("imatrix.datasets", Value::Array(Array::String(vec!["d.txt".into()])));
    metadata.set("imatrix.chunk_count", Value::U32(1));
    metadata.set("imatrix.chunk_size", Value::U32(64));
    let stacks = tensors.iter().filter(|tensor| tensor.shape.len() == 3);
    let of = |name: String, shape: &[usize]| TensorInfo { name, dtype: DType::F32, shape: shape.to_vec() };
    let infos: Vec<TensorInfo> = stacks
        .flat_map(|stack| {
            let (experts, columns) = (stack.shape[0], stack.shape[2]);
            let sums = of(format!("{}.in_sum2", stack.name), &[experts, columns]);
            [sums, of(format!("{}.counts", stack.name), &[experts, 1])]
        })
        .collect();
    let layout = layout(&metadata, &infos).unwrap();
    let mut file = layout.header;
    for (info, offset) in infos.iter().zip(layout.offsets) {
        file.resize(offset as usize, 0);
        for i in 0..info.elements() {
            file.extend(((1 + i * 7919 % 100) as f32).to_le_bytes());
        }
    }
    file.resize(layout.len as usize, 0);
    file
}

/// A PEFT adapter of rank 1 of the first layer's queries.
fn adapter_of_queries(model: &Path, folder: &Path) {
    const QUERIES: &str = "model.layers.0.self_attn.q_proj";
    let shape = read_folder(model)[&format!("{QUERIES}.weight")].shape.clone();
    let factor = |shape: [usize; 2]| Tensor::new(Dtype::F32, &shape, &vec![0.25; shape[0] * shape[1]]);
    let name = |part: &str| format!("base_model.model.{QUERIES}.{part}.weight");
    fs::create_dir(folder).unwrap();
    let factors = [(name("lora_A"), factor([1, shape[1]])), (name("lora_B"), factor([shape[0], 1]))];
    write_file(&folder.join("adapter_model.safetensors"), &factors.into());
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]});
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}
