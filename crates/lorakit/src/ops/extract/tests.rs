#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use lorakit_linalg::random::gaussian;
use lorakit_tensor::format::safetensors;
use lorakit_tensor::{DType, Reader, TensorInfo};
use ndarray::Array2;
use proptest::prelude::*;

mod ranks;

use super::*;
use crate::ErrorKind;
use crate::adapter::ModuleKind;
use crate::adapter::factors::Factors;
use crate::ops::merge::{self, MergeOptions, Sum};
use crate::plan::Silent;

/// Models and adapters in a folder that is deleted after the test.
struct Folder(tempfile::TempDir);

/// Name, shape, values.
type Given<'a> = (&'a str, &'a [usize], Vec<f32>);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, dtype: DType, tensors: &[Given<'_>]) {
        let info = |t: &Given<'_>| TensorInfo { name: t.0.into(), dtype, shape: t.1.to_vec() };
        let infos: Vec<TensorInfo> = tensors.iter().map(info).collect();
        let mut bytes = safetensors::layout(&[].into(), &infos).unwrap().header;
        for (info, (_, _, values)) in infos.iter().zip(tensors) {
            let mut stored = vec![0; info.byte_len() as usize];
            lorakit_quant::encoder(dtype).unwrap().encode(values, &mut stored);
            bytes.extend(stored);
        }
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn model(&self, name: &str, dtype: DType, tensors: &[Given<'_>]) {
        self.file(&format!("{name}/model.safetensors"), dtype, tensors);
    }

    /// An adapter of rank `r` and alpha `alpha` on one module.
    fn adapter(&self, module: &str, r: usize, alpha: f64, b: &Array2<f64>, a: &Array2<f64>) {
        let config =
            serde_json::json!({"peft_type": "LORA", "r": r, "lora_alpha": alpha, "target_modules": [module]});
        let names = ["A", "B"].map(|half| format!("base_model.model.{module}.lora_{half}.weight"));
        let (of_a, of_b) = ([a.nrows(), a.ncols()], [b.nrows(), b.ncols()]);
        self.file(
            "adapter/adapter_model.safetensors",
            DType::F32,
            &[(&names[0], &of_a, single(a)), (&names[1], &of_b, single(b))],
        );
        std::fs::write(self.path("adapter/adapter_config.json"), config.to_string()).unwrap();
    }

    fn merge(&self) {
        let options =
            MergeOptions::new(Sum::new(self.path("base"), [(self.path("adapter"), 1.0)]), self.path("tuned"));
        merge::plan(&options, &Silent).unwrap().run(1, &Silent).unwrap();
    }

    fn options(&self, rule: Rule) -> ExtractOptions {
        let [base, tuned, out] = ["base", "tuned", "out"].map(|name| self.path(name));
        ExtractOptions { rule, ..ExtractOptions::new(&base, &tuned, &out) }
    }

    fn extract(&self, rule: Rule) -> Result<Extract> {
        compute(&self.options(rule), &Silent)
    }
}

fn single(matrix: &Array2<f64>) -> Vec<f32> {
    matrix.iter().map(|v| *v as f32).collect()
}

fn random(rows: usize, cols: usize, seed: u64, scale: f64) -> Vec<f32> {
    single(&(gaussian(rows, cols, seed) * scale))
}

fn norm(x: &Array2<f64>) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn product(extract: &Extract) -> Array2<f64> {
    let factors = Factors::load(&extract.output.modules()[0]).unwrap();
    factors.scale * factors.b.dot(&factors.a)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A merge that is taken apart again is the adapter: through files, with sums in F32.
    #[test]
    fn merge_then_extract_returns_the_adapter(
        rows in 4usize..60, cols in 4usize..60, r in 1usize..5, alpha in 0.5f64..8.0, seed: u64,
    ) {
        let folder = Folder::new();
        let module = "model.layers.0.self_attn.q_proj";
        let name = format!("{module}.weight");
        folder.model("base", DType::F32, &[(&name, &[rows, cols], random(rows, cols, seed, 1.0))]);
        let (b, a) = (gaussian(rows, r, !seed), gaussian(r, cols, seed ^ 1));
        folder.adapter(module, r, alpha, &b, &a);
        folder.merge();
        let extract = folder.extract(Rule::Rank(r)).unwrap();
        extract.run(1, &Silent).unwrap();
        let meant = b.dot(&a) * (alpha / r as f64);
        let off = norm(&(product(&extract) - &meant)) / norm(&meant);
        prop_assert!(off < 3e-6, "{}", off);
        let [change] = extract.changes.as_slice() else { panic!("{:?}", extract.changes) };
        prop_assert_eq!(change.became, Became::Factors(r.min(rows).min(cols)));
        prop_assert!((change.norm / norm(&meant) - 1.0).abs() < 1e-5 && change.residual < 3e-6);

        // The file makes the tuned model from the base again.
        let written = crate::adapter::Adapter::open(&folder.path("out"), &Reader::default(), None).unwrap();
        let factors = Factors::load(&written.modules[0]).unwrap();
        prop_assert!(norm(&(factors.scale * factors.b.dot(&factors.a) - product(&extract))) <= 1e-12 * norm(&meant));
    }
}

/// Sixteen bits bury the adapter in noise, and exactly its rank stands out.
#[test]
fn the_rank_is_found_under_rounding() {
    let (rows, cols, r, module) = (300, 200, 6, "model.layers.0.mlp.up_proj");
    for (dtype, size) in [(DType::BF16, 0.02), (DType::BF16, 0.002), (DType::F16, 0.002)] {
        let folder = Folder::new();
        let name = format!("{module}.weight");
        folder.model("base", dtype, &[(&name, &[rows, cols], random(rows, cols, 1, 0.02))]);
        let (b, a) = (gaussian(rows, r, 2) * size, gaussian(r, cols, 3) * 0.1);
        folder.adapter(module, r, r as f64, &b, &a);
        folder.merge();
        let extract = folder.extract(Rule::Auto).unwrap();
        let change = &extract.changes[0];
        assert_eq!(change.became, Became::Factors(r), "{dtype} {size}");
        let nearer = norm(&(product(&extract) - b.dot(&a))) / norm(&b.dot(&a));
        assert!(nearer < change.residual, "what is left out is noise: {nearer} {}", change.residual);
        assert!(extract.rounding().unwrap() > 0.5 * change.residual);
    }
}

#[test]
fn energy_is_kept_and_the_rest_is_the_tail() {
    let (rows, cols) = (600, 500);
    let folder = Folder::new();
    let base = gaussian(rows, cols, 1);
    // Singular values that halve, in a matrix that is too large to be decomposed as a whole.
    let mut delta = Array2::zeros((rows, cols));
    for i in 0..12 {
        let (u, v) = (gaussian(rows, 1, 10 + i), gaussian(1, cols, 50 + i));
        delta += &(u.dot(&v) * 0.5f64.powi(i as i32));
    }
    let name = "model.layers.0.mlp.up_proj.weight";
    folder.model("base", DType::F32, &[(name, &[rows, cols], single(&base))]);
    folder.model("tuned", DType::F32, &[(name, &[rows, cols], single(&(&base + &delta)))]);
    let s = lorakit_linalg::singular_values(delta.view()).unwrap();
    let tail =
        |k: usize| (s[k..].iter().map(|s| s * s).sum::<f64>() / s.iter().map(|s| s * s).sum::<f64>()).sqrt();
    for share in [0.7, 0.99, 0.9999] {
        let extract = folder.extract(Rule::Energy(share)).unwrap();
        let rank = extract.changes[0].became.rank();
        assert!(1.0 - tail(rank).powi(2) >= share && 1.0 - tail(rank - 1).powi(2) < share, "{rank}");
        assert!((extract.changes[0].residual / tail(rank) - 1.0).abs() < 1e-3, "{share}");
    }
}

/// A norm goes with its bias, a layer's bias alone, a convolution keeps its kernel, and a new head is added.
#[test]
fn what_has_no_factors_is_saved_whole() {
    let folder = Folder::new();
    let names = [
        "h.0.conv.weight",
        "h.0.conv.bias",
        "h.0.ln.weight",
        "h.0.ln.bias",
        "h.0.mlp.weight",
        "h.0.mlp.bias",
    ];
    let shapes: [&[usize]; 6] = [&[6, 4, 3, 3], &[6], &[5], &[5], &[4, 5], &[4]];
    let tensors = |changed: &[usize]| -> Vec<Given<'static>> {
        let one = |i: usize| {
            let count = shapes[i].iter().product();
            let change = random(1, count, 9, if changed.contains(&i) { 0.1 } else { 0.0 });
            let values = random(1, count, i as u64, 1.0).iter().zip(&change).map(|(v, c)| v + c).collect();
            (names[i], shapes[i], values)
        };
        (0..names.len()).map(one).collect()
    };
    folder.model("base", DType::F32, &tensors(&[]));
    let mut tuned = tensors(&[0, 1, 2, 5]);
    tuned.push(("score.weight", &[2, 5], random(2, 5, 7, 1.0)));
    folder.model("tuned", DType::F32, &tuned);
    let extract = folder.extract(Rule::Rank(36)).unwrap();
    extract.run(1, &Silent).unwrap();
    let files = Adapter::open(&folder.path("out"), &Reader::default(), None).unwrap();
    let saved: Vec<&str> = files.saved.iter().map(|saved| saved.name.as_str()).collect();
    assert_eq!(saved, ["h.0.conv.bias", "h.0.ln.weight", "h.0.ln.bias", "h.0.mlp.bias", "score.weight"]);
    assert_eq!(
        (files.config.bias.as_str(), &files.config.modules_to_save[..]),
        ("all", &["ln".into(), "score".into()][..])
    );
    assert_eq!(files.modules[0].a.info().shape, [6, 4, 3, 3]);
    assert_eq!(files.modules[0].kind, ModuleKind::Linear);
    assert!(files.tensors().iter().any(|t| t.info().name == "base_model.model.h.0.conv.base_layer.bias"));
    assert_eq!((extract.same, extract.changes.len()), (2, 5));
    assert!(extract.overall().1 < 1e-6, "{:?}", extract.overall());
}

/// The base's values in a coarser dtype are not a change.
#[test]
fn a_norm_that_was_rounded_is_the_base() {
    let folder = Folder::new();
    let (norm, layer) = (random(1, 7, 1, 1.0), random(4, 3, 2, 1.0));
    let changed: Vec<f32> = layer.iter().map(|v| v + 0.5).collect();
    let names = ["h.0.norm.weight", "h.0.mlp.weight"];
    folder.model("base", DType::F32, &[(names[0], &[7], norm.clone()), (names[1], &[4, 3], layer)]);
    folder.model("tuned", DType::BF16, &[(names[0], &[7], norm), (names[1], &[4, 3], changed)]);
    let extract = folder.extract(Rule::Rank(3)).unwrap();
    assert_eq!((extract.same, extract.changes.len(), extract.changes[0].name.as_str()), (1, 1, "h.0.mlp"));
}

/// Experts that are stacked in one tensor get modules of their own, which find their way back into it.
#[test]
fn stacked_experts() {
    let folder = Folder::new();
    let (experts, inner, hidden) = (3, 4, 6);
    let names = ["l.0.mlp.experts.gate_up_proj", "l.0.mlp.experts.down_proj"];
    let shapes = [[experts, 2 * inner, hidden], [experts, hidden, inner]];
    let stacks = |seed: u64, size: f64| -> Vec<Vec<f32>> {
        shapes.iter().map(|[e, rows, cols]| random(e * rows, *cols, seed + *cols as u64, size)).collect()
    };
    let (base, change) = (stacks(1, 1.0), stacks(2, 0.1));
    let tuned: Vec<Vec<f32>> =
        base.iter().zip(&change).map(|(b, c)| b.iter().zip(c).map(|(b, c)| b + c).collect()).collect();
    for (name, values) in [("base", &base), ("tuned", &tuned)] {
        let tensors: Vec<Given<'_>> = (0..2).map(|i| (names[i], &shapes[i][..], values[i].clone())).collect();
        folder.model(name, DType::F32, &tensors);
    }
    let extract = folder.extract(Rule::Rank(6)).unwrap();
    extract.run(1, &Silent).unwrap();
    let paths: Vec<&str> = extract.changes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        (paths.len(), paths[0], paths[5]),
        (6, "l.0.mlp.experts.gate_up_proj.0", "l.0.mlp.experts.down_proj.2")
    );
    // One module for each parameter, as PEFT reads it.
    let files = Adapter::open(&folder.path("out"), &Reader::default(), None).unwrap();
    let paths: Vec<&str> = files.modules.iter().map(|module| module.path.as_str()).collect();
    assert_eq!(paths, [names[1], names[0]]);
    assert_eq!(files.config.target_parameters, [names[1], names[0]]);
    assert!(extract.overall().1 < 1e-6, "{:?}", extract.overall());
    let merge =
        MergeOptions::new(Sum::new(folder.path("base"), [(folder.path("out"), 1.0)]), folder.path("again"));
    merge::plan(&merge, &Silent).unwrap().run(1, &Silent).unwrap();
    let again = Model::open(&folder.path("again"), &Reader::default()).unwrap();
    for (i, name) in names.iter().enumerate() {
        let found = again.refs().find(|t| t.info().name == *name).unwrap().values().unwrap();
        assert!(found.iter().zip(&tuned[i]).all(|(x, y)| (x - y).abs() < 1e-5), "{name}");
    }
}

#[test]
fn refusals() {
    let folder = Folder::new();
    let names = ["model.embed_tokens.weight", "h.0.mlp.weight"];
    let models = |tuned: &[Given<'_>]| {
        folder.model(
            "base",
            DType::F32,
            &[(names[0], &[5, 3], vec![1.0; 15]), (names[1], &[2, 3], vec![1.0; 6])],
        );
        folder.model("tuned", DType::F32, tuned);
        folder.extract(Rule::Auto).unwrap_err()
    };
    let embedding = || (names[0], &[5usize, 3][..], vec![1.0f32; 15]);
    let error = models(&[embedding(), (names[1], &[2, 3], vec![1.0; 6])]);
    assert_eq!(error.kind(), ErrorKind::Unchanged);
    let error = models(&[embedding()]);
    assert_eq!((error.kind(), error.detail_lines()), (ErrorKind::Unmatched, &[names[1].to_string()][..]));
    let error = models(&[embedding(), (names[1], &[3, 2], vec![1.0; 6])]);
    assert_eq!(error.kind(), ErrorKind::Shape);
    let error = models(&[embedding(), (names[1], &[2, 3], vec![f32::NAN; 6])]);
    assert_eq!(error.kind(), ErrorKind::NonFinite);

    // A vocabulary that grew is saved whole, or left out on request.
    folder.model(
        "tuned",
        DType::F32,
        &[(names[0], &[6, 3], vec![1.0; 18]), (names[1], &[2, 3], vec![1.0; 6])],
    );
    let extract = folder.extract(Rule::Auto).unwrap();
    assert_eq!((extract.changes[0].became, extract.changes[0].norm), (Became::Saved, 0.0));
    let skip = ExtractOptions { skip: vec!["embed".parse().unwrap()], ..folder.options(Rule::Auto) };
    assert_eq!(compute(&skip, &Silent).unwrap_err().kind(), ErrorKind::Unchanged);
    assert_eq!("(".parse::<NamePattern>().unwrap_err().kind(), ErrorKind::Usage);
}
