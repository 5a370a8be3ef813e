//! The engine on real containers: GGUF copies of every stored type, shards, casts, refusals before writing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit::plan::{Container, OutputTensor, Plan, Progress, Silent, Target};
use lorakit::{Error, ErrorKind, TensorRef};
use lorakit_tensor::{Checkpoint, DType, ErrorKind as FileError, Reader, TensorSource};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn open(path: &Path) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(path, &Reader::default()).unwrap())
}

fn tensors(source: &Arc<Checkpoint>) -> Vec<TensorRef> {
    let shared: Arc<dyn TensorSource> = source.clone();
    (0..source.tensors().len()).map(|i| TensorRef::new(Arc::clone(&shared), i)).collect()
}

fn bytes(source: &Checkpoint, index: usize) -> Vec<u8> {
    source.read(index, 0..source.tensors()[index].byte_len()).unwrap().into_owned()
}

fn reading(path: &Path) -> Reader {
    let reader = Reader::default();
    reader.name(path);
    reader
}

fn safetensors(max_shard: u64) -> Container {
    Container::Safetensors { stem: "model", metadata: BTreeMap::new(), max_shard }
}

#[test]
fn a_gguf_of_every_type_is_copied_with_its_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(&fixture("gguf/reference.gguf"));
    let output = folder.path().join("copy.gguf");
    let copies: Vec<_> = tensors(&source).into_iter().map(OutputTensor::copy).collect();
    let metadata = source.gguf().unwrap().clone();
    let target = Target::File(output.clone());
    let plan =
        Plan::new(target, false, &reading(source.path()), Container::Gguf(metadata), copies, vec![]).unwrap();
    plan.run(2, &Silent).unwrap();

    let copy = open(&output);
    assert_eq!(copy.gguf(), source.gguf());
    assert_eq!(copy.tensors(), source.tensors());
    for index in 0..copy.tensors().len() {
        assert_eq!(bytes(&copy, index), bytes(&source, index), "{}", copy.tensors()[index].name);
    }
    let quantised = source.tensors().iter().filter(|t| t.dtype.block().elements > 1).count();
    assert!(quantised > 15, "the fixture has the block types, decodable or not: {quantised}");
}

#[test]
fn shards_hold_what_one_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(&fixture("tiny-orders"));
    let write = |name: &str, max_shard: u64| {
        let copies = tensors(&source).into_iter().map(OutputTensor::copy).collect();
        let target = Target::Folder(folder.path().join(name));
        let plan =
            Plan::new(target, false, &Reader::default(), safetensors(max_shard), copies, vec![]).unwrap();
        plan.run(1, &Silent).unwrap();
        open(&folder.path().join(name))
    };
    let (whole, parts) = (write("whole", u64::MAX), write("parts", 300_000));
    assert_eq!(whole.files().len(), 1);
    assert!(parts.files().len() > 4);
    for (index, info) in whole.tensors().iter().enumerate() {
        assert_eq!(bytes(&whole, index), bytes(&parts, parts.find(&info.name).unwrap()));
    }
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("parts/model.safetensors.index.json")).unwrap())
            .unwrap();
    let total: u64 = whole.tensors().iter().map(|t| t.byte_len()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    assert_eq!(index["weight_map"].as_object().unwrap().len(), whole.tensors().len());
}

#[test]
fn a_cast_that_overflows_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.safetensors");
    let info = lorakit_tensor::TensorInfo { name: "w".into(), dtype: DType::F32, shape: vec![2, 2] };
    let layout = lorakit_tensor::format::safetensors::layout(&BTreeMap::new(), &[info]).unwrap();
    let values: Vec<u8> = [1.0f32, 2.0, 70000.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(&input, [layout.header, values].concat()).unwrap();
    let source = open(&input);
    let cast = tensors(&source).into_iter().map(|t| OutputTensor::cast(t, DType::F16)).collect();
    let target = Target::File(folder.path().join("out.safetensors"));
    let plan = Plan::new(target, false, &Reader::default(), safetensors(u64::MAX), cast, vec![]).unwrap();
    let error = plan.run(1, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let message = "`w`: holds 7e4 at row 1, column 0, which F16 cannot hold";
    assert!(error.to_string().ends_with(message), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

struct StopAtOnce;

impl Progress for StopAtOnce {
    fn advance(&self, _bytes: u64) {}
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_cancelled_run_and_a_refused_plan_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = open(&fixture("tiny-orders"));
    let output = folder.path().join("out");
    let plan = |target: &Path, replace| -> Result<Plan, Error> {
        let copies = tensors(&source).into_iter().map(OutputTensor::copy).collect();
        let target = Target::Folder(target.to_path_buf());
        Plan::new(target, replace, &reading(source.path()), safetensors(u64::MAX), copies, vec![])
    };
    let error = plan(&output, false).unwrap().run(2, &StopAtOnce).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let error = plan(&fixture("tiny-orders"), true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File(FileError::SameFile));
    fs::create_dir(&output).unwrap();
    fs::write(output.join("config.json"), "{}").unwrap();
    let standing = plan(&output, false).unwrap();
    assert_eq!(standing.check().unwrap_err().kind(), ErrorKind::File(FileError::Exists));
    assert_eq!(standing.run(2, &Silent).unwrap_err().kind(), ErrorKind::File(FileError::Exists));
    assert_eq!(plan(&output, true).unwrap().check().unwrap(), [Path::new("config.json")]);
    fs::write(output.join("notes.txt"), "").unwrap();
    let error = plan(&output, true).unwrap().check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File(FileError::Occupied));

    let mut twice: Vec<_> = tensors(&source).into_iter().map(OutputTensor::copy).collect();
    twice.push(twice[0].clone());
    let target = Target::Folder(folder.path().join("twice"));
    let error =
        Plan::new(target, false, &Reader::default(), safetensors(u64::MAX), twice, vec![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}
