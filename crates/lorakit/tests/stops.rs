//! Every verb stops wherever it is told to, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use lorakit::ops::combine::{self, CombineOptions, Method};
use lorakit::ops::convert::adapter::{self, AdapterOptions};
use lorakit::ops::convert::{ConvertOptions, ToGgufOptions, gguf_to_hf, hf_to_gguf};
use lorakit::ops::diff::{self, DiffOptions};
use lorakit::ops::extract::{self, ExtractOptions};
use lorakit::ops::inspect::{self, InspectOptions};
use lorakit::ops::merge::{self, MergeOptions, Sum};
use lorakit::ops::quantize::{self, Mix, QuantType, Quantization, QuantizeOptions};
use lorakit::ops::reduce::{self, ReduceOptions};
use lorakit::ops::verify::{self, VerifyOptions};
use lorakit::plan::{Progress, Silent};
use lorakit::{Choice, ErrorKind, Result};
use lorakit_quant::mix::{FileType, MixOptions};

/// The numbers of linear layers of the model, all of which both adapters change, and of its tensors.
const MODULES: usize = 28;
const TENSORS: usize = 38;
/// The most moments at which a verb is told to stop.
const MOMENTS: usize = 24;

/// Asks to stop from a certain question on, and notes the total of each phase and how much of it was done.
struct Stop {
    after: usize,
    asked: AtomicUsize,
    phases: Mutex<Vec<(u64, u64)>>,
}

impl Stop {
    fn after(after: usize) -> Self {
        Stop { after, asked: AtomicUsize::new(0), phases: Mutex::default() }
    }
}

impl Progress for Stop {
    fn begin(&self, total: u64) {
        self.phases.lock().unwrap().push((total, 0));
    }

    fn advance(&self, bytes: u64) {
        self.phases.lock().unwrap().last_mut().expect("a phase has begun").1 += bytes;
    }

    fn cancelled(&self) -> bool {
        self.asked.fetch_add(1, Relaxed) >= self.after
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn base() -> PathBuf {
    fixture("tiny-orders")
}

fn adapters() -> Vec<(PathBuf, f64)> {
    vec![(fixture("tiny-json-lora"), 1.0), (fixture("tiny-upper-lora"), 0.5)]
}

/// Adapters with the same rank everywhere, which are combined entry by entry.
fn twice() -> Vec<(PathBuf, f64)> {
    vec![(fixture("tiny-json-lora"), 1.0), (fixture("tiny-json-lora"), 0.5)]
}

/// Runs `verb`, which must ask at least `least` times whether to go on, and must finish each phase. Then runs it again
/// and again, telling it to stop at one question after another.
fn stops(name: &str, least: usize, verb: &dyn Fn(&Path, &dyn Progress) -> Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(if name.ends_with("gguf") { "out.gguf" } else { "out" });
    let all = Stop::after(usize::MAX);
    verb(&output, &all).unwrap();
    let phases = all.phases.into_inner().unwrap();
    assert!(phases.iter().any(|(total, _)| *total > 0), "{name} says nothing of what there is to do");
    assert!(phases.iter().all(|(total, done)| done == total), "{name}: {phases:?}");
    let asked = all.asked.into_inner();
    assert!(asked >= least, "{name} asked {asked} times, for {least} tensors or modules");
    let _ = std::fs::remove_dir_all(&output).or_else(|_| std::fs::remove_file(&output));
    for after in (0..asked).step_by(asked.div_ceil(MOMENTS)) {
        let error = verb(&output, &Stop::after(after)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{name}, at question {after}: {error}");
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{name}, at question {after}: {left:?}");
    }
}

fn merged(folder: &Path) -> PathBuf {
    let options = MergeOptions::new(Sum::new(base(), adapters()), folder.join("merged"));
    merge::plan(&options, &Silent).unwrap().run(1, &Silent).unwrap();
    options.output
}

#[test]
fn verbs_on_models() {
    let folder = tempfile::tempdir().unwrap();
    let merged = merged(folder.path());
    stops("merge", TENSORS, &|output, progress| {
        let options = MergeOptions::new(Sum::new(base(), adapters()), output);
        merge::plan(&options, progress)?.run(1, progress).map(drop)
    });
    stops("verify", TENSORS, &|_, progress| {
        let options = VerifyOptions::new(&merged, Sum::new(base(), adapters())).with_threads(1);
        verify::verify(&options, progress).map(drop)
    });
    stops("diff", TENSORS, &|_, progress| {
        let (a, b) = (base(), merged.clone());
        let options = DiffOptions::new(a, b).with_threads(1);
        diff::diff(&options, progress).map(drop)
    });
    stops("extract", TENSORS, &|output, progress| {
        let options = ExtractOptions::new(base(), merged.clone(), output)
            .with_rule(extract::Rule::Rank(4))
            .with_threads(1);
        extract::compute(&options, progress)?.run(1, progress).map(drop)
    });
}

#[test]
fn verbs_on_formats() {
    let folder = tempfile::tempdir().unwrap();
    let to_gguf = |output: &Path, progress: &dyn Progress| {
        let options = ToGgufOptions::new(base(), output);
        hf_to_gguf(&options, progress)?.run(1, progress).map(drop)
    };
    stops("convert to gguf", TENSORS, &to_gguf);
    let gguf = folder.path().join("base.gguf");
    to_gguf(&gguf, &Silent).unwrap();
    stops("convert to hf", TENSORS, &|output, progress| {
        let options = ConvertOptions::new(gguf.clone(), output).with_max_shard(1 << 40);
        gguf_to_hf(&options, progress)?.run(1, progress).map(drop)
    });
    let mix = Mix { file_type: Some(FileType::Q8_0), options: MixOptions::default(), promote: None };
    let packing = QuantType::from_name("nf4").and_then(|kind| kind.packing(64, true)).unwrap();
    for (name, quantization) in [
        ("quantize to gguf", Quantization::Gguf { mix, imatrix: None }),
        ("quantize to nf4", Quantization::Packed { packing, promote: false }),
    ] {
        stops(name, TENSORS, &|output, progress| {
            let options = QuantizeOptions::new(base(), output, quantization.clone()).with_max_shard(1 << 40);
            quantize::plan(&options, progress)?.run(1, progress).map(drop)
        });
    }
}

#[test]
fn verbs_on_adapters() {
    let (source, _) = adapters().swap_remove(0);
    stops("inspect", 2 * MODULES, &|_, progress| {
        let options = InspectOptions::new().with_spectrum(true).with_base(Some(base()));
        inspect::inspect(&source, &options, progress).map(drop)
    });
    for to in ["peft", "gguf", "mlx", "torchtune"] {
        stops(&format!("convert to {to}"), 2 * MODULES, &|output, progress| {
            let options =
                AdapterOptions::new(source.clone(), output, to).with_base(Some(base())).with_threads(1);
            adapter::compute(&options, progress)?.run(1, progress).map(drop)
        });
    }
    for rule in [reduce::Rule::Rank(2), reduce::Rule::Energy(0.5), reduce::Rule::Size(60_000)] {
        stops("reduce", 2 * MODULES, &|output, progress| {
            let options = ReduceOptions::new(source.clone(), output, rule).with_threads(1);
            reduce::compute(&options, progress)?.run(1, progress).map(drop)
        });
    }
    for method in ["svd", "cat", "linear"] {
        stops("combine", 2 * MODULES, &|output, progress| {
            let options = CombineOptions::new(if method == "linear" { twice() } else { adapters() }, output)
                .with_method(Method::from_name(method).unwrap())
                .with_threads(1);
            combine::compute(&options, progress)?.run(1, progress).map(drop)
        });
    }
}

/// Counts bytes.
#[derive(Default)]
struct Count(AtomicU64);

impl Progress for Count {
    fn advance(&self, bytes: u64) {
        self.0.fetch_add(bytes, Relaxed);
    }
}

/// Progress ends at its total, even if tensors come out shorter than planned.
#[test]
fn progress_ends_with_all_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let packing = QuantType::from_name("nf4").unwrap().packing(64, true).unwrap();
    let double = Quantization::Packed { packing, promote: false };
    for (name, quantization) in [("floats", None), ("nf4", Some(double))] {
        let options = MergeOptions::new(Sum::new(base(), adapters()), folder.path().join(name))
            .with_quantization(quantization)
            .with_min_retention(0.0);
        let merge = merge::plan(&options, &Silent).unwrap();
        let count = Count::default();
        merge.run(2, &count).unwrap();
        assert_eq!(count.0.into_inner(), merge.plan.output_bytes(), "{name}");
    }
}
