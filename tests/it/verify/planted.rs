//! Faults that are planted one at a time in a merge, in bf16 and in f32: each is found and named, and merges by PEFT are
//! not accused. The digests of these come from `fixtures/generate/peft_merges.py`.

use sha2::{Digest, Sha256};

use super::tiny::{EMBEDDING, JSON, MODEL, NORM, Q, UP, adapters, base, change, faulty, merge};
use super::verify;
use crate::support::{Sandbox, fixtures, read_json};
use crate::weights::{Tensor, Weights, edit_file, noise, read_file};

const K: &str = "model.layers.1.self_attn.k_proj.weight";
const V: &str = "model.layers.1.self_attn.v_proj.weight";

/// What is wrong with a merge.
enum Plant {
    /// Nothing: it is merged so, of the two adapters.
    Merged(&'static [(&'static str, f64)]),
    /// It is merged as asked, and then this is done to it, with the base at hand.
    Spoiled(fn(&mut Weights, &Weights)),
}
use Plant::{Merged, Spoiled};

struct Fault {
    name: &'static str,
    plant: Plant,
    /// The adapters that should be in it.
    asked: &'static [(&'static str, f64)],
    verdict: &'static str,
    /// In the message, or else in what is said of a tensor.
    says: &'static str,
    /// The tensors at fault, with their states; not compared if empty.
    blamed: &'static [(&'static str, &'static str)],
}

const BOTH: &[(&str, f64)] = &[("json", 1.0), ("upper", 1.0)];

const fn scaled(name: &'static str, merged: &'static [(&'static str, f64)], says: &'static str) -> Fault {
    Fault { name, plant: Merged(merged), asked: JSON, verdict: "wrong_scale", says, blamed: &[] }
}

const fn spoiled(
    name: &'static str,
    spoil: fn(&mut Weights, &Weights),
    verdict: &'static str,
    says: &'static str,
    blamed: &'static [(&'static str, &'static str)],
) -> Fault {
    Fault { name, plant: Spoiled(spoil), asked: JSON, verdict, says, blamed }
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "not applied",
        plant: Spoiled(|merged, base| merged.clone_from(base)),
        asked: JSON,
        verdict: "adapter_missing",
        says: "are those of the base",
        blamed: &[],
    },
    scaled("weight 0.5", &[("json", 0.5)], "added 0.5 times; every value agrees"),
    scaled("weight 2", &[("json", 2.0)], "added 2 times; every value agrees"),
    scaled("weight 1.02", &[("json", 1.02)], "added 1.02 times; every value agrees"),
    scaled("weight 1.05", &[("json", 1.05)], "added 1.05 times; every value agrees"),
    scaled("weight 0.33", &[("json", 0.33)], "added 0.33 times; every value agrees"),
    scaled("weight 0.1", &[("json", 0.1)], "added 0.1 times; every value agrees"),
    scaled("weight 1.5", &[("json", 1.5)], "added 1.5 times; every value agrees"),
    // 1.01 is as near as 16 bits let one tell, until every value is compared.
    scaled("weight 1.0123", &[("json", 1.0123)], "added 1.0123 times; every value agrees"),
    scaled("undone", &[("json", -1.0)], "added -1 times; every value agrees"),
    scaled("rsLoRA for LoRA", &[("json", 2.828_427_124_746_190_3)], "added 2.828427"),
    Fault {
        name: "another weight than one that is not 1",
        plant: Merged(JSON),
        asked: &[("json", 0.7)],
        verdict: "wrong_scale",
        says: "that is a weight of 1",
        blamed: &[],
    },
    Fault {
        name: "another adapter, with fewer targets",
        plant: Merged(&[("upper", 1.0)]),
        asked: JSON,
        verdict: "other_adapter",
        says: "no multiple of these deltas",
        blamed: &[],
    },
    Fault {
        name: "another adapter, with more targets",
        plant: Merged(JSON),
        asked: &[("upper", 1.0)],
        verdict: "other_adapter",
        says: "no multiple of these deltas",
        blamed: &[],
    },
    Fault {
        name: "one of two adapters at another weight",
        plant: Merged(&[("json", 1.0), ("upper", 0.5)]),
        asked: BOTH,
        verdict: "wrong_weights",
        says: "added 1 and 0.5 times, in this order; every value agrees",
        blamed: &[],
    },
    Fault {
        name: "one of two adapters missing",
        plant: Merged(JSON),
        asked: BOTH,
        verdict: "wrong_weights",
        says: "added 1 and 0 times, in this order; every value agrees",
        blamed: &[],
    },
    spoiled(
        "a module missing",
        |merged, base| _ = merged.insert(Q.into(), base[Q].clone()),
        "partly",
        Q,
        &[(Q, "missing")],
    ),
    spoiled(
        "a norm changed by 5 %",
        |merged, _| change(merged, NORM, |_, value| *value *= 1.05),
        "changed",
        "is the base's times 1.050",
        &[(NORM, "changed")],
    ),
    spoiled(
        "a value changed",
        |merged, _| change(merged, UP, |at, value| *value += if at == 391 { 0.1 } else { 0.0 }),
        "partly",
        "has 1 among 49152 values that is not the sum: first [3, 7]",
        &[(UP, "other")],
    ),
    spoiled(
        "a value changed by 6 %",
        |merged, _| change(merged, UP, |at, value| *value *= if at == 391 { 1.06 } else { 1.0 }),
        "partly",
        "has 1 among 49152 values that is not the sum: first [3, 7]",
        &[(UP, "other")],
    ),
    // A few steps of 16 bits, which sums in another order leave too, but never in one value alone.
    spoiled(
        "a value changed by 2 %",
        |merged, _| change(merged, UP, |at, value| *value *= if at == 391 { 1.02 } else { 1.0 }),
        "partly",
        "has 1 among 49152 values that is not the sum: first [3, 7]",
        &[(UP, "other")],
    ),
    spoiled(
        "a tensor off by 1.6 %",
        |merged, _| change(merged, UP, |_, value| *value *= 1.016),
        "partly",
        "is the sum times 1.016",
        &[(UP, "other")],
    ),
    spoiled(
        "a delta off by half",
        |merged, base| {
            let base = base[UP].values();
            change(merged, UP, |at, value| *value = f64::midpoint(*value, base[at]));
        },
        "partly",
        UP,
        &[(UP, "wrong_scale")],
    ),
    spoiled(
        "23 rows of the embedding replaced",
        |merged, _| {
            let other = noise(7, 23 * 128, 0.5);
            change(merged, EMBEDDING, |at, value| {
                if let Some(other) = at.checked_sub(100 * 128).and_then(|at| other.get(at)) {
                    *value = *other;
                }
            });
        },
        "changed",
        "values in 23 of 512 rows (100 to 122) that are not the base's",
        &[(EMBEDDING, "changed")],
    ),
    spoiled(
        "k and v of a layer swapped",
        |merged, _| {
            let (k, v) = (merged[K].clone(), merged[V].clone());
            merged.extend([(K.to_owned(), v), (V.to_owned(), k)]);
        },
        "partly",
        "holds what `model.layers.1.self_attn.v_proj.weight` should",
        &[(K, "other"), (V, "other")],
    ),
    spoiled(
        "NaN and infinity where an adapter is",
        |merged, _| {
            // The last two bytes of a value, in both dtypes.
            let bytes = &mut merged.get_mut(UP).unwrap().bytes;
            let end = bytes.len();
            bytes[end - 2..].copy_from_slice(&0x7fc0_u16.to_le_bytes());
            let at = end - 4000;
            bytes[at - 4..at].copy_from_slice(&f32::INFINITY.to_le_bytes());
        },
        "non_finite",
        "has 2 among 49152 values that are NaN or infinite",
        &[(UP, "non_finite")],
    ),
    spoiled(
        "NaN where no adapter is",
        |merged, _| change(merged, NORM, |at, value| *value = if at == 5 { f64::NAN } else { *value }),
        "non_finite",
        NORM,
        &[(NORM, "non_finite")],
    ),
    spoiled(
        "a tensor of zeros",
        |merged, _| change(merged, UP, |_, value| *value = 0.0),
        "partly",
        "is all zeros",
        &[(UP, "other")],
    ),
    spoiled(
        "a square matrix transposed",
        |merged, _| {
            let matrix = merged[Q].matrix().transposed();
            change(merged, Q, |at, value| *value = matrix.values[at]);
        },
        "partly",
        "is the sum transposed",
        &[(Q, "other")],
    ),
    spoiled(
        "a matrix transposed",
        |merged, _| {
            let tensor = &merged[UP];
            let turned = tensor.matrix().transposed();
            let turned = Tensor::new(tensor.dtype, &[turned.rows, turned.cols], &turned.values);
            merged.insert(UP.into(), turned);
        },
        "partly",
        "has shape [128, 384], not [384, 128], as if transposed",
        &[(UP, "reshaped")],
    ),
    spoiled(
        "rows upside down",
        |merged, _| {
            let matrix = merged[Q].matrix();
            change(merged, Q, |at, value| *value = matrix.at(127 - at / 128, at % 128));
        },
        "partly",
        "has the rows of the sum in another order",
        &[(Q, "other")],
    ),
    spoiled(
        "a row too few",
        |merged, _| {
            let tensor = &merged[UP];
            let few = Tensor::new(tensor.dtype, &[383, 128], &tensor.values()[..383 * 128]);
            merged.insert(UP.into(), few);
        },
        "partly",
        "has shape [383, 128], not [384, 128]",
        &[(UP, "reshaped")],
    ),
    spoiled(
        "a larger vocabulary",
        |merged, _| {
            let tensor = &merged[EMBEDDING];
            let mut values = tensor.values();
            values.resize(576 * 128, 0.0);
            merged.insert(EMBEDDING.into(), Tensor::new(tensor.dtype, &[576, 128], &values));
        },
        "changed",
        "has shape [576, 128], not [512, 128]",
        &[(EMBEDDING, "reshaped")],
    ),
    spoiled(
        "a touched tensor deleted",
        |merged, _| drop(merged.remove(Q)),
        "incomplete",
        Q,
        &[(Q, "absent")],
    ),
    spoiled(
        "an untouched tensor deleted",
        |merged, _| drop(merged.remove(NORM)),
        "incomplete",
        NORM,
        &[(NORM, "absent")],
    ),
];

#[test]
fn planted_faults_are_found_and_named() {
    let mut found = 0;
    for dtype in ["bf16", "f32"] {
        let sandbox = Sandbox::new();
        let base = base(&sandbox, dtype);
        let of_base = read_file(&base.join(MODEL));
        for Fault { name, plant, asked, verdict, says, blamed } in FAULTS {
            let merged = match plant {
                Merged(list) => merge(&sandbox, &base, list, "merged", "--force"),
                Spoiled(spoil) => {
                    let merged = merge(&sandbox, &base, asked, "merged", "--force");
                    edit_file(&merged.join(MODEL), |weights| spoil(weights, &of_base));
                    merged
                }
            };
            let report = verify(&sandbox, &merged, &base, &adapters(asked).join(" --adapter "));
            let (states, said) = faulty(&report);
            assert_eq!(report["verdict"], *verdict, "{dtype}: {name}: {said}");
            assert_eq!(report["outcome"], "differs", "{dtype}: {name}");
            assert!(said.contains(says), "{dtype}: {name}: {said}");
            if !blamed.is_empty() {
                assert_eq!(states, *blamed, "{dtype}: {name}");
            }
            for tensor in report["tensors"].as_array().unwrap().iter().filter(|t| t["name"] == Q) {
                assert_eq!(tensor["touched"], true, "{dtype}: {name}");
            }
            found += 1;
        }
    }
    assert!(found >= 50, "{found} faults");
}

/// Merges that PEFT makes, to the bit, in both dtypes and by both ways of rounding.
#[test]
fn healthy_merges_are_not_accused() {
    let digests = read_json(&fixtures().join("golden/peft-merges.json"));
    for dtype in ["bf16", "f32"] {
        let sandbox = Sandbox::new();
        let base = base(&sandbox, dtype);
        for (kind, rounding) in [("", "once"), ("-safe", "peft-safe")] {
            let name = format!("{dtype}{kind}");
            let merged = merge(&sandbox, &base, JSON, &name, &format!("--rounding {rounding}"));
            let mut digest = Sha256::new();
            for (name, tensor) in read_file(&merged.join(MODEL)) {
                digest.update(name);
                digest.update(tensor.bytes);
            }
            let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digests[&name], digest, "{name} is what PEFT saves");
            let report = verify(&sandbox, &merged, &base, &adapters(JSON)[0]);
            let exact = if name == "bf16-safe" { "exact_twice" } else { "exact_once" };
            assert_eq!(report["verdict"], exact, "{name}");
            assert_eq!(report["outcome"], "holds", "{name}");
        }
    }
}
