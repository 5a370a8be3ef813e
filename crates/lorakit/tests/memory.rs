//! Peak memory of a merge, measured by a counting allocator.
//!
//! No other test would notice a merge that loads whole tensors, keeps every adapter factor, or collects its output
//! before writing: its bytes would be right. This test has a separate binary because an allocator is global.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use lorakit::ops::merge::{self, MergeOptions, Sum};
use lorakit::plan::Silent;
use lorakit_tensor::format::safetensors::layout;
use lorakit_tensor::{DType, ReadMode, TensorInfo};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed on to the system allocator; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HIDDEN: usize = 512;
const INNER: usize = 2048;
const RANK: usize = 16;
const THREADS: usize = 2;

#[test]
fn peak_memory_is_bounded_and_does_not_grow_with_layers() {
    let folder = tempfile::tempdir().unwrap();
    // Positioned reads: the allocator sees buffers, but not mapped pages.
    let predicted = |layers: usize| {
        let (base, adapter) = write_model(folder.path(), layers);
        let sum = Sum::new(&base, [(adapter, 1.0)]);
        let options = MergeOptions::new(sum, folder.path().join(format!("out{layers}")))
            .with_mode(ReadMode::Positioned);
        let merge = merge::plan(&options, &Silent).unwrap();
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        merge.run(THREADS, &Silent).unwrap();
        let peak = (PEAK.load(Ordering::Relaxed) - before) as u64;
        let model = merge.plan.output_bytes();
        let predicted = merge.plan.peak_memory(THREADS);
        assert!(peak <= predicted, "{layers} layers: {peak} bytes, predicted {predicted}");
        assert!(predicted * 2 < model, "{layers} layers: {predicted} bytes for a model of {model}");
        predicted
    };
    // Predictions are compared, since they are never exceeded and actual use depends on how the threads interleave.
    let (small, large) = (predicted(16), predicted(64));
    // Only tasks and the header grow, by a few hundred bytes per tensor.
    let allowed = small + small / 10 + 48 * 2048;
    assert!(large <= allowed, "{small} bytes at 16 layers, {large} at 64");
}

fn write_model(folder: &Path, layers: usize) -> (PathBuf, PathBuf) {
    let (base, adapter) = (folder.join(format!("base{layers}")), folder.join(format!("adapter{layers}")));
    let (mut weights, mut factors) = (Vec::new(), Vec::new());
    for layer in 0..layers {
        for (name, out, inner) in [("mlp.up_proj", INNER, HIDDEN), ("mlp.down_proj", HIDDEN, INNER)] {
            let module = format!("model.layers.{layer}.{name}");
            let info =
                |name: String, dtype, shape: [usize; 2]| TensorInfo { name, dtype, shape: shape.to_vec() };
            weights.push(info(format!("{module}.weight"), DType::BF16, [out, inner]));
            let key = format!("base_model.model.{module}");
            factors.push(info(format!("{key}.lora_A.weight"), DType::F32, [RANK, inner]));
            factors.push(info(format!("{key}.lora_B.weight"), DType::F32, [out, RANK]));
        }
    }
    write(&base, "model.safetensors", &weights, "config.json", r#"{"model_type":"llama"}"#);
    let config = r#"{"peft_type":"LORA","r":16,"lora_alpha":16,"peft_version":"0.21.2"}"#;
    write(&adapter, "adapter_model.safetensors", &factors, "adapter_config.json", config);
    (base, adapter)
}

/// Writes tensors whose values are small and finite: every byte is 0x3c, which is 0.0115 in BF16 and F32.
fn write(folder: &Path, name: &str, tensors: &[TensorInfo], config: &str, text: &str) {
    fs::create_dir(folder).unwrap();
    fs::write(folder.join(config), text).unwrap();
    let layout = layout(&BTreeMap::new(), tensors).unwrap();
    let mut bytes = layout.header;
    bytes.resize(layout.len as usize, 0x3c);
    fs::write(folder.join(name), bytes).unwrap();
}
