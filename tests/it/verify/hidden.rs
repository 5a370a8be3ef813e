//! Quantised models that hold something besides the sum: what encoding it does not explain is found.

use super::tiny::{EMBEDDING, JSON, MODEL, Q, UP, adapters, base, change, faulty, merge};
use super::verify;
use crate::support::Sandbox;
use crate::weights::{Weights, edit_file, noise};

/// What is done to the merge, what is asked for, the verdict, and what is said.
struct Hidden {
    name: &'static str,
    besides: &'static [(&'static str, f64)],
    spoil: fn(&mut Weights),
    verdict: &'static str,
    says: &'static str,
}

const fn spoiled(
    name: &'static str,
    spoil: fn(&mut Weights),
    verdict: &'static str,
    says: &'static str,
) -> Hidden {
    Hidden { name, besides: &[], spoil, verdict, says }
}

fn disturb(weights: &mut Weights, name: &str, seed: u64, share: f64) {
    let values = weights[name].values();
    let norm = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
    // Uniform between -1 and 1: a third of the square.
    let noise = noise(seed, values.len(), share * norm * 3f64.sqrt());
    change(weights, name, |at, value| *value += noise[at]);
}

const FAULTS: &[Hidden] = &[
    Hidden {
        name: "another adapter at 0.1",
        besides: &[("upper", 0.1)],
        spoil: |_| (),
        verdict: "",
        says: "",
    },
    spoiled(
        "noise in every matrix",
        |weights| {
            let names: Vec<String> = weights.keys().filter(|n| n.contains("proj")).cloned().collect();
            names.iter().enumerate().for_each(|(seed, name)| disturb(weights, name, seed as u64, 0.2));
        },
        "other_adapter",
        "is further from the sum than",
    ),
    spoiled("noise in the embedding", |weights| disturb(weights, EMBEDDING, 1, 0.25), "changed", EMBEDDING),
    spoiled(
        "10 rows replaced",
        |weights| {
            let other = noise(7, 10 * 128, 0.2);
            change(weights, EMBEDDING, |at, value| {
                if let Some(other) = at.checked_sub(100 * 128).and_then(|at| other.get(at)) {
                    *value = *other;
                }
            });
        },
        "changed",
        "in 10 of 512 rows (100 to 109)",
    ),
    spoiled(
        "2 rows exchanged",
        |weights| {
            let old = weights[EMBEDDING].matrix();
            change(weights, EMBEDDING, |at, value| {
                let row = match at / 128 {
                    100 => 200,
                    200 => 100,
                    row => row,
                };
                *value = old.at(row, at % 128);
            });
        },
        "changed",
        "in 2 of 512 rows",
    ),
    spoiled(
        "a value of a matrix",
        |weights| change(weights, Q, |at, value| *value += if at == 5 * 128 + 7 { 0.5 } else { 0.0 }),
        "partly",
        "in 1 of 128 rows (5), most at [5, 7]",
    ),
    spoiled("a matrix off by 2 %", |weights| change(weights, UP, |_, value| *value *= 1.02), "partly", UP),
    // An importance matrix could have done as much to a tensor, a row and a run; Q8_0 takes none.
    spoiled("a matrix off by 0.5 %", |weights| change(weights, UP, |_, value| *value *= 1.005), "partly", UP),
    spoiled(
        "a row off by 2 %",
        |weights| change(weights, UP, |at, value| *value *= if at / 128 == 9 { 1.02 } else { 1.0 }),
        "partly",
        "in 1 of ",
    ),
];

#[test]
fn what_encoding_does_not_explain_is_found() {
    let sandbox = Sandbox::new();
    let base = base(&sandbox, "bf16");
    let adapter = &adapters(JSON)[0];
    for Hidden { name, besides, spoil, verdict, says } in FAULTS {
        let list: Vec<_> = JSON.iter().chain(*besides).copied().collect();
        let merged = merge(&sandbox, &base, &list, "merged", "--force");
        edit_file(&merged.join(MODEL), spoil);
        for kind in ["Q8_0", "Q4_K_M"] {
            // What is less than the noise of four bits hides there.
            if kind == "Q4_K_M" && (!besides.is_empty() || name.contains('%')) {
                continue;
            }
            sandbox.run(&format!("quantize --type {kind} --force -o stored.gguf"), &[&merged]).ok();
            let report = verify(&sandbox, &sandbox.path("stored.gguf"), &base, adapter);
            let (_, said) = faulty(&report);
            assert_eq!(report["holds"], false, "{kind}: {name}: {said}");
            assert!(verdict.is_empty() || report["verdict"] == *verdict, "{kind}: {name}: {said}");
            assert!(said.contains(says), "{kind}: {name}: {said}");
        }
    }
}
