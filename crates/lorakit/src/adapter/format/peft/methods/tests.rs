use serde_json::{Value, json};

use super::METHODS;
use super::oft::Cayley;
use crate::adapter::format::testing::{Folder, Given, read};
use crate::adapter::{Adapter, Module};

const FILE: &str = "adapter_model.safetensors";

fn opened(config: Value, tensors: &[Given<'_>]) -> Adapter {
    let folder = Folder::new();
    let path = folder.adapter("a", FILE, config, tensors);
    let adapter = read(&path, None).unwrap();
    // Computed factors are read while the file is there.
    adapter.modules.iter().for_each(|module| _ = (module.a.values().unwrap(), module.b.values().unwrap()));
    adapter
}

/// What is wrong with an adapter of these tensors.
fn faults(config: Value, tensors: &[Given<'_>]) -> Vec<String> {
    opened(config, tensors)
        .findings
        .iter()
        .filter(|finding| finding.code != "method")
        .map(ToString::to_string)
        .collect()
}

fn delta(module: &Module) -> Vec<f64> {
    let (a, b) = (module.a.values().unwrap(), module.b.values().unwrap());
    let (rank, inputs) = module.a.info().rows_cols();
    let scale = module.scale(rank);
    let value = |row: &[f32], i: usize| -> f64 {
        row.iter().enumerate().map(|(k, b)| scale * f64::from(*b) * f64::from(a[k * inputs + i])).sum()
    };
    b.chunks_exact(rank).flat_map(|row| (0..inputs).map(move |i| value(row, i)).collect::<Vec<_>>()).collect()
}

fn near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(expected).find(|(x, y)| (*x - *y).abs() > 1e-6 * y.abs().max(1.0));
    assert!(off.is_none(), "{found:?} instead of {expected:?}");
}

#[test]
fn whole_layers_beside_factors_replace_those_of_the_base() {
    let one: &[f32] = &[1.0];
    for (config, mark) in [
        (json!({"peft_type": "IA3"}), "ia3_l"),
        (
            json!({"peft_type": "TRAINABLE_TOKENS", "token_indices": [0]}),
            "token_adapter.trainable_tokens_delta",
        ),
    ] {
        let factor = format!("base_model.model.q.{mark}");
        let tensors: &[Given<'_>] = &[
            (&factor, &[1, 1], one),
            ("base_model.model.q.base_layer.weight", &[1, 1], one),
            ("base_model.model.q.base_layer.bias", &[1], one),
            ("base_model.model.head.modules_to_save.weight", &[1, 1], one),
            ("base_model.model.head.original_module.weight", &[1, 1], one),
        ];
        let adapter = opened(config.clone(), tensors);
        let mut saved: Vec<&str> = adapter.saved.iter().map(|saved| saved.name.as_str()).collect();
        saved.sort_unstable();
        assert_eq!(saved, ["head.weight", "q.bias", "q.weight"], "{config}");
        assert_eq!(faults(config, tensors), Vec::<String>::new());
    }
}

#[test]
fn singular_values_are_multiplied_in_and_the_rank_is_that_of_the_start() {
    let config = json!({"peft_type": "ADALORA", "init_r": 4, "r": 8, "lora_alpha": 8, "target_modules": ["q"],
        "rank_pattern": {"layers.0.q.lora_E": [true, true, false, false]}});
    let adapter = opened(
        config.clone(),
        &[
            ("base_model.model.layers.0.q.lora_A", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            ("base_model.model.layers.0.q.lora_B", &[1, 2], &[1.0, 1.0]),
            ("base_model.model.layers.0.q.lora_E", &[2, 1], &[10.0, -1.0]),
        ],
    );
    adapter.check().unwrap();
    let [module] = adapter.modules.as_slice() else { panic!("one module") };
    assert_eq!((module.path.as_str(), module.expanded), ("layers.0.q", Some("AdaLoRA")));
    let scale = 8.0 / f64::from(4f32 + 1e-5);
    near(&delta(module), &[7.0 * scale, 16.0 * scale]);

    // An alpha that is not positive stands for the rank that is left.
    let mut none = config;
    none["lora_alpha"] = 0.into();
    let tensors: &[Given<'_>] = &[
        ("q.lora_A", &[2, 1], &[1.0, 1.0]),
        ("q.lora_B", &[1, 2], &[1.0, 1.0]),
        ("q.lora_E", &[2, 1], &[1.0, 0.0]),
    ];
    near(&delta(&opened(none.clone(), tensors).modules[0]), &[2.0 / f64::from(4f32 + 1e-5)]);
    assert_eq!(faults(none.clone(), &tensors[..2]), ["`q`: lacks `lora_E`"]);
    let short: Given<'_> = ("q.lora_E", &[1, 1], &[1.0]);
    let wrong = faults(none, &[tensors[0], tensors[1], short]);
    assert_eq!(wrong, ["`q`: has A [2, 1], B [1, 2] and E [1, 1], which disagree on the rank"]);
}

#[test]
fn hadamard_products_are_scaled_by_the_configuration() {
    let config = json!({"peft_type": "LOHA", "r": 1, "alpha": 3, "alpha_pattern": {"k": 5}, "target_modules": ["q", "k"]});
    let of = |module: &str| {
        ["w1_a", "w1_b", "w2_a", "w2_b"].map(|part| format!("base_model.model.{module}.hada_{part}"))
    };
    let (q, k) = (of("q"), of("k"));
    let values: [(&[usize], &[f32]); 4] =
        [(&[2, 1], &[1.0, 2.0]), (&[1, 2], &[3.0, 4.0]), (&[2, 1], &[5.0, 6.0]), (&[1, 2], &[7.0, 8.0])];
    let tensors: Vec<Given<'_>> = q
        .iter()
        .zip(values)
        .chain(k.iter().zip(values))
        .map(|(name, (shape, v))| (name.as_str(), shape, v))
        .collect();
    let adapter = opened(config.clone(), &tensors);
    adapter.check().unwrap();
    let product = [3.0 * 35.0, 4.0 * 40.0, 6.0 * 42.0, 8.0 * 48.0];
    for (module, alpha) in adapter.modules.iter().zip([5.0, 3.0]) {
        near(&delta(module), &product.map(|value| value * alpha));
    }
    let mut other = config;
    other["r"] = 2.into();
    assert_eq!(
        faults(other, &tensors[..4]),
        ["`q`: has rank 1, and the configuration says 2, by which its alpha is divided"]
    );
}

#[test]
fn kronecker_products_are_scaled_even_if_both_parts_are_whole() {
    let config = json!({"peft_type": "LOKR", "r": 8, "alpha": 4, "target_modules": ["q"]});
    let whole: &[Given<'_>] = &[("q.lokr_w1", &[1, 2], &[1.0, 10.0]), ("q.lokr_w2", &[2, 1], &[3.0, 4.0])];
    near(&delta(&opened(config.clone(), whole).modules[0]), &[1.5, 15.0, 2.0, 20.0]);
    let one: &[Given<'_>] = &[("q.lokr_w1", &[1, 1], &[1.0]), ("q.lokr_w2", &[2, 1, 3], &[0.0; 6])];
    let found = faults(config.clone(), one);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("one-dimensional convolution"), "{found:?}");
    // Either part shows the rank.
    let first = ("q.lokr_w1_a", &[1, 1][..], &[1.0][..]);
    let tensors = [first, ("q.lokr_w1_b", &[1, 2], &[1.0, 10.0]), ("q.lokr_w2", &[2, 1], &[3.0, 4.0])];
    let wrong = "`q`: has rank 1, and the configuration says 8, by which its alpha is divided";
    assert_eq!(faults(config, &tensors), [wrong]);
}

#[test]
fn whole_layers_and_rows_keep_their_method_when_they_are_written() {
    let folder = Folder::new();
    let cases: [(Value, Vec<Given<'_>>); 2] = [
        (
            json!({"peft_type": "LN_TUNING", "target_modules": ["norm"]}),
            vec![
                ("base_model.model.norm.ln_tuning_layers.bias", &[2], &[3.0, 4.0]),
                ("base_model.model.norm.ln_tuning_layers.weight", &[2], &[1.0, 2.0]),
            ],
        ),
        (
            json!({"peft_type": "TRAINABLE_TOKENS", "target_modules": ["embed"], "token_indices": [3, 5]}),
            vec![("base_model.model.embed.trainable_tokens_delta", &[2, 1], &[1.0, 2.0])],
        ),
    ];
    for (at, (config, tensors)) in cases.into_iter().enumerate() {
        let from = folder.adapter(&format!("from{at}"), FILE, config.clone(), &tensors);
        let adapter = read(&from, None).unwrap();
        adapter.check().unwrap();
        assert_eq!((adapter.modules.len(), adapter.saved.len() + adapter.token_rows.len()), (0, 2 - at));
        let to = folder.convert(&from, &format!("to{at}"), "peft", None).unwrap();
        let again = read(&to, None).unwrap();
        let names = |adapter: &Adapter| -> Vec<String> {
            adapter.tensors().iter().map(|tensor| tensor.info().name.clone()).collect()
        };
        let mut expected: Vec<&str> = tensors.iter().map(|tensor| tensor.0).collect();
        expected.sort_unstable();
        let mut found = names(&again);
        found.sort_unstable();
        assert_eq!(found, expected);
        let written: Value =
            serde_json::from_slice(&std::fs::read(to.join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!(written, config);
    }
    // Next to factors, they are parts of a LoRA.
    let mut mixed = read(&folder.path("from1"), None).unwrap();
    let one = crate::TensorRef::of_values("w", lorakit_tensor::DType::F32, [1, 1], &[1.0]).unwrap();
    let kind = crate::adapter::ModuleKind::Linear;
    mixed.modules.push(Module::new("q", kind, one.clone(), one, crate::adapter::Scaling::Fixed(1.0)));
    let fields = super::written_fields(&mixed);
    assert_eq!((&fields["peft_type"], fields.get("token_indices")), (&json!("LORA"), None));
    let counted = json!({"peft_type": "TRAINABLE_TOKENS", "token_indices": [3]});
    let rows: Given<'_> = ("embed.trainable_tokens_delta", &[2, 1], &[1.0, 2.0]);
    assert_eq!(faults(counted, &[rows]), ["`embed`: holds 2 token rows, and the configuration lists 1"]);
}

#[test]
fn what_multiplies_is_only_for_a_merge() {
    let config = json!({"peft_type": "IA3", "target_modules": ["k", "w"], "feedforward_modules": ["w"]});
    let adapter = opened(
        config.clone(),
        &[
            ("k.ia3_l", &[2, 1], &[1.0, 2.0]),
            ("w.ia3_l", &[1, 2], &[3.0, 4.0]),
            ("c.w.ia3_l", &[1, 2, 1, 1], &[3.0, 4.0]),
        ],
    );
    adapter.check_for_merge().unwrap();
    insta::assert_snapshot!(
        adapter.check().unwrap_err().to_string().split_once("`: ").unwrap().1,
        @"multiplies 3 weights of the base (IA3) instead of adding to them, which only a merge can do"
    );
    let sides: Vec<String> =
        adapter.multiplied.iter().map(|layer| format!("{} {:?}", layer.path, layer.by)).collect();
    let side = |path: &str| sides.iter().find_map(|side| side.strip_prefix(path)?.split('(').next()).unwrap();
    assert_eq!((side("k "), side("w "), side("c.w ")), ("Outputs", "Inputs", "Inputs"));
    let unknown = json!({"peft_type": "IA3"});
    assert_eq!(faults(unknown, &[("c.ia3_l", &[1, 2, 1, 1], &[3.0, 4.0])]).len(), 1);
}

/// A default in place of a value that cannot be read would give other deltas, and nobody could tell.
#[test]
fn values_that_decide_are_of_their_type() {
    let loha = json!({"peft_type": "LOHA", "r": 2, "alpha": 4});
    let ada = json!({"peft_type": "ADALORA", "init_r": 2, "lora_alpha": 4});
    let oft =
        json!({"peft_type": "OFT", "peft_version": "0.18", "oft_block_size": 2, "use_cayley_neumann": true});
    let tensors: [Vec<Given<'_>>; 3] = [
        ["q.hada_w1_a", "q.hada_w1_b", "q.hada_w2_a", "q.hada_w2_b"]
            .map(|name| (name, &[2, 2][..], &[1.0; 4][..]))
            .into(),
        vec![
            ("q.lora_A", &[2, 1], &[1.0; 2]),
            ("q.lora_B", &[1, 2], &[1.0; 2]),
            ("q.lora_E", &[2, 1], &[1.0; 2]),
        ],
        vec![("q.oft_R.weight", &[1, 1], &[1.0])],
    ];
    let folder = Folder::new();
    let mut at = 0;
    let mut error = |config: &Value, tensors: &[Given<'_>]| {
        at += 1;
        let found = read(&folder.adapter(&at.to_string(), FILE, config.clone(), tensors), None);
        found.err().map(|e| e.to_string().split_once("json`: ").unwrap().1.to_string())
    };
    let cases = [
        (&loha, 0, "alpha", json!("8"), "`alpha` is \"8\"; it must be a finite number"),
        (&loha, 0, "r", json!(0), "`r` is 0; it must be a whole number from 1 to 65536"),
        (
            &loha,
            0,
            "alpha_pattern",
            json!({"q": "8"}),
            "`alpha_pattern` is \"8\"; it must be positive numbers",
        ),
        (&loha, 0, "rank_pattern", json!([2]), "`rank_pattern` is [2]; it must be an object of numbers"),
        (&ada, 1, "init_r", json!("2"), "`init_r` is \"2\"; it must be a finite number"),
        (
            &oft,
            2,
            "use_cayley_neumann",
            json!("false"),
            "`use_cayley_neumann` is \"false\"; it must be true or false",
        ),
        (
            &oft,
            2,
            "num_cayley_neumann_terms",
            json!(1_000_000_000_000u64),
            "`num_cayley_neumann_terms` is 1000000000000; it must be a whole number from 1 to 1000",
        ),
    ];
    for (config, given, name, value, expected) in cases {
        assert_eq!(error(config, &tensors[given]), None);
        let mut wrong = config.clone();
        wrong[name] = value;
        assert_eq!(error(&wrong, &tensors[given]).as_deref(), Some(expected));
    }
}

/// Neither is read as if the other were not there, and an empty tensor is not read as nothing.
#[test]
fn parts_that_are_there_twice_or_empty_are_faults() {
    let ada = json!({"peft_type": "ADALORA", "init_r": 2, "lora_alpha": 4});
    let one: &[Given<'_>] =
        &[("q.lora_A", &[1, 1], &[1.0]), ("q.lora_B", &[1, 1], &[1.0]), ("q.lora_E", &[1, 1], &[1.0])];
    let twice = [one, &[("q.lora_A.weight", &[1, 1], &[2.0])]].concat();
    assert_eq!(
        faults(ada.clone(), &twice),
        ["`q.lora_A.weight`: is a second tensor for the same part of `q`"]
    );
    let saved = [one, &[("head.weight", &[0, 1], &[])]].concat();
    let empty = "has no values (shape [0, 1]): it was saved without gathering its shards";
    assert_eq!(faults(ada.clone(), &saved), [format!("`head.weight`: {empty}")]);
    let pruned: &[Given<'_>] =
        &[("q.lora_A", &[0, 1], &[]), ("q.lora_B", &[1, 0], &[]), ("q.lora_E", &[0, 1], &[])];
    assert!(faults(ada, pruned).is_empty());
    let lokr = json!({"peft_type": "LOKR", "r": 1, "alpha": 1});
    let part: &[Given<'_>] = &[("q.lokr_w1", &[1, 1], &[1.0]), ("q.lokr_w2", &[0, 1], &[])];
    assert_eq!(faults(lokr.clone(), part), [format!("`q.lokr_w2`: {empty}")]);
    let both: &[Given<'_>] = &[
        ("q.lokr_w1", &[1, 1], &[1.0]),
        ("q.lokr_w1_a", &[1, 1], &[1.0]),
        ("q.lokr_w1_b", &[1, 1], &[1.0]),
        ("q.lokr_w2", &[1, 1], &[1.0]),
    ];
    assert_eq!(faults(lokr, both), ["`q`: has lokr_w1 whole and in factors"]);
    let oft =
        json!({"peft_type": "OFT", "peft_version": "0.18", "oft_block_size": 2, "use_cayley_neumann": true});
    let both: &[Given<'_>] = &[("q.oft_R", &[1, 1], &[1.0]), ("q.oft_embedding_R", &[1, 1], &[1.0])];
    assert_eq!(faults(oft, both), ["`q`: has `oft_R` and `oft_embedding_R`"]);
    let tokens = json!({"peft_type": "TRAINABLE_TOKENS", "token_indices": [-1]});
    let found = faults(tokens, &[("e.trainable_tokens_delta", &[1, 1], &[1.0])]);
    assert_eq!(found, ["`e`: holds token rows, and `token_indices` is not a list of their numbers"]);
}

/// A few kilobytes could stand for factors of gigabytes.
#[test]
fn products_of_endless_rank_are_refused() {
    let config = json!({"peft_type": "LOHA", "r": 257, "alpha": 4});
    let (down, up) = (vec![0.0; 257], [1usize, 257]);
    let tensors: Vec<Given<'_>> =
        [("q.hada_w1_a", &up), ("q.hada_w1_b", &[257, 1]), ("q.hada_w2_a", &up), ("q.hada_w2_b", &[257, 1])]
            .into_iter()
            .map(|(name, shape)| (name, &shape[..], &down[..]))
            .collect();
    let folder = Folder::new();
    let error = read(&folder.adapter("a", FILE, config, &tensors), None).unwrap_err().to_string();
    let expected = "`q`: is a LoRA of rank 66049 once it is multiplied out, and at most 65536 are read";
    assert!(error.ends_with(expected), "{error}");
}

/// By hand for blocks of two: with an angle a, Q = [0 a; -a 0], and the transform is a rotation.
#[test]
fn rotations_follow_from_angles() {
    let a = 0.5f64;
    let of = |terms, most, turned| Cayley { size: 2, terms, most, turned }.rotation(&[a as f32]);
    let (cos, sin) = ((1.0 - a * a) / (1.0 + a * a), 2.0 * a / (1.0 + a * a));
    near(&of(None, None, false), &[cos, -sin, sin, cos]);
    near(&of(None, None, true), &[cos, sin, -sin, cos]);
    // Q^2 = -a^2 I.
    near(&of(Some(1), None, false), &[1.0, 0.0, 0.0, 1.0]);
    near(&of(Some(2), None, false), &[1.0, 2.0 * a, -2.0 * a, 1.0]);
    let three = [1.0 - 2.0 * a * a, 2.0 * a - a.powi(3), a.powi(3) - 2.0 * a, 1.0 - 2.0 * a * a];
    near(&of(Some(3), None, false), &three);
    near(&of(Some(4), None, false), &three);
    let (even, odd) = (1.0 - 2.0 * a * a + a.powi(4), 2.0 * a - 2.0 * a.powi(3));
    near(&of(Some(5), None, false), &[even, odd, -odd, even]);
    // The norm of Q is a times the square root of 2.
    let limited = 0.1 / 2f64.sqrt();
    near(&of(Some(2), Some(0.1), false), &[1.0, 2.0 * limited, -2.0 * limited, 1.0]);
}

#[test]
fn every_method_has_marks_of_its_own_and_a_note() {
    for (at, method) in METHODS.iter().enumerate() {
        assert!(!method.marks().is_empty() && !method.read_as().is_empty());
        let others = METHODS[..at].iter().flat_map(|other| other.marks());
        let shared: Vec<_> = others.filter(|mark| method.marks().contains(mark)).collect();
        assert!(shared.is_empty(), "{method:?} shares {shared:?}");
        // A tensor of no method is a fault, and what it is read as is said.
        let config = json!({"peft_type": method.peft_type().to_lowercase()});
        let found = faults(config, &[("base_model.model.q.lora_magnitude_vector", &[1], &[1.0])]);
        assert_eq!(
            found,
            [format!(
                "`base_model.model.q.lora_magnitude_vector`: does not belong to {}, which the configuration names",
                method.name()
            )]
        );
    }
}

#[test]
fn the_dummy_is_read_scaled_and_written_as_a_lora() {
    let folder = Folder::new();
    let config = json!({"peft_type": "DUMMY", "strength": 2, "target_modules": ["q"]});
    let tensors: &[Given<'_>] = &[
        ("base_model.model.q.dummy_u", &[2, 1], &[1.0, 2.0]),
        ("base_model.model.q.dummy_v", &[1, 2], &[3.0, 4.0]),
    ];
    let from = folder.adapter("from", FILE, config, tensors);
    let adapter = read(&from, None).unwrap();
    near(&delta(&adapter.modules[0]), &[6.0, 8.0, 12.0, 16.0]);
    assert!(
        adapter
            .findings
            .iter()
            .any(|f| f.message.contains("of the method dummy: it is read as a LoRA of rank 1"))
    );
    let to = folder.convert(&from, "to", "peft", None).unwrap();
    let written: Value =
        serde_json::from_slice(&std::fs::read(to.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&written["peft_type"], &written["r"]), (&json!("LORA"), &json!(1)));
    near(&delta(&read(&to, None).unwrap().modules[0]), &[6.0, 8.0, 12.0, 16.0]);
}
