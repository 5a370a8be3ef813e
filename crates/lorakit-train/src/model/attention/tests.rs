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
        let (found, _) = forward(&heads, &documents, (&q, &k, &v), 2);
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
        let run = |q: &[f64], k: &[f64], v: &[f64]| dot(&forward(&heads, &documents, (q, k, v), 1).0, &d_o);
        let (o, lse) = forward(&heads, &documents, (&q, &k, &v), 1);
        let kept = Kept { q: &q, k: &k, v: &v, o: &o, lse: &lse, d_o: &d_o };
        let (dq, dk, dv) = backward(&heads, &documents, &kept, 2);
        agrees(&q, &dq, |q| run(q, &k, &v));
        agrees(&k, &dk, |k| run(&q, k, &v));
        agrees(&v, &dv, |v| run(&q, &k, v));
    }
}

#[test]
fn other_documents_and_threads_change_no_bit() {
    let (q, k, v) = inputs(90);
    let narrow = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let (q, k, v) = (narrow(&q), narrow(&k), narrow(&v));
    let (packed, lse) = forward(&HEADS, &[0..40, 40..90], (&q, &k, &v), 3);
    let (alone, alone_lse) = forward(&HEADS, &[0..50], (&q[40 * 24..], &k[40 * 12..], &v[40 * 12..]), 1);
    assert_eq!(packed[40 * 24..], alone);
    assert_eq!(lse[40 * 4..], alone_lse);
}
