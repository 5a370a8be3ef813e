//! Conversion to llama.cpp's names and layouts, and back.

use std::path::{Path, PathBuf};

use lorakit_tensor::format::gguf::{self, Metadata, Value};
use lorakit_tensor::{DType, Reader, TensorInfo};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use super::*;
use crate::adapter::format::Draft;
use crate::plan::{Container, OutputTensor, Recipe};
use crate::{Error, ErrorKind, ModelConfig, TensorRef};

fn base(class: &str, more: serde_json::Value) -> Base {
    let mut json = json!({
        "architectures": [class], "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 16, "tie_word_embeddings": false,
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Base { path: PathBuf::from("base"), config: Some(ModelConfig { json }), tensors: Vec::new() }
}

fn llama() -> Base {
    base("LlamaForCausalLM", json!({}))
}

/// Tensors of a PEFT file: module, half, shape; values count up from the position of the tensor times 1000.
type Given<'a> = (&'a str, &'a str, &'a [usize]);

/// Writes a PEFT folder with these tensors.
fn peft(config: serde_json::Value, tensors: &[Given<'_>]) -> (tempfile::TempDir, Adapter) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |i: usize, shape: &[usize]| -> Vec<u8> {
        let n = shape.iter().product::<usize>();
        (0..n).flat_map(|j| ((i * 1000 + j) as f32).to_le_bytes()).collect()
    };
    let data: Vec<_> = tensors
        .iter()
        .enumerate()
        .map(|(i, (module, half, shape))| {
            (format!("base_model.model.{module}.{half}"), shape, bytes(i, shape))
        })
        .collect();
    let views =
        data.iter().map(|(name, shape, b)| (name, TensorView::new(Dtype::F32, shape.to_vec(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.path().join("adapter_model.safetensors")).unwrap();
    let mut all = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4 });
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    std::fs::write(folder.path().join("adapter_config.json"), all.to_string()).unwrap();
    let adapter = Adapter::open(folder.path(), &Reader::default(), None).unwrap();
    (folder, adapter)
}

fn draft_as(adapter: &Adapter, base: &Base, dtype: Option<DType>) -> crate::Result<Draft> {
    Gguf.write(adapter, &DraftOptions { dtype, base: Some(base) })
}

fn draft(adapter: &Adapter, base: &Base) -> Draft {
    draft_as(adapter, base, None).unwrap()
}

fn metadata(draft: &Draft) -> &Metadata {
    match &draft.container {
        Container::Gguf(metadata) => metadata,
        other => panic!("{other:?}"),
    }
}

fn find<'a>(draft: &'a Draft, name: &str) -> &'a OutputTensor {
    draft.tensors.iter().find(|t| t.info.name == name).unwrap_or_else(|| panic!("{name}"))
}

fn values(tensor: &OutputTensor) -> Vec<f32> {
    match &tensor.recipe {
        Recipe::Copy(tensor) => tensor.values().unwrap(),
        Recipe::Compute(compute) => {
            let values = compute.base.values().unwrap();
            values.iter().map(|v| (f64::from(*v) * compute.times) as f32).collect()
        }
        other => panic!("{other:?}"),
    }
}

const Q: &str = "model.layers.1.self_attn.q_proj";

/// Writes tensors as a GGUF file.
fn file(folder: &Path, metadata: &Metadata, tensors: &[(TensorInfo, Vec<u8>)]) -> PathBuf {
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let laid = gguf::layout(metadata, &infos).unwrap();
    let mut bytes = laid.header;
    bytes.resize(laid.len as usize, 0);
    for (offset, (_, data)) in laid.offsets.iter().zip(tensors) {
        bytes[*offset as usize..][..data.len()].copy_from_slice(data);
    }
    let path = folder.join("adapter.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The adapter that reading a draft would give.
fn read_again(draft: &Draft, base: Option<&Base>) -> (tempfile::TempDir, Adapter) {
    let folder = tempfile::tempdir().unwrap();
    let stored = |t: &OutputTensor| {
        let bytes = values(t).iter().flat_map(|v| v.to_le_bytes()).collect();
        (TensorInfo { dtype: DType::F32, ..t.info.clone() }, bytes)
    };
    let tensors: Vec<_> = draft.tensors.iter().map(stored).collect();
    let path = file(folder.path(), metadata(draft), &tensors);
    let adapter = Adapter::open(&path, &Reader::default(), base).unwrap();
    (folder, adapter)
}

#[track_caller]
fn refused(result: crate::Result<Draft>, kind: ErrorKind, lines: &[&str]) -> Error {
    let error = result.map(|draft| draft.mapped).unwrap_err();
    assert_eq!(
        (error.kind(), error.detail_lines()),
        (kind, &lines.iter().map(|l| (*l).to_string()).collect::<Vec<_>>()[..])
    );
    error
}

#[test]
fn factors_and_metadata_of_a_llama() {
    let (_folder, adapter) = peft(
        json!({ "base_model_name_or_path": "owner/Tiny-1B", "alora_invocation_tokens": [5, 6] }),
        &[
            (Q, "lora_A.weight", &[2, 16]),
            (Q, "lora_B.weight", &[16, 2]),
            ("model.embed_tokens", "lora_embedding_A", &[2, 9]),
            ("model.embed_tokens", "lora_embedding_B", &[16, 2]),
        ],
    );
    let draft = draft(&adapter, &llama());
    let listed: Vec<_> = draft.tensors.iter().map(|t| (t.info.name.as_str(), t.info.shape.clone())).collect();
    assert_eq!(
        listed,
        [
            ("token_embd.weight.lora_a", vec![9, 2]),
            ("token_embd.weight.lora_b", vec![16, 2]),
            ("blk.1.attn_q.weight.lora_a", vec![2, 16]),
            ("blk.1.attn_q.weight.lora_b", vec![16, 2]),
        ]
    );
    // Heads of 4 rows: GGUF's rows 0, 1, 2, 3 are rows 0, 2, 1, 3.
    let b = values(find(&draft, "blk.1.attn_q.weight.lora_b"));
    assert_eq!(b[..8], [1000.0, 1001.0, 1004.0, 1005.0, 1002.0, 1003.0, 1006.0, 1007.0]);
    assert_eq!(values(find(&draft, "token_embd.weight.lora_a"))[..4], [2000.0, 2009.0, 2001.0, 2010.0]);
    let metadata = metadata(&draft);
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(
        (text("general.architecture"), text("general.type"), text("adapter.type")),
        ("llama", "adapter", "lora")
    );
    assert_eq!(metadata.get("adapter.lora.alpha"), Some(&Value::F32(4.0)));
    assert_eq!(metadata.get("general.file_type"), Some(&Value::U32(0)));
    assert_eq!(text("general.base_model.0.repo_url"), "https://huggingface.co/owner/Tiny-1B");
    let tokens = Value::Array(gguf::Array::U32(vec![5, 6]));
    assert_eq!(metadata.get("adapter.alora.invocation_tokens"), Some(&tokens));
    assert_eq!(draft.mapped[1].how, ["rows of B reordered"]);

    let (_again, back) = read_again(&draft, Some(&llama()));
    back.check().unwrap();
    assert_eq!(back.config.base_model.as_deref(), Some("owner/Tiny-1B"));
    assert_same(&adapter, &back);
}

/// Asserts that two adapters have the same modules, factors and scales.
#[track_caller]
fn assert_same(one: &Adapter, other: &Adapter) {
    assert_eq!(one.modules.len(), other.modules.len());
    for (x, y) in one.modules.iter().zip(&other.modules) {
        assert_eq!((&x.path, x.kind), (&y.path, y.kind));
        let values = |t: &TensorRef| (t.info().shape.clone(), t.values().unwrap());
        assert_eq!((values(&x.a), values(&x.b)), (values(&y.a), values(&y.b)), "{}", x.path);
        assert_eq!(x.scale(x.rank()), y.scale(y.rank()), "{}", x.path);
    }
}

#[test]
fn one_alpha_and_the_rest_in_b() {
    let k = "model.layers.0.self_attn.v_proj";
    let o = "model.layers.0.self_attn.o_proj";
    let (_folder, adapter) = peft(
        json!({ "rank_pattern": { "o_proj": 4 }, "alpha_pattern": { "v_proj": 1 }, "use_rslora": true }),
        &[
            (k, "lora_A.weight", &[2, 16]),
            (k, "lora_B.weight", &[8, 2]),
            (o, "lora_A.weight", &[4, 16]),
            (o, "lora_B.weight", &[16, 4]),
            (Q, "lora_A.weight", &[2, 16]),
            (Q, "lora_B.weight", &[16, 2]),
            ("model.layers.0.self_attn.q_proj", "lora_A.weight", &[2, 16]),
            ("model.layers.0.self_attn.q_proj", "lora_B.weight", &[16, 2]),
        ],
    );
    let draft = draft(&adapter, &llama());
    // rsLoRA: the alpha of a reader that divides by r.
    let alpha = (4.0 * 2f64.sqrt()) as f32;
    assert_eq!(metadata(&draft).get("adapter.lora.alpha"), Some(&Value::F32(alpha)));
    let written = |name: &str| values(find(&draft, &format!("blk.0.{name}.weight.lora_b")))[1];
    assert!((f64::from(written("attn_v")) - 1001.0 / 4.0).abs() < 1e-4);
    assert!((f64::from(written("attn_output")) - 3001.0 * 2f64.sqrt()).abs() < 1e-3);
    // A factor that is not multiplied comes back with its own scaling, bit for bit.
    let (_again, back) = read_again(&draft, Some(&llama()));
    let scaling = |adapter: &Adapter| adapter.modules.iter().find(|m| m.path == Q).unwrap().scaling;
    assert_eq!(scaling(&adapter), scaling(&back));
    // An alpha of 0 would mean a scale of 1.
    let (_folder, none) =
        peft(json!({ "lora_alpha": 0 }), &[(Q, "lora_A.weight", &[2, 16]), (Q, "lora_B.weight", &[16, 2])]);
    let draft = self::draft(&none, &llama());
    assert_eq!(metadata(&draft).get("adapter.lora.alpha"), Some(&Value::F32(1.0)));
    assert_eq!(values(find(&draft, "blk.1.attn_q.weight.lora_b")), [0.0; 32]);
}

#[test]
fn experts_are_stacked_and_padded() {
    let expert = |e: usize, w: &str| format!("model.layers.0.block_sparse_moe.experts.{e}.{w}");
    let (w1, w3) = (expert(1, "w1"), expert(3, "w1"));
    let (_folder, adapter) = peft(
        json!({ "rank_pattern": { "experts.3.w1": 3 } }),
        &[
            (&w1, "lora_A.weight", &[2, 16]),
            (&w1, "lora_B.weight", &[8, 2]),
            (&w3, "lora_A.weight", &[3, 16]),
            (&w3, "lora_B.weight", &[8, 3]),
        ],
    );
    let mixtral = base("MixtralForCausalLM", json!({ "num_local_experts": 4 }));
    let draft = draft(&adapter, &mixtral);
    let (a, b) = ("blk.0.ffn_gate_exps.weight.lora_a", "blk.0.ffn_gate_exps.weight.lora_b");
    assert_eq!((&find(&draft, a).info.shape, &find(&draft, b).info.shape), (&vec![4, 3, 16], &vec![4, 8, 3]));
    let (a, b) = (values(find(&draft, a)), values(find(&draft, b)));
    assert_eq!((a[..48].to_vec(), a[48..51].to_vec()), (vec![0.0; 48], vec![0.0, 1.0, 2.0]));
    assert_eq!(a[48 + 32..96], [0.0; 16], "the rank is padded");
    // Scales 4/2 and 4/3 are 6/3 and 4/3 in the file.
    let alpha = metadata(&draft).get("adapter.lora.alpha").and_then(Value::as_f64).unwrap();
    assert_eq!(alpha, 6.0);
    assert_eq!(b[24..30], [1000.0, 1001.0, 0.0, 1002.0, 1003.0, 0.0]);
    assert!((b[72 + 1] - 3001.0 * 4.0 / 6.0).abs() < 1e-2);

    let (_again, back) = read_again(&draft, Some(&mixtral));
    let paths: Vec<_> = back.modules.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, (0..4).map(|e| expert(e, "w1")).collect::<Vec<_>>());
    assert_eq!(back.modules[1].a.values().unwrap()[..3], [0.0, 1.0, 2.0]);
    assert_eq!(back.modules[0].b.values().unwrap(), [0.0; 24]);
    // No rows of q and k: the base is not needed.
    read_again(&draft, None).1.check().unwrap();
}

#[test]
fn only_the_base_can_put_rows_back() {
    let (_folder, adapter) = peft(
        json!({ "base_model_name_or_path": "owner/name" }),
        &[(Q, "lora_A.weight", &[2, 16]), (Q, "lora_B.weight", &[16, 2])],
    );
    let (_again, back) = read_again(&draft(&adapter, &llama()), None);
    let error = back.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsBase);
    assert!(error.to_string().contains("its base (`owner/name`)"), "{error}");
    let qwen = base("Qwen2ForCausalLM", json!({}));
    read_again(&draft(&adapter, &qwen), None).1.check().unwrap();
    let (folder, _) = read_again(&draft(&adapter, &llama()), None);
    let path = folder.path().join("adapter.gguf");
    let error = Adapter::open(&path, &Reader::default(), Some(&qwen)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unmatched);
    let error = Gguf.write(&adapter, &DraftOptions::default()).map(|d| d.mapped).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsBase);
    assert!(error.to_string().contains("`owner/name`"), "{error}");
}

#[test]
fn q8_0_where_rows_are_whole_blocks() {
    let (_folder, adapter) =
        peft(json!({}), &[(Q, "lora_A.weight", &[2, 32]), (Q, "lora_B.weight", &[16, 2])]);
    let draft = draft_as(&adapter, &llama(), Some(DType::Q8_0)).unwrap();
    let dtypes: Vec<_> = draft.tensors.iter().map(|t| t.info.dtype).collect();
    assert_eq!(dtypes, [DType::Q8_0, DType::F16]);
    assert_eq!(
        draft.mapped[0].how,
        ["rows of B reordered", "B as F16: its rows are not whole blocks of Q8_0"]
    );
}

#[test]
fn what_llama_cpp_cannot_use_is_refused() {
    let pair = |module: &'static str| -> [Given<'static>; 2] {
        [(module, "lora_A.weight", &[2, 16][..]), (module, "lora_B.weight", &[16, 2][..])]
    };
    let paths =
        ["lm_head", "model.layers.0.self_attn.kv_b_proj", "model.layers.7.self_attn.q_proj", "model.norm"];
    let (_folder, adapter) = peft(json!({}), &paths.into_iter().flat_map(pair).collect::<Vec<_>>());
    let tied = base("LlamaForCausalLM", json!({ "tie_word_embeddings": true }));
    let error = refused(
        draft_as(&adapter, &tied, None),
        ErrorKind::Inexpressible,
        &[
            "lm_head  input and output embedding are one tensor in this base, so a GGUF model has no output matrix",
            "model.layers.0.self_attn.kv_b_proj  llama.cpp splits and transposes it for each head, which no LoRA can \
             follow",
            "model.layers.7.self_attn.q_proj  the base has 2 layers, and this is number 7",
            "model.norm  llama.cpp ignores what an adapter says of norms",
        ],
    );
    assert!(error.to_string().contains("family `llama`"), "{error}");
    let (_folder, embed) = peft(
        json!({}),
        &[
            ("model.embed_tokens", "lora_embedding_A", &[2, 9]),
            ("model.embed_tokens", "lora_embedding_B", &[16, 2]),
        ],
    );
    let line = "model.embed_tokens  input and output embedding are one tensor in this base, and llama.cpp stops at \
                such a LoRA";
    refused(draft_as(&embed, &tied, None), ErrorKind::Inexpressible, &[line]);
    let (_folder, dora) = peft(
        json!({ "use_dora": true }),
        &[
            (Q, "lora_A.weight", &[2, 16]),
            (Q, "lora_B.weight", &[16, 2]),
            (Q, "lora_magnitude_vector", &[16]),
            ("lm_head", "weight", &[9, 16]),
        ],
    );
    let lines = [format!("{Q}  magnitudes of DoRA"), "lm_head.weight  saved whole".into()];
    refused(draft_as(&dora, &llama(), None), ErrorKind::Inexpressible, &[&lines[0], &lines[1]]);
}

#[test]
fn faults_of_files_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("llama".into()));
    metadata.set("general.type", Value::String("adapter".into()));
    metadata.set("adapter.type", Value::String("lora".into()));
    metadata.set("adapter.lora.alpha", Value::U32(16));
    let tensor = |name: &str, shape: &[usize]| {
        let info = TensorInfo { name: name.into(), dtype: DType::F32, shape: shape.to_vec() };
        let bytes = vec![0; info.byte_len() as usize];
        (info, bytes)
    };
    let tensors = [
        tensor("blk.0.attn_norm.weight", &[16]),
        tensor("blk.0.attn_q.weight.lora_a", &[2, 16]),
        tensor("blk.0.attn_k.weight.lora_a", &[2, 16]),
        tensor("blk.0.attn_k.weight.lora_b", &[8, 3]),
        tensor("blk.0.attn_v.bias.lora_a", &[2, 16]),
        tensor("blk.0.attn_v.bias.lora_b", &[8, 2]),
        tensor("blk.0.attn_output.scale", &[1]),
    ];
    let path = file(folder.path(), &metadata, &tensors);
    let adapter = Adapter::open(&path, &Reader::default(), None).unwrap();
    let found: Vec<_> = adapter.findings.iter().map(|f| (f.code, f.subject.as_str())).collect();
    assert_eq!(
        found,
        [
            ("metadata", "adapter.lora.alpha"),
            ("ignored-norm", "blk.0.attn_norm.weight"),
            ("unexpected-suffix", "blk.0.attn_output.scale"),
            ("shape", "blk.0.attn_k.weight"),
            ("missing-half", "blk.0.attn_q.weight"),
            ("unknown-target", "blk.0.attn_v.bias"),
        ]
    );
    assert_eq!(adapter.check().unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn tools_of_ggml_drop_outer_dimensions() {
    let folder = tempfile::tempdir().unwrap();
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("qwen2".into()));
    metadata.set("general.type", Value::String("adapter".into()));
    metadata.set("adapter.type", Value::String("lora".into()));
    let tensor = |name: &str, shape: &[usize]| {
        let info = TensorInfo { name: name.into(), dtype: DType::BF16, shape: shape.to_vec() };
        let bytes = vec![0x3f; info.byte_len() as usize];
        (info, bytes)
    };
    let tensors = [tensor("output.weight.lora_a", &[16]), tensor("output.weight.lora_b", &[9, 1])];
    let adapter = Adapter::open(&file(folder.path(), &metadata, &tensors), &Reader::default(), None).unwrap();
    adapter.check().unwrap();
    let [module] = adapter.modules.as_slice() else { panic!("{:?}", adapter.modules) };
    assert_eq!((module.path.as_str(), module.rank(), module.scale(1)), ("lm_head", 1, 1.0));
    assert_eq!((module.a.info().dtype, &module.a.info().shape), (DType::BF16, &vec![1, 16]));
}

/// Module paths by family with their GGUF names, from llama.cpp's tables (`gguf-py/gguf/tensor_mapping.py`).
#[test]
fn names_of_every_family() {
    const DENSE: &[(&str, &str)] = &[
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    const PHI3: &[(&str, &str)] = &[
        ("self_attn.qkv_proj", "attn_qkv"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    const MIXTRAL: &[(&str, &str)] = &[
        ("self_attn.k_proj", "attn_k"),
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        ("block_sparse_moe.experts.1.w1", "ffn_gate_exps"),
        ("block_sparse_moe.experts.1.w3", "ffn_up_exps"),
        ("block_sparse_moe.experts.1.w2", "ffn_down_exps"),
    ];
    const QWEN3_MOE: &[(&str, &str)] = &[
        ("self_attn.k_proj", "attn_k"),
        ("mlp.gate", "ffn_gate_inp"),
        ("mlp.experts.1.gate_proj", "ffn_gate_exps"),
        ("mlp.experts.1.up_proj", "ffn_up_exps"),
        ("mlp.experts.1.down_proj", "ffn_down_exps"),
    ];
    let families = [
        ("LlamaForCausalLM", DENSE, true),
        ("MistralForCausalLM", DENSE, true),
        ("MixtralForCausalLM", MIXTRAL, true),
        ("GraniteForCausalLM", DENSE, true),
        ("SmolLM3ForCausalLM", DENSE, true),
        ("Qwen2ForCausalLM", DENSE, false),
        ("Qwen3ForCausalLM", DENSE, false),
        ("Qwen3MoeForCausalLM", QWEN3_MOE, false),
        ("Gemma2ForCausalLM", DENSE, false),
        ("Gemma3ForCausalLM", DENSE, false),
        ("Phi3ForCausalLM", PHI3, false),
    ];
    for (class, names, permutes) in families {
        let base = base(class, json!({ "num_local_experts": 4, "num_experts": 4 }));
        let paths: Vec<String> = names.iter().map(|(path, _)| format!("model.layers.1.{path}")).collect();
        let tensors: Vec<Given<'_>> = paths
            .iter()
            .flat_map(|p| [(p.as_str(), "lora_A.weight", &[2, 16][..]), (p, "lora_B.weight", &[16, 2])])
            .collect();
        let (_folder, adapter) = peft(json!({}), &tensors);
        let draft = draft(&adapter, &base);
        for (module, (path, name)) in paths.iter().zip(names) {
            let mapped = draft.mapped.iter().find(|m| m.module == *module).unwrap();
            assert_eq!(mapped.name, format!("blk.1.{name}.weight"), "{class}");
            let moved = mapped.how.iter().any(|how| how == "rows of B reordered");
            let rotated = path.ends_with("q_proj") || path.ends_with("k_proj");
            assert_eq!(moved, permutes && rotated, "{class} {path}");
        }
        assert!(draft.tensors.iter().all(|t| t.info.name.len() < 64));
    }
    // Multimodal models prepend a name; bare models leave one out.
    for path in [
        "model.language_model.layers.0.mlp.up_proj",
        "language_model.model.layers.0.mlp.up_proj",
        "layers.0.mlp.up_proj",
    ] {
        let (_folder, adapter) =
            peft(json!({}), &[(path, "lora_A.weight", &[2, 16]), (path, "lora_B.weight", &[16, 2])]);
        assert_eq!(draft(&adapter, &llama()).mapped[0].name, "blk.0.ffn_up.weight");
    }
}
