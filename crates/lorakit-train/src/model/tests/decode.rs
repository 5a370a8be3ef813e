//! Text that goes on, token by token.

use super::*;

/// The largest difference of two lists of logits, relative to the largest of them.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let most = |of: &mut dyn Iterator<Item = f32>| of.fold(0.0, f32::max);
    let largest = most(&mut expected.iter().map(|value| value.abs()));
    most(&mut found.iter().zip(expected).map(|(found, expected)| (found - expected).abs())) / largest
}

/// A golden with windows that are longer or shorter than its texts, if it has any.
fn windows(golden: &mut Golden) -> Vec<Option<usize>> {
    let has = golden.model.shape.layers.iter().any(|layer| layer.window.is_some());
    if has { vec![Some(1), Some(3), Some(1000)] } else { vec![None] }
}

fn set_window(model: &mut Model, window: Option<usize>) {
    for layer in model.shape.layers.iter_mut().filter(|layer| layer.window.is_some()) {
        layer.window = window;
    }
}

#[test]
fn tokens_one_by_one_have_the_logits_of_the_whole() {
    for name in MODELS {
        let mut golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let tokens = golden.tokens[..golden.lengths[0]].to_vec();
        for window in windows(&mut golden) {
            set_window(&mut golden.model, window);
            let whole = golden.model.logits(&adapter, &tokens, 0..tokens.len(), PRODUCTS);
            let expected: Vec<&[f32]> = whole.chunks_exact(golden.model.shape.vocabulary).collect();
            let decoder = Decoder::new(&golden.model, &adapter, PRODUCTS);
            let mut cache = decoder.cache();
            let mut worst = distance(&decoder.extend(&mut cache, &tokens[..1]), expected[0]);
            for (at, token) in tokens.iter().enumerate().skip(1) {
                let logits = decoder.step(&mut [&mut cache], &[*token]);
                worst = worst.max(distance(&logits, expected[at]));
            }
            assert_eq!(cache.len(), tokens.len());
            println!("{name}, window {window:?}: off by {worst:.1e}");
            assert!(worst < 1e-4, "{name}, window {window:?}: off by {worst:e}");
        }
    }
}

/// Prompts are read as training reads them, in as many parts as one likes.
#[test]
fn prompts_have_the_bits_of_the_whole() {
    for name in MODELS {
        let mut golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let tokens = golden.tokens[..golden.lengths[0]].to_vec();
        for (window, compute) in windows(&mut golden)
            .into_iter()
            .flat_map(|window| [(window, Compute::F32), (window, Compute::Bf16)])
        {
            set_window(&mut golden.model, window);
            for threads in [1, 3] {
                let products = Products { compute, threads };
                let last = tokens.len() - 1;
                let expected = golden.model.logits(&adapter, &tokens, last..last + 1, products);
                let decoder = Decoder::new(&golden.model, &adapter, products);
                for parts in [vec![0..last + 1], vec![0..1, 1..3, 3..last + 1]] {
                    let mut cache = decoder.cache();
                    let parts = parts.into_iter().map(|part| decoder.extend(&mut cache, &tokens[part]));
                    assert!(parts.last().unwrap() == expected, "{name}, {window:?}, {compute:?}, {threads}");
                }
            }
        }
    }
}

/// What no later token sees is forgotten, and prompts of more tokens than are read at a time are no exception.
#[test]
fn long_texts_keep_what_is_seen() {
    let mut golden = Golden::open("gemma3");
    set_window(&mut golden.model, Some(40));
    let adapter = golden.adapter::<f32>(false);
    let vocabulary = golden.model.shape.vocabulary;
    let tokens: Vec<u32> = (0..1500).map(|at| (at * 7919 % 101 % vocabulary) as u32).collect();
    let whole = golden.model.logits(&adapter, &tokens, 1000..1500, PRODUCTS);
    let decoder = Decoder::new(&golden.model, &adapter, PRODUCTS);
    let mut cache = decoder.cache();
    assert!(decoder.extend(&mut cache, &tokens[..1001]) == whole[..vocabulary]);
    for (token, expected) in tokens[1001..].iter().zip(whole.chunks_exact(vocabulary).skip(1)) {
        let off = distance(&decoder.step(&mut [&mut cache], &[*token]), expected);
        assert!(off < 1e-4, "off by {off:e}");
    }
    let all = 4 * 2 * 1500 * golden.model.shape.kv_heads * golden.model.shape.head_dim;
    let local = golden.model.shape.layers.iter().filter(|layer| layer.window.is_some()).count();
    let layers = golden.model.shape.layers.len();
    assert!(local > 0 && cache.bytes() < all * layers - all * local / 2, "{} bytes", cache.bytes());
}

#[test]
fn greedy_tokens_are_those_of_whole_passes() {
    for name in MODELS {
        let golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let prompt = &golden.tokens[..3];
        let expected = golden.model.greedy(&adapter, prompt, &[], 12, PRODUCTS);
        let decoder = Decoder::new(&golden.model, &adapter, PRODUCTS);
        let mut cache = decoder.cache();
        let mut logits = decoder.extend(&mut cache, prompt);
        let mut found = Vec::new();
        for _ in 0..12 {
            let best =
                (1..logits.len()).fold(0, |best, at| if logits[at] > logits[best] { at } else { best });
            found.push(best as u32);
            logits = decoder.step(&mut [&mut cache], &[best as u32]);
        }
        assert_eq!(found, expected, "{name}");
    }
}

/// Neither other texts nor threads change a bit.
#[test]
fn texts_go_on_together_as_they_do_alone() {
    for name in MODELS {
        let golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let prompts = [&golden.tokens[..3], &golden.tokens[1..2], &golden.tokens[..7]];
        let alone = Decoder::new(&golden.model, &adapter, PRODUCTS);
        let together = Decoder::new(&golden.model, &adapter, Products { threads: 3, ..PRODUCTS });
        let begin = |decoder: &Decoder, prompt: &[u32]| {
            let mut cache = decoder.cache();
            decoder.extend(&mut cache, prompt);
            cache
        };
        let mut caches = prompts.map(|prompt| begin(&together, prompt));
        let mut others = prompts.map(|prompt| begin(&alone, prompt));
        for tokens in [[4, 5, 6], [1, 1, 2]] {
            let logits = together.step(&mut caches.iter_mut().collect::<Vec<_>>(), &tokens);
            let rows = logits.chunks_exact(golden.model.shape.vocabulary);
            for ((cache, token), logits) in others.iter_mut().zip(tokens).zip(rows) {
                assert!(alone.step(&mut [cache], &[token]) == logits, "{name}");
            }
        }
    }
}
