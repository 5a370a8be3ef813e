use lorakit_tensor::{DType, TensorInfo};

use super::*;
use crate::plan::{Compute, LowRank, OutputTensor, Panel, Recipe};
use crate::tensor::tests::{given, tensor};
use crate::tensor::{Factor, RowOrder};

/// Numbers without structure.
fn numbers(count: usize) -> Vec<f32> {
    let hash = |i: usize| (i as u32 + 1).wrapping_mul(2_654_435_761) >> 8;
    (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
}

/// What the term adds, in f64.
fn dense(term: &LoadedTerm, cols: usize) -> Vec<f64> {
    let a = |k: usize, col: usize| {
        f64::from(term.a[(col / kernel::LANES * term.rank + k) * kernel::LANES + col % kernel::LANES])
    };
    let row =
        |b: &[f32], col: usize| b.iter().enumerate().map(|(k, b)| f64::from(*b) * a(k, col)).sum::<f64>();
    let rows = term.b.chunks_exact(term.rank);
    rows.flat_map(|b| (0..cols).map(move |col| f64::from(term.scale) * row(b, col)).collect::<Vec<_>>())
        .collect()
}

/// `W` projected on its first `rank` columns, by Gram and Schmidt's method in f64, twice.
fn projected(w: &[f32], rows: usize, cols: usize, rank: usize) -> Vec<f64> {
    let column = |j: usize| (0..rows).map(|i| f64::from(w[i * cols + j])).collect::<Vec<f64>>();
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for j in 0..rank {
        let mut v = column(j);
        for _ in 0..2 {
            for q in &basis {
                let along = dot(q, &v);
                v.iter_mut().zip(q).for_each(|(v, q)| *v -= along * q);
            }
        }
        let norm = dot(&v, &v).sqrt();
        basis.push(v.into_iter().map(|v| v / norm).collect());
    }
    let mut out = vec![0.0; rows * cols];
    for j in 0..cols {
        let v = column(j);
        for q in &basis {
            let along = dot(q, &v);
            (0..rows).for_each(|i| out[i * cols + j] += along * q[i]);
        }
    }
    out
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-6, "{at}: {found} {expected}");
    }
}

/// Square, wide and tall, and of every rank.
#[test]
fn the_projection_on_the_first_columns_is_taken_out() {
    for (rows, cols) in [(6, 6), (4, 9), (9, 4), (1, 5), (5, 1), (40, 33)] {
        let values = numbers(rows * cols);
        let base = tensor("w", &[rows, cols], &values);
        for rank in 1..=rows.min(cols) {
            let term = Initial { rows: 0..rows, rank, scale: -1.0 }.load(&base, cols).unwrap();
            close(&dense(&term, cols), &projected(&values, rows, cols, rank));
        }
        // As many directions as there are take out everything.
        let all = Initial { rows: 0..rows, rank: rows.max(cols) + 1, scale: 2.0 }.load(&base, cols).unwrap();
        let twice: Vec<f64> = values.iter().map(|v| -2.0 * f64::from(*v)).collect();
        close(&dense(&all, cols), &twice);
    }
}

/// A weight among others in one tensor is decomposed by itself.
#[test]
fn rows_of_one_weight() {
    let values = numbers(10 * 6);
    let term = Initial { rows: 3..8, rank: 2, scale: -1.0 }.load(&tensor("w", &[10, 6], &values), 6).unwrap();
    assert_eq!(term.rows, 3..8);
    close(&dense(&term, 6), &projected(&values[18..48], 5, 6, 2));
}

/// More values than are read at a time.
#[test]
fn panels_add_up() {
    let (rows, cols) = (300, 1000);
    assert!(rows * cols > PANEL);
    let values = numbers(rows * cols);
    let term =
        Initial { rows: 0..rows, rank: 2, scale: -1.0 }.load(&tensor("w", &[rows, cols], &values), cols);
    close(&dense(&term.unwrap(), cols), &projected(&values, rows, cols, 2));
}

/// Any vector may follow columns that depend on each other, unless all directions are taken out.
#[test]
fn dependent_columns_are_refused() {
    let mut values = numbers(5 * 6);
    // The third column is the sum of the first two.
    values.chunks_exact_mut(6).for_each(|row| row[2] = row[0] + row[1]);
    let base = tensor("w", &[5, 6], &values);
    let load = |rank| Initial { rows: 0..5, rank, scale: -1.0 }.load(&base, 6);
    close(&dense(&load(2).unwrap(), 6), &projected(&values, 5, 6, 2));
    let message = load(3).unwrap_err().to_string();
    assert!(message.contains("`w`") && message.contains("a column 3 that all but depends"), "{message}");
    assert!(load(4).is_err());
    close(&dense(&load(5).unwrap(), 6), &values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    // So is a column of zeros.
    values.chunks_exact_mut(6).for_each(|row| row[0] = 0.0);
    let error =
        Initial { rows: 0..5, rank: 1, scale: 1.0 }.load(&tensor("w", &[5, 6], &values), 6).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unmergeable);
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    let base = tensor("w", &[2, 2], &[1.0, 2.0, f32::NAN, 4.0]);
    let error = Initial { rows: 0..2, rank: 1, scale: 1.0 }.load(&base, 2).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::NonFinite);
}

/// What a recipe makes of a tensor, and what is left of the base before anything is added.
fn made(tensor: &OutputTensor) -> (Vec<f32>, Vec<f32>) {
    let Recipe::Compute(compute) = &tensor.recipe else { panic!("{tensor:?}") };
    let (mut sums, mut left) = (Vec::new(), Vec::new());
    let each = |panel: Panel<'_>| {
        let difference = panel.sum.iter().zip(panel.before).map(|(s, w)| s - w);
        assert!(
            panel.delta.iter().zip(difference).all(|(d, wanted)| *d == wanted),
            "the delta is what changed"
        );
        sums.extend_from_slice(panel.sum);
        left.extend_from_slice(panel.left);
        Ok(())
    };
    compute.for_each_panel("w", None, each).unwrap();
    (sums, left)
}

/// A weight without its projection on two columns, with a term added.
fn recipe(seed: usize, rows: usize, cols: usize) -> OutputTensor {
    let values = numbers(rows * cols + seed);
    let base = tensor("w", &[rows, cols], &values[seed..]);
    let b = tensor("b", &[rows, 1], &vec![0.5; rows]);
    let a = tensor("a", &[1, cols], &vec![0.25; cols]);
    let term =
        LowRank { rows: 0..rows, b: Factor::matrix(b, rows, 1), a: Factor::matrix(a, 1, cols), scale: 1.0 };
    let initial = vec![Initial { rows: 0..rows, rank: 2, scale: 1.5 }];
    let compute = Compute { initial, terms: vec![term], ..Compute::cast(base.clone()) };
    OutputTensor { info: base.info().clone(), recipe: Recipe::Compute(Box::new(compute)) }
}

#[test]
fn what_is_left_is_added_to() {
    let (sums, left) = made(&recipe(0, 5, 6));
    let values = numbers(30);
    let taken = projected(&values, 5, 6, 2);
    let expected: Vec<f64> = values.iter().zip(taken).map(|(w, p)| f64::from(*w) - 1.5 * p).collect();
    close(&left.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), &expected);
    assert!(sums.iter().zip(&left).all(|(sum, left)| (sum - left - 0.125).abs() < 1e-6));
}

/// Weights that are stacked stay weights of their own, and rows may change places within each.
#[test]
fn stacks_and_other_orders_of_rows() {
    let [one, two] = [0, 7].map(|seed| recipe(seed, 4, 6));
    let alone = [made(&one).0, made(&two).0].concat();
    let stacked = OutputTensor::stack("w", vec![one.clone(), two]).unwrap();
    assert_eq!(made(&stacked).0, alone);
    let order = RowOrder::of_rows([2, 0, 3, 1]);
    let moved = made(&one.clone().gather_rows(4, &order, &[4]).unwrap()).0;
    let rows: Vec<&[f32]> = alone[..24].chunks_exact(6).collect();
    let wanted = [rows[2], rows[0], rows[3], rows[1]].concat();
    assert!(moved.iter().zip(&wanted).all(|(x, y)| (x - y).abs() < 1e-6), "{moved:?} {wanted:?}");
    // Half of a weight does not tell what its columns span.
    assert!(one.gather_rows(4, &RowOrder::of_rows([0, 1]), &[2]).is_err());
}

/// What is left is rounded as the base is stored, before anything is added.
#[test]
fn the_rest_has_the_dtype_of_the_base() {
    let OutputTensor { info, recipe: Recipe::Compute(compute) } = recipe(3, 5, 6) else { panic!() };
    let narrow = OutputTensor::cast(compute.base.clone(), DType::BF16);
    let Recipe::Compute(cast) = &narrow.recipe else { panic!("{narrow:?}") };
    let mut rounded = Vec::new();
    let each = |panel: Panel<'_>| {
        rounded.extend(panel.sum.iter().map(|v| half::bf16::from_f32(*v)));
        Ok(())
    };
    cast.for_each_panel("w", None, each).unwrap();
    let bytes: Vec<u8> = rounded.iter().flat_map(|v| v.to_le_bytes()).collect();
    let base = given(TensorInfo { dtype: DType::BF16, ..info.clone() }, bytes);
    let compute = Compute { base, ..*compute };
    let left = made(&OutputTensor { info, recipe: Recipe::Compute(Box::new(compute)) }).1;
    assert!(left.iter().all(|v| half::bf16::from_f32(*v).to_f32() == *v), "{left:?}");
}

#[test]
fn memory_is_counted() {
    let whole = Initial { rows: 0..1000, rank: 16, scale: 1.0 };
    let (columns, product) = (8 * 1000 * 16, 8 * 16 * 3000);
    assert!(whole.loaded_bytes(3000) > 3 * columns + product);
}
