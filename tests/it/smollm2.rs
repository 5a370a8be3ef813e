//! The real model: SmolLM2-135M-Instruct (Q4_1 GGUF) converted, merged with a real adapter, read again.
//!
//! The model is fetched by `fixtures/fetch-smollm2.sh`. CI fetches it first and must not skip this.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use half::bf16;
use lorakit::TensorRef;
use lorakit::adapter::Adapter;
use lorakit_tensor::{Checkpoint, Reader, TensorSource};

use crate::support::{fixtures, skipped, unset};

/// Rows checked in each adapted matrix.
const ROWS: usize = 8;

/// The model, unless it was not fetched.
pub(crate) fn model() -> Option<PathBuf> {
    let model = fixtures().join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !model.is_file() {
        skipped("`sh fixtures/fetch-smollm2.sh` fetches the model for this test");
        return None;
    }
    Some(model)
}

#[test]
fn merged_rows_are_the_rounded_f64_sum() {
    let Some(model) = model() else { return };
    let adapter = fixtures().join("smollm2-orders-lora");
    let folder = tempfile::tempdir().unwrap();
    let (hf, merged) = (folder.path().join("hf"), folder.path().join("merged"));
    lorakit(&["convert".into(), model, "-o".into(), hf.clone(), "--to".into(), "hf".into()]);
    lorakit(&["merge".into(), hf.clone(), adapter.clone(), "-o".into(), merged.clone()]);

    let (before, after) = (open(&hf), open(&merged));
    assert_eq!(before.tensors(), after.tensors(), "names, dtypes and shapes stay");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        assert_eq!(
            std::fs::read(hf.join(file)).unwrap(),
            std::fs::read(merged.join(file)).unwrap(),
            "{file}"
        );
    }

    let adapter = Adapter::open(&adapter, &Reader::default(), None).unwrap();
    assert_eq!(adapter.modules.len(), 210);
    let (mut checked, mut differing) = (0, 0);
    for (m, module) in adapter.modules.iter().enumerate() {
        let index = before.find(&format!("{}.weight", module.path)).unwrap();
        let (rows, cols) = before.tensors()[index].rows_cols();
        let (a, b) = (module.a.values().unwrap(), module.b.values().unwrap());
        let rank = module.rank();
        let scale = module.scale(rank);
        for i in 0..ROWS {
            // Rows spread over the matrix, others in each module.
            let row = (i * rows / ROWS + m * 7) % rows;
            let (old, new) = (row_of(&before, index, row), row_of(&after, index, row));
            for col in 0..cols {
                let delta: f64 =
                    (0..rank).map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * cols + col])).sum();
                let exact = f64::from(old[col]) + scale * delta;
                let expected = f64::from(bf16::from_f64(exact).to_f32());
                let found = f64::from(new[col]);
                let larger = expected.abs().max(f64::from(old[col]).abs()).max(1e-38);
                let step = 2f64.powi(larger.log2().floor() as i32 - 7);
                assert!(
                    (found - expected).abs() <= step,
                    "{} [{row}, {col}]: {found}, {expected}",
                    module.path
                );
                checked += 1;
                differing += usize::from(found != expected);
            }
        }
    }
    assert!(checked > 1_000_000, "{checked} weights checked");
    assert!(differing * 10_000 <= checked, "{differing} of {checked} weights are not the rounded sum");
}

fn open(folder: &Path) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(folder, &Reader::default()).unwrap())
}

fn row_of(checkpoint: &Arc<Checkpoint>, index: usize, row: usize) -> Vec<f32> {
    let (_, cols) = checkpoint.tensors()[index].rows_cols();
    let mut values = vec![0.0; cols];
    let source: Arc<dyn TensorSource> = checkpoint.clone();
    let range = (row * cols) as u64..((row + 1) * cols) as u64;
    TensorRef::new(source, index).decode(range, &mut values).unwrap();
    values
}

fn lorakit(args: &[PathBuf]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorakit"));
    let output = unset(&mut command).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
