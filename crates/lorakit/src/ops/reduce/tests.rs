#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use lorakit_linalg::random::gaussian;
use ndarray::Array2;
use proptest::prelude::*;

use super::*;
use crate::TensorRef;
use crate::adapter::factors::Factors;
use crate::adapter::{ModuleKind, Scaling};
use crate::plan::Silent;

fn options(name: &str, rule: Rule) -> ReduceOptions {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let output = std::env::temp_dir().join(format!("lorakit-reduce-{}", std::process::id()));
    ReduceOptions::new(fixtures.join(name), output, rule).with_card(false).with_threads(2)
}

/// As `Work::reduce_module`, for a GGUF adapter.
fn reduce_module(module: &mut Module, options: &ReduceOptions) -> Result<Reduced> {
    let output = Path::new("made");
    let to = Destination {
        format: format::by_name("gguf").unwrap(),
        output,
        replace: false,
        dtype: options.dtype.filter(|dtype| !is_quantised([*dtype; 2])),
        reader: Reader::default(),
        papers: crate::lineage::Papers::default(),
        beside: Vec::new(),
    };
    let work = Work { options, to: &to, alpha: None, shelf: Shelf::beside(output), progress: &Silent };
    work.reduce_module(module, None, options.dtype)
}

fn module(rows: usize, cols: usize, rank: usize, seed: u64) -> Module {
    let tensor = |name: &str, rows: usize, cols: usize, seed: u64| {
        let values: Vec<f32> = gaussian(rows, cols, seed).iter().map(|v| *v as f32).collect();
        TensorRef::in_memory(name, Path::new("made"), DType::F32, vec![rows, cols], &values).unwrap()
    };
    let (a, b) = (tensor("a", rank, cols, seed), tensor("b", rows, rank, !seed));
    Module::new("q_proj", ModuleKind::Linear, a, b, Scaling::RankStabilised(3.0))
}

fn delta(module: &Module) -> Array2<f64> {
    let factors = Factors::load(module).unwrap();
    factors.scale * factors.b.dot(&factors.a)
}

fn norm(x: &Array2<f64>) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

proptest! {
    /// What is lost is the tail of the spectrum, and the scale is what it was (Eckart and Young).
    #[test]
    fn the_error_is_the_tail(rows in 1usize..20, cols in 1usize..20, rank in 1usize..9, to in 1usize..9, seed: u64) {
        let before = module(rows, cols, rank, seed);
        let mut after = before.clone();
        let reduced = reduce_module(&mut after, &options("", Rule::Rank(to))).unwrap();
        let whole = delta(&before);
        let s = lorakit_linalg::singular_values(whole.view()).unwrap();
        let tail = s.iter().skip(to).map(|s| s * s).sum::<f64>().sqrt();
        let off = norm(&(delta(&after) - &whole));
        prop_assert!((off - tail).abs() <= 1e-5 * norm(&whole), "{} {}", off, tail);
        prop_assert!((reduced.error * reduced.norm - off).abs() <= 1e-5 * norm(&whole));
        prop_assert!((1.0 - reduced.energy - (tail / norm(&whole)).powi(2)).abs() <= 1e-6);
        prop_assert_eq!(after.rank(), to.min(rank).min(if to < rank { rows.min(cols) } else { rank }));
        prop_assert!((after.scale(after.rank()) - before.scale(rank)).abs() < 1e-15);
    }

    #[test]
    fn rules_keep_what_they_promise(seed: u64, share in 0.05f64..0.99) {
        let before = module(16, 12, 8, seed);
        for rule in [Rule::Energy(share), Rule::MaxError((1.0 - share).sqrt())] {
            let reduced = reduce_module(&mut before.clone(), &options("", rule)).unwrap();
            prop_assert!(reduced.energy >= share - 1e-9, "{:?} {}", rule, reduced.energy);
            prop_assert!(reduced.error <= (1.0 - share).sqrt() + 1e-6);
        }
    }
}

#[test]
fn rounding_to_sixteen_bits_is_part_of_the_error() {
    let before = module(60, 50, 6, 1);
    let mut after = before.clone();
    let options = ReduceOptions { dtype: Some(DType::BF16), ..options("", Rule::Rank(5)) };
    let reduced = reduce_module(&mut after, &options).unwrap();
    let whole = delta(&before);
    let off = norm(&(delta(&after) - &whole)) / norm(&whole);
    assert!((reduced.error / off - 1.0).abs() < 1e-4, "{} {off}", reduced.error);
    assert!(reduced.error > (1.0 - reduced.energy).sqrt());
}

#[test]
fn modules_that_keep_their_rank_keep_their_bytes() {
    let before = module(20, 10, 4, 3);
    let mut after = before.clone();
    let reduced = reduce_module(&mut after, &options("", Rule::Rank(4))).unwrap();
    assert!(after.a.same_values(&before.a).unwrap() && after.b.same_values(&before.b).unwrap());
    assert_eq!((reduced.energy, reduced.error, after.scaling), (1.0, 0.0, before.scaling));
}

/// The error that is told is that of the blocks, also where the rank stays; rows that are no blocks become F16.
#[test]
fn rounding_to_blocks_is_part_of_the_error() {
    for (dtype, least, most) in [(DType::Q8_0, 1e-3, 0.01), (DType::Q4_0, 0.03, 0.15)] {
        for (rank, to, dtypes) in
            [(40, 32, (dtype, dtype)), (32, 32, (dtype, dtype)), (40, 31, (dtype, DType::F16))]
        {
            let before = module(90, 64, rank, 5);
            let mut after = before.clone();
            let options = ReduceOptions { dtype: Some(dtype), ..options("", Rule::Rank(to)) };
            let reduced = reduce_module(&mut after, &options).unwrap();
            assert_eq!((reduced.dtypes, after.rank()), (dtypes, to));
            let whole = delta(&before);
            let off = norm(&(delta(&after) - &whole)) / norm(&whole);
            assert!((reduced.error / off - 1.0).abs() < 1e-2, "{} {off}", reduced.error);
            let tail = (1.0 - reduced.energy).sqrt();
            let rounded = (off * off - tail * tail).sqrt();
            assert!(rounded > least && rounded < most, "{dtype} {rank} {to} {rounded}");
        }
    }
    let mut narrow = module(20, 10, 4, 1);
    let options = ReduceOptions { dtype: Some(DType::Q4_0), ..options("", Rule::Rank(2)) };
    assert_eq!(reduce_module(&mut narrow, &options).unwrap().dtypes, (DType::F16, DType::F16));
}

#[test]
fn one_budget_loses_less_than_the_same_rank_everywhere() {
    let name = "smollm2-orders-lora";
    let even = compute(&options(name, Rule::Rank(4)), &Silent).unwrap();
    let budget = even.parameters().1;
    let spent = compute(&options(name, Rule::Parameters(budget)), &Silent).unwrap();
    assert!(spent.parameters().1 <= budget && spent.parameters().1 > budget * 99 / 100);
    assert!(spent.overall().1 < even.overall().1, "{:?} {:?}", spent.overall(), even.overall());
    let ranks: std::collections::BTreeSet<usize> = spent.modules.iter().map(|m| m.rank).collect();
    assert!(ranks.len() > 2, "{ranks:?}");
    let capped = ReduceOptions { max_rank: Some(3), ..options(name, Rule::Parameters(budget)) };
    assert!(compute(&capped, &Silent).unwrap().modules.iter().all(|m| m.rank <= 3));
}

#[test]
fn files_are_as_large_as_they_may_be() {
    let name = "smollm2-orders-lora";
    for size in [1_500_000, 3_000_000] {
        let reduce = compute(&options(name, Rule::Size(size)), &Silent).unwrap();
        let beside: u64 = reduce
            .output
            .plan
            .side_files()
            .iter()
            .map(|file| match &file.content {
                crate::plan::Content::Bytes(bytes) => bytes.len() as u64,
                crate::plan::Content::CopyOf(_) => 0,
            })
            .sum();
        let total = reduce.output.plan.output_bytes() + beside;
        assert!(total <= size && total > size * 97 / 100, "{total} of {size}");
    }
    let error = compute(&options(name, Rule::Size(1000)), &Silent).unwrap_err();
    assert!(error.to_string().contains("does not fit into 1.00 kB: rank 1 everywhere takes"), "{error}");
}
