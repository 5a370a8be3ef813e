#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use lorakit_linalg::random::gaussian;
use lorakit_tensor::ReadMode;
use proptest::prelude::*;

use super::*;
use crate::Choice;
use crate::adapter::{ModuleKind, Strengths};
use crate::lineage::Lineage;
use crate::ops::combine::{MajoritySign, Mix};
use crate::plan::Silent;

fn module(rows: usize, cols: usize, rank: usize, seed: u64) -> Module {
    let tensor = |name: &str, rows: usize, cols: usize, seed: u64| {
        let values: Vec<f32> = gaussian(rows, cols, seed).iter().map(|v| *v as f32).collect();
        TensorRef::in_memory(name, Path::new("made"), DType::F32, vec![rows, cols], &values).unwrap()
    };
    let (a, b) = (tensor("a", rank, cols, seed), tensor("b", rows, rank, !seed));
    Module::new("model.layers.0.q_proj", ModuleKind::Linear, a, b, Scaling::Alpha(3.0))
}

fn options(method: Method, rank: Option<usize>, density: Option<f64>) -> CombineOptions {
    CombineOptions {
        adapters: Vec::new(),
        output: PathBuf::new(),
        to: None,
        replace: false,
        dtype: None,
        base: None,
        method,
        style: Style::Fixed,
        rank,
        density,
        majority: MajoritySign::Total,
        seed: None,
        strengths: Strengths::default(),
        lineage: Lineage::default(),
        card: false,
        chosen: None,
        threads: 1,
        mode: ReadMode::Mapped,
    }
}

/// The result of `options` for modules with weights.
fn combined(options: &CombineOptions, parts: &[(Module, f64)]) -> Computed {
    let rank = options.rank.unwrap_or_else(|| parts.iter().map(|(m, _)| m.rank()).max().unwrap());
    let weights = parts.iter().map(|(_, weight)| *weight).collect();
    let shelf = Shelf::beside(&options.output);
    let computation = Computation { options, method: options.method, weights, rank, inflation: 1.0, shelf };
    let parts = parts.iter().enumerate().map(|(i, (module, _))| (i, module.clone())).collect();
    computation.of_module(&Aligned { parts }, &Stretch::new(&Silent, 0)).unwrap()
}

fn delta(module: &Module) -> Array2<f64> {
    let factors = Factors::load(module).unwrap();
    factors.scale * factors.b.dot(&factors.a)
}

fn sum(parts: &[(Module, f64)]) -> Array2<f64> {
    let mut sum = Array2::zeros(delta(&parts[0].0).dim());
    parts.iter().for_each(|(module, weight)| sum.scaled_add(*weight, &delta(module)));
    sum
}

fn norm(x: &Array2<f64>) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

proptest! {
    #[test]
    fn cat_is_the_weighted_sum(ranks in prop::collection::vec(1usize..5, 1..4), seed: u64, w in -2.0f64..2.0) {
        let parts: Vec<(Module, f64)> = ranks.iter().enumerate()
            .map(|(i, rank)| (module(12, 9, *rank, seed ^ i as u64), w + i as f64)).collect();
        let got = combined(&options(Method::Cat, None, None), &parts);
        let expected = sum(&parts);
        prop_assert!(norm(&(delta(&got.module) - &expected)) <= 1e-6 * norm(&expected).max(1e-3));
        prop_assert_eq!(got.module.rank(), ranks.iter().sum::<usize>());
    }

    /// At full rank nothing is lost, and below it exactly the tail (Eckart and Young).
    #[test]
    fn svd_is_the_nearest_of_its_rank(seed: u64, rank in 1usize..8, w in -1.0f64..1.0) {
        let parts = [(module(14, 11, 3, seed), 0.7), (module(14, 11, 4, !seed), w)];
        let got = combined(&options(Method::Svd, Some(rank), None), &parts);
        let expected = sum(&parts);
        let s = lorakit_linalg::singular_values(expected.view()).unwrap();
        let tail = s[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
        let off = norm(&(delta(&got.module) - &expected));
        prop_assert!((off - tail).abs() <= 1e-5 * norm(&expected), "{off} {tail}");
        prop_assert!((got.combined.error * got.combined.norm - off).abs() <= 1e-5 * norm(&expected));
    }

    /// Twice the weights, twice the result.
    #[test]
    fn combining_is_homogeneous_in_the_weights(seed: u64, which in 0usize..5, w in 0.1f64..1.5) {
        let method = [
            Method::Svd, Method::Cat, Method::Factors(Mix::LINEAR), Method::Factors(Mix::TIES),
            Method::Deltas(Mix::MAGNITUDE_PRUNE),
        ][which];
        let options = options(method, Some(4), method.has_density().then_some(0.6));
        let parts = |times: f64| [(module(13, 10, 4, seed), times * w), (module(13, 10, 4, !seed), times * 0.4)];
        let (once, twice) = (combined(&options, &parts(1.0)), combined(&options, &parts(2.0)));
        let once = 2.0 * delta(&once.module);
        prop_assert!(norm(&(delta(&twice.module) - &once)) <= 1e-5 * norm(&once));
    }
}

#[test]
fn one_term_keeps_its_bytes_and_takes_the_weight_into_its_scale() {
    let own = module(8, 6, 2, 5);
    for (weight, same) in [(0.7, true), (-0.5, false), (0.0, false)] {
        let got = combined(&options(Method::Cat, None, None), &[(own.clone(), weight)]);
        assert!(got.module.a.same_values(&own.a).unwrap());
        assert_eq!(got.module.b.same_values(&own.b).unwrap(), same);
        assert!(got.module.scale(2) > 0.0, "formats want a positive scale");
        assert!(norm(&(delta(&got.module) - weight * delta(&own))) <= 1e-12, "{weight}");
        assert_eq!(got.combined.error, 0.0);
    }
}

#[test]
fn a_sum_that_sixteen_bits_hold_stays_in_them() {
    let half = |seed| {
        let own = module(8, 6, 2, seed);
        let Factors { scale, b, a } = Factors::load(&own).unwrap();
        let shelf = Shelf::beside(Path::new("made"));
        Module {
            scaling: Scaling::Fixed(1.0),
            ..own.with_factors(scale, &b, &a, DType::BF16, &shelf).unwrap()
        }
    };
    let options = options(Method::Cat, None, None);
    let (one, two) = (half(1), half(2));
    let kept = combined(&options, &[(one.clone(), 1.0), (two.clone(), 1.0)]).module;
    let rows = |tensors: [&TensorRef; 2]| tensors.map(|t| t.values().unwrap()).concat();
    assert_eq!((kept.a.values().unwrap(), kept.b.info().shape.clone()), (rows([&one.a, &two.a]), vec![8, 4]));
    for (i, row) in kept.b.values().unwrap().chunks(4).enumerate() {
        let of = |module: &Module| module.b.values().unwrap()[2 * i..2 * i + 2].to_vec();
        assert_eq!(row, [of(&one), of(&two)].concat());
    }
    let exact = combined(&options, &[(half(1), 0.5), (half(2), -2.0)]);
    assert_eq!((exact.module.a.info().dtype, exact.combined.error), (DType::BF16, 0.0));
    let rounded = combined(&options, &[(half(1), 0.7), (half(2), 0.3)]);
    assert_eq!(rounded.module.a.info().dtype, DType::F32);
    assert!(rounded.combined.error < 1e-7);
}

/// The order of the adapters does not decide the dtype.
#[test]
fn adapters_of_several_dtypes_make_one_that_holds_all() {
    let stored = |seed, dtype| {
        let own = module(8, 6, 2, seed);
        let Factors { scale, b, a } = Factors::load(&own).unwrap();
        own.with_factors(scale, &b, &a, dtype, &Shelf::beside(Path::new("made"))).unwrap()
    };
    let methods = [
        (Method::Svd, None),
        (Method::Cat, None),
        (Method::Factors(Mix::LINEAR), None),
        (Method::Deltas(Mix::TIES), Some(0.5)),
    ];
    for (method, density) in methods {
        let options = options(method, (method != Method::Cat).then_some(2), density);
        let of = |one, two| {
            let parts = [(stored(1, one), 0.7), (stored(2, two), 0.3)];
            combined(&options, &parts).module.b.info().dtype
        };
        for (one, two) in [(DType::BF16, DType::F32), (DType::BF16, DType::F16), (DType::F16, DType::F32)] {
            assert_eq!([of(one, two), of(two, one)], [DType::F32; 2], "{method:?} {one} {two}");
        }
        if method != Method::Cat {
            assert_eq!(of(DType::BF16, DType::BF16), DType::BF16, "{method:?}");
        }
    }
}

#[test]
fn linear_has_cross_terms_and_says_so() {
    let parts = [(module(12, 9, 4, 1), 0.5), (module(12, 9, 4, 2), 0.5)];
    let got = combined(&options(Method::Factors(Mix::LINEAR), None, None), &parts);
    let expected = sum(&parts);
    let off = norm(&(delta(&got.module) - &expected)) / norm(&expected);
    assert!(off > 0.3 && (got.combined.error - off).abs() < 1e-6, "{off} {}", got.combined.error);
}

#[test]
fn large_mixtures_are_decomposed_by_random_vectors() {
    // 1100 x 1000 entries: beyond what is decomposed whole.
    let parts = [(module(1100, 1000, 4, 1), 1.0), (module(1100, 1000, 4, 2), 0.6)];
    let got = combined(&options(Method::Deltas(Mix::TIES), Some(6), Some(0.5)), &parts);
    assert_eq!(got.module.rank(), 6);
    let plain: Vec<Factors> = parts.iter().map(|(m, _)| Factors::load(m).unwrap()).collect();
    let recipe =
        Recipe { mix: Mix::TIES, density: 0.5, majority: MajoritySign::Total, style: Style::Fixed, seed: 0 };
    let told = Told { stretch: &Stretch::new(&Silent, 0), bytes: 0 };
    let whole = MixedDelta::new(recipe, vec![1.0, 0.6], &plain, &[0, 1], &told).whole();
    let off = norm(&(delta(&got.module) - &whole)) / norm(&whole);
    assert!((got.combined.error - off).abs() < 1e-4, "{} {off}", got.combined.error);
}

#[test]
fn methods_have_names_of_their_own_and_say_what_they_do() {
    let mut names = std::collections::HashSet::new();
    for method in Method::all() {
        assert!(names.insert(method.name()), "{method:?}");
        assert_eq!(Method::from_name(method.name()), Some(*method));
        assert!(!method.about().is_empty() && !method.about().ends_with('.'), "{method:?}");
    }
    assert_eq!(Method::from_name("linear_svd"), None);
}

/// One adapter is not combined with anything: its delta is multiplied by the weight, whatever the method and the style.
#[test]
fn every_method_gives_the_same_for_one_adapter() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/peft/adapters/attn-r4");
    let adapter = Adapter::open(&golden, &lorakit_tensor::Reader::default(), None).unwrap();
    let own = adapter.modules[0].clone();
    let adapters = [(adapter, 0.5)];
    for method in Method::all() {
        for style in Style::all() {
            let density = method.has_density().then_some(0.5);
            let options = CombineOptions { style: *style, ..options(*method, None, density) };
            let computation = Computation::new(&adapters, &options);
            let aligned = Aligned { parts: vec![(0, own.clone())] };
            let got = computation.of_module(&aligned, &Stretch::new(&Silent, 0)).unwrap();
            assert!(norm(&(delta(&got.module) - 0.5 * delta(&own))) <= 1e-12, "{method:?} {style:?}");
        }
    }
}

/// `dummy` is in `mix/dummy.rs` and in one line of the table, and nowhere else.
#[test]
fn one_more_mix_is_one_module_and_one_line() {
    let named = |name: &str| Method::from_name(name).unwrap();
    let (of_factors, of_deltas) = (named("dummy"), named("dummy_svd"));
    assert_eq!(of_factors.in_style(Style::Mergekit), of_deltas);
    assert!(of_deltas.has_rank() && !of_factors.has_rank() && !of_factors.has_density());
    assert!(!of_factors.is_random() && of_factors.about().contains("factors"));
    let parts = [(module(12, 9, 4, 1), 0.5), (module(12, 9, 4, 2), 0.5)];
    let linear = combined(&options(named("linear"), None, None), &parts);
    let doubled = combined(&options(of_factors, None, None), &parts);
    // Both factors are doubled.
    let off = delta(&doubled.module) - 4.0 * delta(&linear.module);
    assert!(norm(&off) <= 1e-5 * norm(&delta(&linear.module)), "{}", norm(&off));
    let doubled = combined(&options(of_deltas, Some(8), None), &parts);
    let off = delta(&doubled.module) - 2.0 * sum(&parts);
    assert!(norm(&off) <= 1e-5 * norm(&sum(&parts)), "{}", norm(&off));
}
