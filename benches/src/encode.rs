//! Every encoder on one core: millions of values per second, without and with importances.

use std::io::{self, Write};

use lorakit_quant::{ENCODERS, Encoder};

use crate::Encode;
use crate::generate::Random;
use crate::measure::{median, thread_cpu};

/// Length of a row.
const COLUMNS: usize = 4096;
/// Standard deviation of the values.
const SPREAD: f32 = 0.02;

/// Prints a line for each encoder.
pub(crate) fn run(args: &Encode) -> io::Result<()> {
    let runs = usize::from(args.runs);
    let rows = args.values.div_ceil(COLUMNS).max(1);
    let mut random = Random(1);
    let values: Vec<f32> = (0..rows * COLUMNS).map(|_| SPREAD * random.next()).collect();
    let importance: Vec<f32> = (0..COLUMNS).map(|_| random.next().exp()).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{} values; medians of {runs} runs, in million values a second", values.len())?;
    writeln!(out, "{:10}{:>10}{:>10}", "", "plain", "weighted")?;
    for encoder in ENCODERS.iter().filter(|encoder| args.dtype.is_none_or(|dtype| dtype == encoder.dtype())) {
        let plain = speed(*encoder, &values, runs, |values, bytes| encoder.encode(values, bytes));
        write!(out, "{:10}{plain:>10.1}", encoder.dtype().name())?;
        if encoder.uses_importance() {
            let weighted = speed(*encoder, &values, runs, |values, bytes| {
                encoder.encode_weighted(values, &importance, bytes);
            });
            write!(out, "{weighted:>10.1}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Million values encoded per second of CPU time; the first run, which meets cold memory, does not count.
fn speed(encoder: &dyn Encoder, values: &[f32], runs: usize, encode: impl Fn(&[f32], &mut [u8])) -> f64 {
    let size = encoder.dtype().byte_len(values.len() as u64).unwrap_or(0);
    let mut bytes = vec![0; size as usize];
    encode(values, &mut bytes);
    let mut seconds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let before = thread_cpu();
        encode(values, &mut bytes);
        seconds.push(thread_cpu() - before);
    }
    values.len() as f64 / 1e6 / median(seconds.into_iter())
}
