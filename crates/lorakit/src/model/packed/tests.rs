use std::collections::BTreeMap;
use std::path::Path;

use lorakit_tensor::format::safetensors;
use lorakit_tensor::{Reader, Result as TensorResult, TensorInfo};

use super::scheme::Weight;
use super::*;
use crate::TensorRef;
use crate::plan::{Compute, Container, Plan, Silent, Target, seen_as};
use crate::tensor::tests::tensor;

/// A packing whose bytes stand for themselves, recognised by `X.dummy_codes`: a new packing only needs its entry.
pub(super) const DUMMY: PackingKind =
    PackingKind { find: dummies, types: &[], pack: write::linear_layers, config: |_| Value::Null };

struct Dummy(TensorInfo, usize);

impl Weight for Dummy {
    fn info(&self) -> &TensorInfo {
        &self.0
    }

    fn decode(&self, stored: &Checkpoint, first: u64, values: &mut [f32]) -> TensorResult<()> {
        let bytes = stored.read(self.1, first..first + values.len() as u64)?;
        values.iter_mut().zip(bytes.iter()).for_each(|(value, byte)| *value = f32::from(*byte));
        Ok(())
    }
}

fn dummies(stored: &Stored<'_>) -> Result<Vec<Packed>> {
    let found = stored.tensors().iter().enumerate().filter_map(|(codes, info)| {
        let name = info.name.strip_suffix(".dummy_codes")?.to_string();
        let info = TensorInfo { name, dtype: DType::F32, shape: info.shape.clone() };
        Some(Packed { weight: Box::new(Dummy(info, codes)), scheme: Scheme::Int8, codes, sidecars: vec![] })
    });
    Ok(found.collect())
}

fn open(path: &Path) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(path, &Reader::default()).unwrap())
}

#[test]
fn an_entry_of_the_list_is_all_that_reading_takes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let info = TensorInfo { name: "m.q.dummy_codes".into(), dtype: DType::U8, shape: vec![2, 2] };
    let header = safetensors::layout(&BTreeMap::new(), &[info]).unwrap().header;
    std::fs::write(&path, [header, vec![3, 1, 4, 1]].concat()).unwrap();
    let (seen, packing) = view(&open(&path), None).unwrap().unwrap();
    assert_eq!((seen.tensors()[0].name.as_str(), packing.tensors), ("m.q", vec![0]));
    assert_eq!(TensorRef::new(seen, 0).values().unwrap(), [3.0, 1.0, 4.0, 1.0]);
}

/// Written weights are found by their own reader and no other, with the values that the engine meant.
#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    for PackedType { name, packer, .. } in TYPES {
        let (shape, dtype, weight) = match packer {
            Packer::Mxfp4 => (vec![2, 64, 128], DType::BF16, "m.experts.down_proj"),
            _ => (vec![128, 128], DType::F32, "m.q_proj.weight"),
        };
        let mut values: Vec<f32> = (0..128 * 128).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
        let source = tensor(weight, &shape, &values);
        let compute = seen_as(Compute::cast(source.clone()), 128, 128).unwrap();
        let parts = OutputTensor::packed(source.info().clone(), compute, packer, dtype);
        let target = Target::File(folder.path().join(format!("{name}.safetensors")));
        let container =
            Container::Safetensors { stem: "model", metadata: BTreeMap::new(), max_shard: u64::MAX };
        let plan = Plan::new(target, false, &Reader::default(), container, parts, vec![]).unwrap();
        plan.run(2, &Silent).unwrap();

        let checkpoint = open(&folder.path().join(format!("{name}.safetensors")));
        let stored = Stored::new(&checkpoint, None);
        for kind in PACKINGS {
            assert_eq!((kind.find)(&stored).unwrap().len(), usize::from(kind.packs(packer)), "{name}");
        }
        let (seen, _) = view(&checkpoint, None).unwrap().unwrap();
        assert_eq!((&seen.tensors()[0].name, &seen.tensors()[0].shape), (&source.info().name, &shape));
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        packer.encode(128, largest, &mut values, &mut vec![0; packer.code_bytes(128 * 128)], &mut Vec::new());
        assert!(TensorRef::new(seen, 0).values().unwrap() == values, "{name}");
    }
}

#[test]
fn names_are_of_one_type_each() {
    for (place, packed) in TYPES.iter().enumerate() {
        assert_eq!(TYPES.iter().position(|other| other.name == packed.name), Some(place));
        let nested = packed.packer.with_settings(128, true);
        assert_eq!(PACKINGS.iter().filter(|kind| kind.packs(nested)).count(), 1, "{}", packed.name);
    }
}
