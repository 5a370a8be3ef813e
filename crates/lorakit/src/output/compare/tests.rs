#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use lorakit_tensor::DType;

use super::*;
use crate::ErrorKind;
use crate::adapter::{Adapter, Delta, Scaling};
use crate::plan::Silent;

const SHAPES: [(&[usize], usize); 2] = [(&[4, 24], 24), (&[16, 4], 4)];

/// Numbers that look random.
fn values(seed: usize, count: usize, size: f32) -> Vec<f32> {
    (0..count)
        .map(|i| (((i + 1) * (2 * seed + 7919) * 104_729 % 2003) as f32 / 2003.0 - 0.5) * size)
        .collect()
}

fn tensor(name: &str, dtype: DType, shape: &[usize], values: &[f32]) -> TensorRef {
    TensorRef::of_values(name, dtype, shape, values).unwrap()
}

/// `A (4, 24)`, `B (16, 4)`, and the parts that a module may have beside them.
fn module(dtype: DType, size: f32, scaling: Scaling) -> Module {
    let factor = |seed, shape: &[usize]| {
        let count = shape.iter().product();
        tensor("factor", dtype, shape, &values(seed, count, size))
    };
    let (a, b) = (factor(1, SHAPES[0].0), factor(2, SHAPES[1].0));
    let mut module = Module::new("layers.0.q_proj", ModuleKind::Linear, a, b, scaling);
    module.magnitude = Some(factor(3, &[16]));
    module.bias = Some(factor(4, &[16]));
    module.base_weight = Some(factor(5, &[16, 24]));
    module
}

/// The same, stored as `dtype`.
fn stored(module: &Module, dtype: DType) -> Module {
    let cast = |t: &TensorRef| tensor("stored", dtype, &t.info().shape, &t.values().unwrap());
    let optional = |t: &Option<TensorRef>| t.as_ref().map(cast);
    Module {
        a: cast(&module.a),
        b: cast(&module.b),
        magnitude: optional(&module.magnitude),
        bias: optional(&module.bias),
        base_weight: optional(&module.base_weight),
        ..module.clone()
    }
}

fn compared(before: &Module, after: &Module) -> Result<f64> {
    let adapter = |module: &Module| {
        let mut adapter = Adapter::of("peft", Path::new("made"));
        adapter.modules.push(module.clone());
        adapter
    };
    let errors = compare(&adapter(before), &adapter(after), &Silent)?;
    Ok(errors[0].error)
}

/// A part with one value changed, or all.
fn changed(from: &TensorRef, change: impl Fn(usize, f32) -> f32) -> TensorRef {
    let values = from.values().unwrap().iter().enumerate().map(|(i, v)| change(i, *v)).collect::<Vec<_>>();
    tensor("changed", from.info().dtype, &from.info().shape, &values)
}

/// What rounding does is accepted, in every dtype, for factors of any size.
#[test]
fn rounding_is_accepted() {
    for size in [1.0, 1e-3, 3e-6, 1e3] {
        let before = module(DType::F32, size, Scaling::Alpha(8.0));
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let error = compared(&before, &stored(&before, dtype)).unwrap();
            assert_eq!(error == 0.0, dtype == DType::F32, "{size} {dtype}: {error}");
        }
    }
    // The scale multiplied into `B`, as formats with one scale for all modules have it.
    let before = module(DType::BF16, 1.0, Scaling::Alpha(3.0));
    let baked = Module {
        b: before.b.decoded(0.75).unwrap(),
        bias: Some(before.bias.clone().unwrap().decoded(0.75).unwrap()),
        scaling: Scaling::Fixed(1.0),
        ..before.clone()
    };
    assert!(compared(&before, &baked).unwrap() < 1e-6);
}

/// Factors whose product nearly cancels: rounding changes much of what is left, and is still all that happened.
#[test]
fn rounding_of_what_cancels_is_accepted() {
    let mut before = module(DType::F32, 1.0, Scaling::Fixed(1.0));
    // Two pairs of equal columns of B on opposite rows of A, but for a little.
    let (cols, rank) = (SHAPES[0].1, 4);
    let a = values(1, 4 * cols, 1.0);
    let opposite = |i: usize, v: f32| if i / cols % 2 == 1 { -a[i - cols] + v * 1e-4 } else { v };
    before.a = changed(&before.a, opposite);
    let b = values(2, 16 * rank, 1.0);
    before.b = changed(&before.b, |i, v| if i % 2 == 1 { b[i - 1] } else { v });
    let error = compared(&before, &stored(&before, DType::BF16)).unwrap();
    assert!(error > 1.0, "{error}");
}

/// A wrong scale, a wrong value: whatever rounding does not explain is refused, in every part and dtype.
#[test]
fn what_rounding_does_not_explain_is_refused() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let before = module(DType::F32, 1.0, Scaling::Alpha(8.0));
        let good = stored(&before, dtype);
        let part = |part: &Option<TensorRef>| {
            Some(changed(part.as_ref().unwrap(), |i, v| if i == 7 { v + 0.1 } else { v }))
        };
        let faults = [
            ("delta", Module { scaling: Scaling::Alpha(4.0), bias: None, ..good.clone() }),
            ("delta", Module { scaling: Scaling::Alpha(9.0), bias: None, ..good.clone() }),
            ("delta", Module { scaling: Scaling::RankStabilised(8.0), bias: None, ..good.clone() }),
            ("delta", Module { a: changed(&good.a, |_, v| -v), ..good.clone() }),
            (
                "delta",
                Module { b: changed(&good.b, |i, v| if i % 4 == 0 { 0.0 } else { v }), ..good.clone() },
            ),
            ("bias", Module { scaling: Scaling::Alpha(4.0), ..good.clone() }),
            ("bias", Module { bias: part(&good.bias), ..good.clone() }),
            ("magnitude", Module { magnitude: part(&good.magnitude), ..good.clone() }),
            ("weight", Module { base_weight: part(&good.base_weight), ..good.clone() }),
        ];
        for (i, (part, fault)) in faults.into_iter().enumerate() {
            let bare = |m: &Module| {
                if fault.bias.is_none() { Module { bias: None, ..m.clone() } } else { m.clone() }
            };
            let found = compared(&bare(&before), &fault);
            assert_eq!(
                found.as_ref().err().map(Error::kind),
                Some(ErrorKind::Verification),
                "{dtype} {i} {part}"
            );
            let text = found.unwrap_err().to_string();
            assert!(text.contains(&format!("its {part} is off by")), "{dtype} {i} {part}: {text}");
        }
    }
    // The bytes are the same, so that no rounding excuses any other scale.
    let before = module(DType::BF16, 1.0, Scaling::Alpha(8.0));
    assert_eq!(compared(&before, &before).unwrap(), 0.0);
    assert!(compared(&before, &Module { scaling: Scaling::Alpha(8.0001), ..before.clone() }).is_err());
}

fn holding(modules: &[&Module], deltas: &[&TensorRef]) -> Adapter {
    let mut adapter = Adapter::of("peft", Path::new("made"));
    adapter.modules = modules.iter().map(|module| (*module).clone()).collect();
    let delta = |tensor: &&TensorRef| Delta {
        path: "blocks.0.norm".into(),
        of_bias: false,
        tensor: (*tensor).clone(),
        strength: 1.0,
    };
    adapter.deltas = deltas.iter().map(delta).collect();
    adapter
}

/// A module that is lost or added is an error, unless it does nothing.
#[test]
fn modules_are_neither_lost_nor_added() {
    let plain = |path: &str, size: f32| Module {
        path: path.into(),
        bias: None,
        ..module(DType::F32, size, Scaling::Alpha(8.0))
    };
    let one = plain("layers.0.q_proj", 1.0);
    for (size, passes) in [(1.0, false), (1e-3, false), (0.0, true)] {
        let two = plain("layers.1.q_proj", size);
        let (fewer, more) = (holding(&[&one], &[]), holding(&[&one, &two], &[]));
        assert_eq!(compare(&more, &fewer, &Silent).is_ok(), passes, "lost: {size}");
        assert_eq!(compare(&fewer, &more, &Silent).is_ok(), passes, "added: {size}");
    }
}

/// A full delta must be there, up to the rounding of its dtype.
#[test]
fn full_deltas_are_kept() {
    let delta = tensor("delta", DType::F32, &[40], &values(6, 40, 0.1));
    let rounded = tensor("delta", DType::F16, &[40], &delta.values().unwrap());
    let other = changed(&delta, |i, v| if i == 7 { v + 1e-3 } else { v });
    let zero = changed(&delta, |_, _| 0.0);
    for (before, after, passes) in [
        (&[&delta][..], &[&delta][..], true),
        (&[&delta], &[&rounded], true),
        (&[&delta], &[&other], false),
        (&[&delta], &[], false),
        (&[], &[&delta], false),
        (&[&zero], &[], true),
        (&[], &[&zero], true),
    ] {
        let found = compare(&holding(&[], before), &holding(&[], after), &Silent);
        assert_eq!(found.is_ok(), passes, "{} {}: {found:?}", before.len(), after.len());
    }
}
