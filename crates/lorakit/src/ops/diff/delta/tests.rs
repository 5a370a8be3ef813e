use half::bf16;
use lorakit_tensor::TensorInfo;
use ndarray::Array2;
use proptest::prelude::*;

use super::*;
use crate::TensorRef;
use crate::adapter::Scaling;
use crate::tensor::tests::{given, tensor};

fn module(kind: ModuleKind, scale: f64, b: &Array2<f32>, a: &Array2<f32>) -> Module {
    let stored = |name, m: &Array2<f32>| tensor(name, m.shape(), &m.iter().copied().collect::<Vec<_>>());
    Module::new("m", kind, stored("lora_A", a), stored("lora_B", b), Scaling::Fixed(scale))
}

fn dense(scale: f64, b: &Array2<f32>, a: &Array2<f32>) -> Array2<f64> {
    scale * b.mapv(f64::from).dot(&a.mapv(f64::from))
}

fn matrix(rows: usize, cols: usize) -> impl Strategy<Value = Array2<f32>> {
    prop::collection::vec(-2.0f32..2.0, rows * cols)
        .prop_map(move |values| Array2::from_shape_vec((rows, cols), values).unwrap())
}

fn near(x: f64, y: f64) -> bool {
    (x - y).abs() <= 1e-9 * (1.0 + y.abs())
}

proptest! {
    /// Norms, cosine and distance from the factors are those of the dense deltas, of any ranks.
    #[test]
    fn as_the_dense_deltas(
        (b, a) in (matrix(7, 3), matrix(3, 5)), (d, c) in (matrix(7, 2), matrix(2, 5)), s in -2.0..2.0, t in 0.1..2.0,
    ) {
        let (x, y) = (dense(s, &b, &a), dense(t, &d, &c));
        let dot = |x: &Array2<f64>, y: &Array2<f64>| (x * y).sum();
        let (xx, yy, off) = (dot(&x, &x), dot(&y, &y), dot(&(&y - &x), &(&y - &x)));
        prop_assume!(xx > 1e-6 && yy > 1e-6);
        let (one, two) = (module(ModuleKind::Linear, s, &b, &a), module(ModuleKind::Linear, t, &d, &c));
        let found = compare(Some(&one), Some(&two)).unwrap();
        let sums = found.sums.unwrap();
        prop_assert!(near(sums.norms().0, xx.sqrt()) && near(sums.norms().1, yy.sqrt()));
        prop_assert!(near(sums.cosine().unwrap(), dot(&x, &y) / (xx * yy).sqrt()));
        prop_assert!(near(sums.distance().unwrap(), (off / xx).sqrt()));
        // An embedding's delta is the transpose, so its factors change places.
        let turned = module(ModuleKind::Embedding, t, &c.t().to_owned(), &d.t().to_owned());
        let turned = compare(Some(&one), Some(&turned)).unwrap().sums.unwrap();
        prop_assert!(near(turned.ab, sums.ab) && near(turned.off, sums.off));
    }

    /// A scale is found, wherever it was put and whatever the factors are multiplied by.
    #[test]
    fn a_scale_is_found((b, a) in (matrix(7, 3), matrix(3, 5)), f in prop_oneof![-3.0..-0.5, 1.1..3.0]) {
        let (s, t) = (0.5, 0.5 * f / 4.0);
        prop_assume!(dense(s, &b, &a).iter().any(|x| x.abs() > 1e-2));
        let one = module(ModuleKind::Linear, s, &b, &a);
        let two = module(ModuleKind::Linear, t, &b.mapv(|x| 2.0 * x), &a.mapv(|x| 2.0 * x));
        let State::Rescaled(found) = compare(Some(&one), Some(&two)).unwrap().state else {
            return Err(TestCaseError::fail("no scale"));
        };
        prop_assert!(near(found, f), "{found} {f}");
        let half = module(ModuleKind::Linear, s / 4.0, &b.mapv(|x| 2.0 * x), &a.mapv(|x| 2.0 * x));
        prop_assert_eq!(compare(Some(&one), Some(&half)).unwrap().state, State::Equal);
        prop_assert_eq!(compare(Some(&one), Some(&one)).unwrap().state, State::Same);
    }
}

fn spread(rows: usize, cols: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, cols), |(i, j)| ((7 * i + 3 * j + 1) as f32).sin())
}

#[test]
fn rounding_to_16_bits_is_no_other_delta() {
    let (b, a) = (spread(20, 4), spread(4, 30));
    let full = module(ModuleKind::Linear, 1.0, &b, &a);
    let half = |tensor: &TensorRef| {
        let values = tensor.values().unwrap();
        let bytes = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        given(TensorInfo { dtype: DType::BF16, ..tensor.info().clone() }, bytes)
    };
    let round = |m: &Module| Module { a: half(&m.a), b: half(&m.b), ..m.clone() };
    let rounded = round(&full);
    let found = compare(Some(&full), Some(&rounded)).unwrap();
    assert_eq!(found.state, State::Recast);
    let distance = found.sums.unwrap().distance().unwrap();
    assert!(distance > 1e-4 && distance < 8e-3, "{distance}");
    // As near, but both of one dtype: somebody changed it.
    let nudged = module(ModuleKind::Linear, 1.0, &b, &a.mapv(|x| if x > 0.99 { x * 1.01 } else { x }));
    assert_eq!(compare(Some(&rounded), Some(&round(&nudged))).unwrap().state, State::Different);
}

#[test]
fn what_is_missing_or_of_another_shape_is_zero() {
    let one = module(ModuleKind::Linear, 1.0, &spread(6, 2), &spread(2, 5));
    let wide = module(ModuleKind::Linear, 1.0, &spread(6, 2), &spread(2, 8));
    let zero = module(ModuleKind::Linear, 1.0, &Array2::zeros((6, 2)), &spread(2, 5));
    let state = |a: Option<&Module>, b: Option<&Module>| compare(a, b).unwrap().state;
    assert_eq!(state(Some(&one), None), State::OnlyA);
    assert_eq!(state(None, Some(&one)), State::OnlyB);
    assert_eq!((state(Some(&zero), None), state(None, Some(&zero))), (State::Equal, State::Equal));
    assert_eq!(state(Some(&zero), Some(&one)), State::Different);
    let found = compare(Some(&one), Some(&wide)).unwrap();
    assert_eq!((found.state, found.shared()), (State::Reshaped, false));
    let sums = found.sums.unwrap();
    assert!(sums.off == sums.a + sums.b && sums.ab == 0.0 && sums.a > 0.0);
}

#[test]
fn values_that_are_no_numbers_have_no_delta() {
    let one = module(ModuleKind::Linear, 1.0, &spread(6, 2), &spread(2, 5));
    let mut b = spread(6, 2);
    b[(1, 1)] = f32::NAN;
    let bad = module(ModuleKind::Linear, 1.0, &b, &spread(2, 5));
    let found = compare(Some(&one), Some(&bad)).unwrap();
    assert_eq!((found.state, found.sums), (State::NonFinite, None));
    assert_eq!(compare(Some(&bad), Some(&bad)).unwrap().state, State::Same);
}
