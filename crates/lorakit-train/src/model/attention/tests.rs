use super::*;
use crate::model::real::dot;
use crate::model::testing::{agrees, noise};

const HEADS: Heads = Heads { heads: 4, kv_heads: 2, dim: 6, window: None, scale: 0.7 };

/// Attention as its definition says.
fn plain(heads: &Heads, documents: &[Range<usize>], (q, k, v): (&[f64], &[f64], &[f64])) -> Vec<f64> {
    let mut o = vec![0.0; q.len()];
    for document in documents {
        for (at, head) in document.clone().flat_map(|at| (0..heads.heads).map(move |head| (at, head))) {
            let kv = head / (heads.heads / heads.kv_heads);
            let keys =
                document.clone().filter(|key| *key <= at && at - key < heads.window.unwrap_or(usize::MAX));
            let entry = |x: &[f64], token, head, of, d| x[(token * of + head) * heads.dim + d];
            let score = |key: usize| -> f64 {
                let term = |d| entry(q, at, head, heads.heads, d) * entry(k, key, kv, heads.kv_heads, d);
                (0..heads.dim).map(term).sum::<f64>() * heads.scale
            };
            let weights: Vec<_> = keys.map(|key| (key, score(key).exp())).collect();
            let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
            for d in 0..heads.dim {
                let term = |(key, weight): &(usize, f64)| weight * entry(v, *key, kv, heads.kv_heads, d);
                o[(at * heads.heads + head) * heads.dim + d] = weights.iter().map(term).sum::<f64>() / total;
            }
        }
    }
    o
}

fn inputs(tokens: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    (noise(tokens * 24, 1), noise(tokens * 12, 2), noise(tokens * 12, 3))
}

#[test]
fn tiles_make_no_difference() {
    let documents = [0..1, 1..34, 34..134];
    let (q, k, v) = inputs(134);
    for window in [None, Some(1), Some(5), Some(32), Some(70), Some(1000)] {
        let heads = Heads { window, ..HEADS };
        let (found, _) = forward(&heads, &Places::all(&documents), (&q, &k, &v), 2);
        for (found, expected) in found.iter().zip(plain(&heads, &documents, (&q, &k, &v))) {
            assert!((found - expected).abs() < 1e-13, "{window:?}: {found} is not {expected}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let documents = [0..2, 2..41];
    let (q, k, v) = inputs(41);
    let d_o = noise(q.len(), 4);
    for window in [None, Some(6)] {
        let heads = Heads { window, ..HEADS };
        let run = |q: &[f64], k: &[f64], v: &[f64]| {
            dot(&forward(&heads, &Places::all(&documents), (q, k, v), 1).0, &d_o)
        };
        let (o, lse) = forward(&heads, &Places::all(&documents), (&q, &k, &v), 1);
        let kept = Kept { q: &q, k: &k, v: &v, o: &o, lse: &lse, d_o: &d_o };
        let (dq, dk, dv) = backward(&heads, &Places::all(&documents), &kept, 2);
        agrees(&q, &dq, |q| run(q, &k, &v));
        agrees(&k, &dk, |k| run(&q, k, &v));
        agrees(&v, &dv, |v| run(&q, &k, v));
    }
}

fn narrow(x: Vec<f64>) -> Vec<f32> {
    x.into_iter().map(|x| x as f32).collect()
}

/// The output, the log-sum-exps, and the gradients of queries, keys and values.
fn both(heads: &Heads, places: &Places, tokens: Range<usize>, threads: usize) -> [Vec<f32>; 5] {
    let (q, k, v) = inputs(140);
    let d_o = narrow(noise(q.len(), 4));
    let part = |x: Vec<f64>| narrow(x[tokens.start * x.len() / 140..tokens.end * x.len() / 140].to_vec());
    let (q, k, v, d_o) = (part(q), part(k), part(v), &d_o[tokens.start * 24..tokens.end * 24]);
    let rows = |x: &[f32]| -> Vec<f32> {
        let all = places.documents.iter().zip(&places.queries);
        let rows = all.flat_map(|(document, queries)| {
            places.positions[queries.clone()].iter().map(|position| document.start + position)
        });
        rows.flat_map(|row| &x[row * 24..][..24]).copied().collect()
    };
    let (q, d_o) = (rows(&q), rows(d_o));
    let (o, lse) = forward(heads, places, (&q, &k, &v), threads);
    let kept = Kept { q: &q, k: &k, v: &v, o: &o, lse: &lse, d_o: &d_o };
    let (dq, dk, dv) = backward(heads, places, &kept, threads);
    [o, lse, dq, dk, dv]
}

fn bits(all: &[Vec<f32>; 5]) -> Vec<Vec<u32>> {
    all.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

#[test]
fn threads_change_no_bit() {
    let places = Places::all(&[0..1, 1..34, 34..134, 134..140]);
    let expected = bits(&both(&HEADS, &places, 0..140, 1));
    for threads in [2, 5] {
        assert!(bits(&both(&HEADS, &places, 0..140, threads)) == expected, "{threads} threads");
    }
}

#[test]
fn other_documents_change_no_bit() {
    let [o, _, dq, dk, dv] = both(&HEADS, &Places::all(&[0..40, 40..140]), 0..140, 1);
    let alone = both(&HEADS, &Places::all(&[0..100]), 40..140, 1);
    assert_eq!((&o[40 * 24..], &dq[40 * 24..]), (&*alone[0], &*alone[2]));
    assert_eq!((&dk[40 * 12..], &dv[40 * 12..]), (&*alone[3], &*alone[4]));
}

/// Gradients of keys and values of queries that are left out are zero, as they are here.
#[test]
fn queries_that_are_left_out_change_no_bit() {
    let documents = [0..3, 3..50, 50..140];
    let rows: Vec<usize> = (0..140).filter(|row| *row > 2 && row % 7 > 3 && *row != 139).collect();
    for window in [None, Some(20)] {
        let heads = Heads { window, ..HEADS };
        let (q, k, v) = inputs(140);
        let (q, k, v) = (narrow(q), narrow(k), narrow(v));
        let (o, lse) = forward(&heads, &Places::all(&documents), (&q, &k, &v), 1);
        let mut d_o = narrow(noise(q.len(), 4));
        for row in (0..140).filter(|row| !rows.contains(row)) {
            d_o[row * 24..][..24].fill(0.0);
        }
        let kept = Kept { q: &q, k: &k, v: &v, o: &o, lse: &lse, d_o: &d_o };
        let (dq, dk, dv) = backward(&heads, &Places::all(&documents), &kept, 1);
        let some = both(&heads, &Places::some(&documents, &rows), 0..140, 2);
        let picked =
            |x: &[f32]| -> Vec<f32> { rows.iter().flat_map(|row| &x[row * 24..][..24]).copied().collect() };
        assert_eq!((picked(&o), picked(&dq)), (some[0].clone(), some[2].clone()));
        assert_eq!((dk, dv), (some[3].clone(), some[4].clone()));
    }
}
