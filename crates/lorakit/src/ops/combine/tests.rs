#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lorakit_linalg::{difference_norm, product_norm};
use serde_json::Value;

use super::*;
use crate::adapter::Module;
use crate::adapter::factors::Factors;
use crate::plan::Silent;

fn fixtures() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden")
}

fn adapter(name: &str) -> PathBuf {
    fixtures().join("peft/adapters").join(name)
}

fn options(adapters: &[(&str, f64)], method: &str) -> CombineOptions {
    CombineOptions {
        adapters: adapters.iter().map(|(name, weight)| (adapter(name), *weight)).collect(),
        output: std::env::temp_dir().join(format!("lorakit-combine-{}", std::process::id())),
        to: None,
        replace: false,
        dtype: None,
        base: None,
        method: Method::from_name(method).unwrap(),
        style: Style::Fixed,
        rank: None,
        density: None,
        majority: MajoritySign::Total,
        seed: None,
        strengths: Strengths::default(),
        lineage: Lineage::default(),
        card: false,
        chosen: None,
        threads: 2,
        mode: ReadMode::Mapped,
    }
}

/// The largest distance of the modules from those of `expected`, relative to their norm.
#[track_caller]
fn distance(case: &str, modules: &[Module], expected: &[Module]) -> f64 {
    let paths = |modules: &[Module]| modules.iter().map(|m| m.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(modules), paths(expected), "{case}");
    let distances = modules.iter().zip(expected).map(|(got, expected)| {
        let (got, expected) = (Factors::load(got).unwrap(), Factors::load(expected).unwrap());
        let norm = product_norm(expected.b.view(), expected.a.view()).unwrap() * expected.scale;
        difference_norm(got.term(), expected.term()).unwrap() / norm
    });
    distances.fold(0.0, f64::max)
}

#[test]
fn products_are_those_of_peft() {
    let text = std::fs::read(fixtures().join("combined/combined.json")).unwrap();
    let cases: Value = serde_json::from_slice(&text).unwrap();
    for (case, arguments) in cases.as_object().unwrap() {
        let list = |name: &str| arguments[name].as_array().unwrap();
        let weights = list("weights").iter().map(|w| w.as_f64().unwrap());
        let names = list("adapters").iter().map(|name| name.as_str().unwrap());
        let adapters: Vec<(&str, f64)> = names.zip(weights).collect();
        let combine = compute(
            &CombineOptions {
                rank: arguments["svd_rank"].as_u64().map(|rank| rank as usize),
                density: arguments["density"].as_f64(),
                majority: match arguments["majority_sign_method"].as_str() {
                    Some("frequency") => MajoritySign::Frequency,
                    _ => MajoritySign::Total,
                },
                ..options(&adapters, arguments["combination_type"].as_str().unwrap())
            },
            &Silent,
        )
        .unwrap();
        let expected =
            Adapter::open(&fixtures().join("combined").join(case), &Reader::default(), None).unwrap();
        let off = distance(case, combine.output.modules(), &expected.modules);
        assert!(off < 1e-5, "{case}: {off}");
    }
}

#[test]
fn pefts_mistake_about_rslora_is_reproduced_on_request() {
    for (adapters, method, rank) in [
        (&[("rslora", 1.0), ("plain", 0.5)][..], "svd", 16.0f64),
        (&[("rslora", 1.0), ("plain", 0.5)][..], "cat", 24.0),
        (&[("rslora", 1.0)][..], "linear", 16.0),
    ] {
        let fixed = compute(&options(adapters, method), &Silent).unwrap();
        let peft =
            compute(&CombineOptions { style: Style::Peft, ..options(adapters, method) }, &Silent).unwrap();
        for (fixed, peft) in fixed.output.modules().iter().zip(peft.output.modules()) {
            let ratio = peft.scale(peft.rank()) / fixed.scale(fixed.rank());
            assert!((ratio - rank.sqrt()).abs() < 1e-12, "{method} {ratio}");
        }
    }
    // With another adapter first, nothing is copied.
    let adapters = [("plain", 1.0), ("rslora", 0.5)];
    let peft = compute(&CombineOptions { style: Style::Peft, ..options(&adapters, "svd") }, &Silent).unwrap();
    let fixed = compute(&options(&adapters, "svd"), &Silent).unwrap();
    for (fixed, peft) in fixed.output.modules().iter().zip(peft.output.modules()) {
        assert!(fixed.a.same_values(&peft.a).unwrap() && fixed.b.same_values(&peft.b).unwrap());
        assert_eq!(fixed.scaling, peft.scaling);
    }
}

#[test]
fn an_adapter_minus_itself_is_nothing() {
    let combine = compute(&options(&[("plain", 1.0), ("plain", -1.0)], "svd"), &Silent).unwrap();
    for module in combine.output.modules() {
        let factors = Factors::load(module).unwrap();
        assert!(product_norm(factors.b.view(), factors.a.view()).unwrap() < 1e-12, "{}", module.path);
    }
    assert!(combine.interference.iter().all(|i| (i.cosine + 1.0).abs() < 1e-12));
}

#[test]
fn interference_of_an_adapter_with_itself_and_its_opposite() {
    for (weight, cosine, conflict) in [(2.0, 1.0, 0.0), (-2.0, -1.0, 1.0)] {
        let combine = compute(&options(&[("attn-r4", 1.0), ("attn-r4", weight)], "cat"), &Silent).unwrap();
        assert_eq!(combine.interference.len(), combine.modules.len());
        for i in &combine.interference {
            assert!((i.cosine - cosine).abs() < 1e-12 && i.sign_conflict == conflict, "{i:?}");
            assert!((i.norm_ratio - 2.0).abs() < 1e-12);
            assert!(i.output_angles.len() == 4 && i.output_angles.iter().all(|angle| *angle < 1e-7));
            assert!((i.overlap().0 - 1.0).abs() < 1e-12 && (i.overlap().1 - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn random_methods_depend_on_the_seed_alone() {
    let adapters = [("plain", 1.0), ("all-r8-second", 0.6)];
    for method in ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"] {
        let with = |seed, threads| {
            let options = CombineOptions {
                density: Some(0.5),
                seed: Some(seed),
                threads,
                ..options(&adapters, method)
            };
            compute(&options, &Silent).unwrap()
        };
        let (one, again, other) = (with(1, 1), with(1, 2), with(2, 2));
        for ((one, again), other) in
            one.output.modules().iter().zip(again.output.modules()).zip(other.output.modules())
        {
            assert!(one.a.same_values(&again.a).unwrap() && one.b.same_values(&again.b).unwrap(), "{method}");
            assert!(!one.a.same_values(&other.a).unwrap(), "{method}");
        }
    }
}

/// Paths that differ only in what wrappers put in front are two if one adapter has both.
#[test]
fn two_modules_of_one_adapter_stay_two() {
    let of = |paths: &[&str]| {
        let mut opened = input::open(&adapter("plain"), &Reader::default(), None).unwrap();
        opened.modules.truncate(1);
        let module = opened.modules.remove(0);
        opened.modules =
            paths.iter().map(|path| Module { path: path.to_string(), ..module.clone() }).collect();
        (opened, 1.0)
    };
    for own in [["x.q", "model.x.q"], ["model.x.q", "x.q"]] {
        let adapters = [of(&["model.x.q"]), of(&own)];
        let aligned = input::align(&adapters, &options(&[], "svd")).unwrap();
        let found: Vec<Vec<(usize, &str)>> = aligned
            .iter()
            .map(|aligned| aligned.parts.iter().map(|(i, module)| (*i, module.path.as_str())).collect())
            .collect();
        assert_eq!(found, [vec![(0, "model.x.q"), (1, "model.x.q")], vec![(1, "x.q")]]);
    }
}
