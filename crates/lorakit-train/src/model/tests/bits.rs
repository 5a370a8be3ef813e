//! What must not change a bit.

use super::*;

const DROPOUT: Dropout = Dropout { rate: 0.2, seed: 7, step: 3, place: 11 };

#[test]
fn threads_change_no_bit() {
    for name in MODELS {
        let golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let one = golden.train(&adapter, PRODUCTS);
        for threads in [2, 5] {
            assert!(
                golden.train(&adapter, Products { threads, ..PRODUCTS }) == one,
                "{name}, {threads} threads"
            );
        }
    }
}

#[test]
fn parts_of_a_step_add_up_to_the_same_bits() {
    for name in MODELS {
        let golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let weight = golden.batch().weight();
        let all = Recompute::LEVELS.into_iter().flat_map(|level| [(level, None), (level, Some(DROPOUT))]);
        for (recompute, dropout) in all {
            let how = How { recompute, dropout, ..How::new(PRODUCTS) };
            let (whole, expected) = golden.train_as(&adapter, &how);
            let (mut gradients, mut loss, mut from) = (adapter.zeros(), 0.0, 0);
            let mut evaluated = 0.0;
            for length in &golden.lengths {
                let part = from..from + length;
                let batch = Batch {
                    tokens: &golden.tokens[part.clone()],
                    lengths: &[*length],
                    weights: &golden.weights[part],
                };
                let dropout =
                    dropout.map(|dropout| Dropout { place: dropout.place + from as u64, ..dropout });
                from += length;
                let how = How { dropout, ..how };
                golden.model.train(&adapter, &batch, 1.0 / weight, &how, &mut gradients, &mut loss);
                golden.model.loss(&adapter, &batch, PRODUCTS, &mut evaluated);
            }
            assert!(gradients == expected, "{name}, {recompute:?}, {dropout:?}: gradients");
            assert_eq!(loss / weight, whole, "{name}, {recompute:?}, {dropout:?}");
            if dropout.is_none() && !recompute.halves() {
                assert_eq!(evaluated / weight, whole, "{name}");
            }
        }
    }
}

/// What is computed again has the bits that it had, with dropout too.
#[test]
fn levels_of_recomputation_change_no_bit() {
    for name in MODELS {
        let golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        for dropout in [None, Some(DROPOUT)] {
            let run =
                |recompute| golden.train_as(&adapter, &How { recompute, dropout, ..How::new(PRODUCTS) });
            let [nothing, halves, mlp, layers] = Recompute::LEVELS.map(run);
            assert!(nothing == layers, "{name}, {dropout:?}: f32");
            assert!(halves == mlp && halves != nothing, "{name}, {dropout:?}: bf16");
            assert!((halves.0 - nothing.0).abs() < 2e-2, "{name}: {} is not {}", halves.0, nothing.0);
        }
    }
}

#[test]
fn states_that_are_given_change_no_bit() {
    for name in MODELS {
        let golden = Golden::open(name);
        let mut adapter = golden.adapter::<f32>(false);
        adapter.layers[0] = Default::default();
        let states = golden.model.states(&golden.tokens, &golden.lengths, 1, PRODUCTS);
        for recompute in Recompute::LEVELS {
            let how = How { recompute, dropout: Some(DROPOUT), ..How::new(PRODUCTS) };
            let expected = golden.train_as(&adapter, &how);
            assert!(golden.train_as(&adapter, &How { states: Some(&states), ..how }) == expected, "{name}");
        }
    }
}

#[test]
fn layers_below_the_first_trained_one_make_no_difference() {
    for name in MODELS {
        let golden = Golden::open(name);
        let mut adapter = golden.adapter::<f32>(true);
        let (whole, all) = golden.train(&adapter, PRODUCTS);
        adapter.layers[0] = Default::default();
        let (loss, last) = golden.train(&adapter, PRODUCTS);
        assert!(
            loss == whole && last.layers[1] == all.layers[1] && last.layers[0].iter().all(Option::is_none)
        );
    }
}

#[test]
fn documents_without_tokens_change_nothing() {
    let golden = Golden::open("qwen2");
    let adapter = golden.adapter::<f32>(false);
    let run = |batch: &Batch| {
        let (mut gradients, mut loss) = (adapter.zeros(), 0.0);
        golden.model.train(&adapter, batch, 1.0, &How::new(PRODUCTS), &mut gradients, &mut loss);
        (gradients, loss)
    };
    let lengths = [&[0][..], &golden.lengths[..1], &[0, 0], &golden.lengths[1..]].concat();
    assert!(run(&Batch { lengths: &lengths, ..golden.batch() }) == run(&golden.batch()));
    assert!(run(&Batch { tokens: &[], lengths: &[], weights: &[] }) == (adapter.zeros(), 0.0));
}
