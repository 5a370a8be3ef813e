use half::{bf16, f16};
use lorakit_tensor::TensorInfo;
use proptest::prelude::*;

use super::*;
use crate::plan::Silent;
use crate::tensor::tests::{given, tensor};

fn f32s(values: &[f32]) -> TensorRef {
    tensor("w", &[values.len()], values)
}

fn found(a: &TensorRef, b: &TensorRef, base: Option<&TensorRef>) -> Measured {
    measure(a, b, base, &Silent).unwrap()
}

/// The sums by their definition.
fn sums(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> [f64; 4] {
    let sum = |f: fn((f64, f64)) -> f64| pairs.clone().map(f).sum();
    [sum(|(x, _)| x * x), sum(|(_, y)| y * y), sum(|(x, y)| x * y), sum(|(x, y)| (y - x) * (y - x))]
}

fn near(found: Sums, expected: [f64; 4]) -> bool {
    let found = [found.a, found.b, found.ab, found.off];
    found.iter().zip(expected).all(|(x, y)| (x - y).abs() <= 1e-12 * (1.0 + y.abs()))
}

proptest! {
    #[test]
    fn as_by_definition(values in prop::collection::vec((-3f32..3.0, -3f32..3.0, -3f32..3.0, any::<bool>()), 1..70)) {
        let a: Vec<f32> = values.iter().map(|v| v.0).collect();
        let b: Vec<f32> = values.iter().map(|v| if v.3 { v.0 } else { v.1 }).collect();
        let w: Vec<f32> = values.iter().map(|v| v.2).collect();
        let m = found(&f32s(&a), &f32s(&b), Some(&f32s(&w)));
        let f = |v: &f32| f64::from(*v);
        prop_assert!(near(m.whole, sums(a.iter().map(f).zip(b.iter().map(f)))));
        let added = |v: &'_ [f32]| v.iter().zip(&w).map(|(v, w)| f(v) - f(w)).collect::<Vec<_>>();
        prop_assert!(near(m.deltas, sums(added(&a).into_iter().zip(added(&b)))));
        prop_assert_eq!(m.differing, a.iter().zip(&b).filter(|(x, y)| x != y).count() as u64);
        let largest = a.iter().zip(&b).map(|(x, y)| (f(y) - f(x)).abs()).fold(0.0, f64::max);
        prop_assert_eq!((m.largest, m.values, m.same), (largest, a.len() as u64, a == b));
    }
}

/// Several pieces and several tasks add up, whatever the number of threads.
#[test]
fn pieces_add_up() {
    let n = CHUNK as usize + PIECE + 3;
    let a: Vec<f32> = (0..n).map(|i| (i as f32).sin()).collect();
    let b: Vec<f32> = a.iter().enumerate().map(|(i, v)| if i % 1000 == 7 { v + 1.0 } else { *v }).collect();
    let (a, b) = (f32s(&a), f32s(&b));
    let m = found(&a, &b, None);
    assert_eq!(m.differing, n.div_ceil(1000) as u64);
    let one = crate::plan::pool(1).unwrap().install(|| found(&a, &b, None));
    assert_eq!(m, one);
}

#[test]
fn one_may_be_the_other_rounded() {
    let values: Vec<f32> = (1..100).map(|i| (i as f32).sqrt()).collect();
    let stored =
        |dtype, bytes| given(TensorInfo { name: "w".into(), dtype, shape: vec![values.len()] }, bytes);
    let wide: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
    let fine: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
    let (full, wide, fine) = (f32s(&values), stored(DType::BF16, wide), stored(DType::F16, fine));
    for (x, y) in [(&full, &wide), (&wide, &full), (&fine, &full), (&full, &fine)] {
        let m = found(x, y, None);
        assert!(m.recast && !m.same && m.differing > 0, "{m:?}");
    }
    // If rounded twice, some values differ.
    let mut values = values.clone();
    values[3] *= 1.01;
    assert!(!found(&f32s(&values), &fine, None).recast);
    let m = found(&full, &f32s(&values), None);
    assert_eq!((m.recast, m.same, m.differing), (false, false, 1));
}

#[test]
fn values_that_are_no_numbers_are_counted_and_left_out() {
    let a = f32s(&[1.0, f32::NAN, f32::INFINITY, 2.0, f32::NAN]);
    let b = f32s(&[1.0, 5.0, f32::INFINITY, 3.0, f32::NAN]);
    let m = found(&a, &b, Some(&f32s(&[0.0, 1.0, 1.0, 1.0, 1.0])));
    assert_eq!((m.differing, m.non_finite), (2, [3, 2, 0]));
    assert_eq!(m.whole, Sums { a: 5.0, b: 10.0, ab: 7.0, off: 1.0 });
    assert_eq!(m.deltas, Sums { a: 2.0, b: 5.0, ab: 3.0, off: 1.0 });
    assert!(found(&a, &a, None).same);
}

#[test]
fn a_run_can_be_stopped() {
    struct Stopped;
    impl Progress for Stopped {
        fn advance(&self, _: u64) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let a = f32s(&[1.0, 2.0]);
    assert_eq!(measure(&a, &a, None, &Stopped).unwrap_err().kind(), crate::ErrorKind::Interrupted);
}
