//! Other weights than those that were asked for, in merges whose bytes are not ours: summed in f64.

use super::tiny::{adapters, base, merge_in_f64};
use super::verify;
use crate::support::Sandbox;

type List = &'static [(&'static str, f64)];

/// What was merged, what was asked for, and what is said.
const CASES: &[(List, List, &str, &str)] = &[
    (&[("json", 1.0)], &[("json", 1.0)], "within_rounding", ""),
    (&[("json", 0.75)], &[("json", 1.0)], "wrong_scale", "added 0.75 times"),
    (&[("json", 2.0)], &[("json", 1.0)], "wrong_scale", "; merged twice?"),
    (&[("json", 1.01)], &[("json", 1.0)], "wrong_scale", "added 1.01 times"),
    (&[("json", 0.01)], &[("json", 1.0)], "wrong_scale", "added 0.01 times"),
    (&[("json", 0.001)], &[("json", 1.0)], "wrong_scale", "added 0.001 times"),
    (
        &[("json", 2.828_427_124_746_190_3)],
        &[("json", 1.0)],
        "wrong_scale",
        "added 2.828427125 times; every value agrees",
    ),
    (&[("json", 2.828_427_124_746_190_3)], &[("json", 1.0)], "wrong_scale", "rsLoRA's scale at rank 8"),
    (&[("upper", 0.25)], &[("upper", 1.0)], "wrong_scale", "LoRA's scale at rank 16"),
    (&[("json", 1.0)], &[("json", 0.0)], "wrong_weights", "the adapter was added 1 times"),
    (&[("json", 1.0)], &[("json", 1.0), ("upper", 0.0)], "within_rounding", ""),
    (
        &[("json", 0.5), ("upper", 1.0)],
        &[("json", 1.0), ("upper", 1.0)],
        "wrong_weights",
        "added 0.5 and 1 times",
    ),
    (
        &[("json", 0.3), ("upper", 0.7)],
        &[("json", 1.0), ("upper", 1.0)],
        "wrong_weights",
        "added 0.3 and 0.7 times",
    ),
    (&[("json", 1.0)], &[("json", 1.0), ("upper", 1.0)], "wrong_weights", "added 1 and 0 times"),
    (&[("upper", 1.0)], &[("json", 1.0), ("upper", 1.0)], "wrong_weights", "added 0 and 1 times"),
    (
        &[("json", 1.0), ("upper", 1.0)],
        &[("json", 1.0), ("upper", 0.0)],
        "wrong_weights",
        "added 1 and 1 times",
    ),
];

/// In F32, which hides nothing.
const FINE: &[(List, List, &str, &str)] = &[
    (&[("json", 0.999)], &[("json", 1.0)], "wrong_scale", "added 0.999 times"),
    (&[("json", 1.001)], &[("json", 1.0)], "wrong_scale", "added 1.001 times"),
    (
        &[("json", 0.5), ("upper", 1.01)],
        &[("json", 1.0), ("upper", 1.0)],
        "wrong_weights",
        "added 0.5 and 1.01 times",
    ),
];

#[test]
fn numbers_are_named_whatever_the_order_of_summands() {
    for (dtype, cases) in [("bf16", &[CASES][..]), ("f32", &[CASES, FINE])] {
        let sandbox = Sandbox::new();
        let base = base(&sandbox, dtype);
        for (merged, asked, verdict, says) in cases.iter().copied().flatten() {
            let out = merge_in_f64(&sandbox, &base, merged, "merged");
            let report = verify(&sandbox, &out, &base, &adapters(asked).join(" --adapter "));
            let said = report["message"].as_str().unwrap();
            let holds = ["exact_once", "exact_in_turn", "within_rounding"]
                .contains(&report["verdict"].as_str().unwrap());
            let is = if *verdict == "within_rounding" { holds } else { report["verdict"] == *verdict };
            assert!(is && said.contains(says), "{dtype} {merged:?} {asked:?}: {said}");
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
}
