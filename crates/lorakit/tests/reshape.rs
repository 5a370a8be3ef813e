//! Recipes in another shape give the rows of the plain recipe, bit for bit, whether an adapter changes them or not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lorakit::inside::Factor;
use lorakit::inside::RowOrder;
use lorakit::plan::{
    Axis, Compute, Container, Dora, LowRank, OutputTensor, Plan, Recipe, ReplacedRows, Rounding, Silent,
    Target,
};
use lorakit::{ErrorKind, TensorRef};
use lorakit_tensor::format::safetensors;
use lorakit_tensor::{Checkpoint, DType, Reader, TensorInfo, TensorSource};

const ROWS: usize = 24;
const COLS: usize = 10;
const RANK: usize = 3;

/// A file of random values: a matrix, its adapter's factors and magnitudes, rows to replace, a vector.
fn inputs(folder: &Path) -> impl Fn(&str) -> TensorRef {
    let shapes: [(&str, DType, &[usize]); 8] = [
        ("w", DType::BF16, &[ROWS, COLS]),
        ("w2", DType::BF16, &[ROWS, COLS]),
        ("a", DType::F32, &[RANK, COLS]),
        ("b", DType::F32, &[ROWS, RANK]),
        ("m", DType::F32, &[ROWS]),
        ("rows", DType::F32, &[3, COLS]),
        ("bias", DType::F32, &[ROWS]),
        ("delta", DType::F32, &[ROWS]),
    ];
    let info = |&(name, dtype, shape): &(&str, DType, &[usize])| TensorInfo {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
    };
    let infos: Vec<TensorInfo> = shapes.iter().map(info).collect();
    let layout = safetensors::layout(&BTreeMap::new(), &infos).unwrap();
    let mut bytes = layout.header;
    bytes.resize(layout.len as usize, 0);
    for (seed, (info, offset)) in infos.iter().zip(layout.offsets).enumerate() {
        for i in 0..info.elements() as usize {
            let value = ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
            let width = info.dtype.block().bytes;
            let at = offset as usize + i * width;
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[4 - width..]);
        }
    }
    let path = folder.join("in.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(Checkpoint::open(&path, &Reader::default()).unwrap());
    move |name| TensorRef::new(Arc::clone(&source), source.find(name).unwrap())
}

/// The bytes that a recipe produces.
fn run(tensor: OutputTensor) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let container = Container::Safetensors { stem: "model", metadata: BTreeMap::new(), max_shard: u64::MAX };
    let plan =
        Plan::new(Target::File(path.clone()), false, &Reader::default(), container, vec![tensor], vec![])
            .unwrap();
    plan.run(2, &Silent).unwrap();
    let file = Checkpoint::open(&path, &Reader::default()).unwrap();
    file.read(0, 0..file.tensors()[0].byte_len()).unwrap().into_owned()
}

fn rows_of(bytes: &[u8], rows: usize, order: &[usize]) -> Vec<u8> {
    let row = bytes.len() / rows;
    order.iter().flat_map(|&r| &bytes[r * row..(r + 1) * row]).copied().collect()
}

/// Every kind of edit of `w`, by name.
fn edits(get: &dyn Fn(&str) -> TensorRef) -> Vec<(&'static str, OutputTensor)> {
    let term = |rows: std::ops::Range<usize>| LowRank {
        b: Factor::matrix(get("b"), ROWS, RANK).take_rows(0, rows.len(), 1),
        a: Factor::matrix(get("a"), RANK, COLS),
        rows,
        scale: 0.75,
    };
    let plain = || Compute::cast(get("w"));
    let dora = |axis, magnitude: &str| Dora { terms: vec![term(0..ROWS)], magnitude: get(magnitude), axis };
    let replaced = ReplacedRows { tensor: get("rows"), rows: vec![17, 2, 9] };
    let edit = |name, compute| {
        let info = TensorInfo { name: "w".into(), dtype: DType::F32, shape: vec![ROWS, COLS] };
        (name, OutputTensor { info, recipe: Recipe::Compute(Box::new(compute)) })
    };
    vec![
        ("a copy", OutputTensor::copy(get("w"))),
        edit("a cast", plain()),
        edit("a term", Compute { terms: vec![term(0..ROWS)], ..plain() }),
        edit("terms on parts", Compute { terms: vec![term(3..14), term(10..ROWS)], ..plain() }),
        edit(
            "deltas rounded first",
            Compute { terms: vec![term(0..ROWS)], rounding: Rounding::DeltaFirst, ..plain() },
        ),
        edit("DoRA on rows", Compute { dora: Some(dora(Axis::Row, "m")), ..plain() }),
        edit("rows replaced", Compute { terms: vec![term(0..ROWS)], replaced: vec![replaced], ..plain() }),
    ]
}

#[test]
fn rows_in_another_order() {
    let folder = tempfile::tempdir().unwrap();
    let get = inputs(folder.path());
    let interleaved: Vec<usize> = (0..ROWS).map(|r| r / 2 + r % 2 * (ROWS / 2)).collect();
    for order in [interleaved, vec![5, 6, 7, 2, 17], (4..20).collect(), (0..ROWS).collect()] {
        for (name, tensor) in edits(&get) {
            let expected = rows_of(&run(tensor.clone()), ROWS, &order);
            let rows = RowOrder::of_rows(order.iter().copied());
            let gathered = tensor.clone().gather_rows(ROWS, &rows, &[order.len()]).unwrap();
            assert_eq!(gathered.info.shape, [order.len(), COLS]);
            assert!(run(gathered.clone()) == expected, "{name}, {order:?}");
            // Reordered twice, then reversed: orders compose.
            let back = RowOrder::of_rows((0..order.len()).rev());
            let twice = gathered.gather_rows(order.len(), &back, &[order.len()]).unwrap();
            let reversed: Vec<usize> = (0..order.len()).rev().collect();
            assert!(run(twice) == rows_of(&expected, order.len(), &reversed), "{name}, {order:?} reversed");
        }
    }
}

/// For an adapter, a bias is one row; for a permutation, it has as many rows as values.
#[test]
fn values_of_a_vector_in_another_order() {
    let folder = tempfile::tempdir().unwrap();
    let get = inputs(folder.path());
    let order: Vec<usize> = (0..ROWS).map(|r| r / 2 + r % 2 * (ROWS / 2)).collect();
    let delta = Factor::matrix(get("delta"), 1, ROWS);
    let term = LowRank { rows: 0..1, b: Factor::one(), a: delta, scale: 2.0 };
    let edited = Compute { terms: vec![term], ..Compute::cast(get("bias")) };
    let info = get("bias").info().clone();
    let edited = OutputTensor { info, recipe: Recipe::Compute(Box::new(edited)) };
    for tensor in [OutputTensor::copy(get("bias")), edited] {
        let expected = rows_of(&run(tensor.clone()), ROWS, &order);
        let gathered = tensor.gather_rows(ROWS, &RowOrder::of_rows(order.iter().copied()), &[ROWS]).unwrap();
        assert_eq!(gathered.info.shape, [ROWS]);
        assert!(run(gathered) == expected);
    }
}

#[test]
fn stacks() {
    let folder = tempfile::tempdir().unwrap();
    let get = inputs(folder.path());
    let other = OutputTensor::copy(get("w2"));
    for (name, tensor) in edits(&get).into_iter().filter(|(name, _)| !name.contains("DoRA")) {
        let other = other.clone().with_dtype(tensor.info.dtype);
        let expected = [run(other.clone()), run(tensor.clone()), run(other.clone())].concat();
        let copies = matches!(tensor.recipe, Recipe::Copy(_));
        let stacked = OutputTensor::stack("s", vec![other.clone(), tensor, other]).unwrap();
        assert_eq!((stacked.info.name.as_str(), stacked.info.shape.as_slice()), ("s", &[3, ROWS, COLS][..]));
        assert_eq!(matches!(stacked.recipe, Recipe::Copy(_)), copies, "{name}");
        assert!(run(stacked) == expected, "{name}");
    }
    let [.., (_, dora), _] = &edits(&get)[..] else { panic!() };
    let error = OutputTensor::stack("s", vec![dora.clone()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let short = OutputTensor::copy(get("rows"));
    let error = OutputTensor::stack("s", vec![OutputTensor::copy(get("w")), short]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File(lorakit_tensor::ErrorKind::Corrupt));
    assert_eq!(error.to_string(), "`rows`: has the shape [3, 10], `w` [24, 10]");
}

/// A constant is added in f32 to the result of an adapter, before the only rounding.
#[test]
fn a_constant_is_added_last() {
    let folder = tempfile::tempdir().unwrap();
    let get = inputs(folder.path());
    let values = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
    };
    for (name, tensor) in edits(&get) {
        let tensor = tensor.with_dtype(DType::F32);
        let expected: Vec<f32> = values(&run(tensor.clone())).iter().map(|v| v + 1.0).collect();
        assert_eq!(values(&run(tensor.plus(1.0).unwrap())), expected, "{name}");
    }
}

#[test]
fn norms_over_columns_keep_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let get = inputs(folder.path());
    let term = LowRank {
        rows: 0..ROWS,
        b: Factor::matrix(get("b"), ROWS, RANK),
        a: Factor::matrix(get("a"), RANK, COLS),
        scale: 1.0,
    };
    let magnitude = TensorRef::clone(&get("rows"));
    let dora = Dora { terms: vec![term], magnitude, axis: Axis::Column };
    let compute = Compute { dora: Some(dora), ..Compute::cast(get("w")) };
    let tensor = OutputTensor { info: get("w").info().clone(), recipe: Recipe::Compute(Box::new(compute)) };
    let error = tensor.gather_rows(ROWS, &RowOrder::of_rows(0..4), &[4]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("`w`: is changed by DoRA with norms over columns"), "{error}");
}
