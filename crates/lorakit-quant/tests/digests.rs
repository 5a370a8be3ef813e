//! Every encoder equals the reference on rows of many kinds, compared by digest:
//! `fixtures/golden/ggml/digests.txt`.

use lorakit_quant::ENCODERS;
use sha2::{Digest, Sha256};

/// Made by `fixtures/generate/ggml_digests.py`, whose rows are repeated here.
const DIGESTS: &str = include_str!("../../../fixtures/golden/ggml/digests.txt");

const KINDS: usize = 12;
const ROWS: usize = 192;
const COLUMNS: usize = 768;

/// The four numbers that a value is made of.
type Numbers = [u32; 4];

fn xorshift(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// About normal, within 2 of zero.
fn bell(numbers: &Numbers) -> f32 {
    (numbers.iter().map(|n| (n >> 10) as i32).sum::<i32>() - (1 << 23)) as f32 * power(-22)
}

fn value(kind: usize, row: &[Numbers], column: usize) -> f32 {
    let (bell, first) = (bell(&row[column]), row[column][0]);
    match kind {
        0 => bell * power(-6),
        1 => ((first >> 8) as i32 - (1 << 23)) as f32 * power(-23),
        2 => bell.abs(),
        3 => -bell.abs(),
        4 => self::bell(&row[0]),
        5 => 0.0,
        6 => bell * power(-66),
        7 if first % 20 == 0 => bell,
        7 => 0.0,
        8 if column == row[0][0] as usize % COLUMNS => 4096.0,
        8 => bell,
        9 => bell * power((row[column / 16 * 16][0] % 32) as i32 - 24),
        10 => ((first % 7) as i32 - 3) as f32 * power(-2),
        _ => {
            let cube = bell * bell * bell;
            -(cube * cube * cube).abs()
        }
    }
}

#[test]
fn encoders_equal_the_reference() {
    let mut state = 1;
    let mut numbers = || [(); 4].map(|()| xorshift(&mut state));
    let mut values = Vec::new();
    for r in 0..ROWS {
        let row: Vec<Numbers> = (0..COLUMNS).map(|_| numbers()).collect();
        values.extend((0..COLUMNS).map(|column| value(r % KINDS, &row, column)));
    }
    let last: Vec<u32> = (0..COLUMNS).map(|_| numbers()[0]).collect();
    let weighted: Vec<f32> = last.iter().map(|n| ((n >> 8) + 1) as f32 * power(-20)).collect();
    let sparse: Vec<f32> = last.iter().map(|n| f32::from(u8::from(n % 32 == 0))).collect();

    for encoder in ENCODERS.iter().filter(|encoder| encoder.dtype().ggml_id().is_some()) {
        let dtype = encoder.dtype();
        let block = dtype.block();
        if block.elements == 1 {
            continue;
        }
        for (name, importance) in [("plain", None), ("weighted", Some(&weighted)), ("sparse", Some(&sparse))]
        {
            let mut bytes = vec![0xaa; values.len() / block.elements * block.bytes];
            match importance {
                Some(importance) => encoder.encode_weighted(&values, importance, &mut bytes),
                None => encoder.encode(&values, &mut bytes),
            }
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let line = format!("{dtype} {name} {digest}");
            assert!(DIGESTS.lines().any(|expected| expected == line), "{line}");
        }
    }
}
