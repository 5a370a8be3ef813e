//! What a run will take.

use std::fmt::Write as _;
use std::time::Duration;

use lorakit_train::kernel::Compute;
use lorakit_train::model::Recompute;
use lorakit_train::run::Estimate;
use serde_json::{Value, json};

use crate::units;

/// A line for each kind of number.
pub(super) fn text(estimate: &Estimate) -> String {
    let mut text = String::new();
    let mut line = |label: &str, about: String| {
        let _ = writeln!(text, "{label:<12}{about}");
    };
    let share = 100.0 * estimate.supervised as f64 / estimate.tokens.max(1) as f64;
    let held = if estimate.held > 0 { format!("; {} for validation", estimate.held) } else { String::new() };
    line(
        "rows",
        format!(
            "{}, {} tokens, {share:.0} % of them trained{held}",
            estimate.rows,
            units::count(estimate.tokens)
        ),
    );
    line("factors", format!("{} values", units::count(estimate.trained)));
    let from = estimate.resumed.map_or(String::new(), |step| format!(", going on after step {step}"));
    line("steps", format!("{}{from}", estimate.steps));
    line(
        "arithmetic",
        format!(
            "{} on {}, {}{}",
            compute(estimate.compute),
            units::plural(estimate.threads, "thread"),
            recomputed(estimate.recompute),
            if estimate.cached { ", frozen layers cached on disk" } else { "" }
        ),
    );
    line(
        "time",
        format!(
            "about {} ({:.0} tokens/s in a first pass)",
            units::left(Duration::from_secs_f64(estimate.seconds.max(0.0))),
            estimate.tok_s
        ),
    );
    if let Some(peak) = estimate.peak {
        let limit = estimate.limit.map_or(String::new(), |limit| format!(" of {}", units::size(limit)));
        let again = estimate
            .peak_resumed
            .map_or(String::new(), |peak| format!("; {} if it is resumed", units::size(peak)));
        line("memory", format!("{}{limit}{again}", units::size(peak)));
    }
    text
}

pub(super) fn object(estimate: &Estimate) -> Value {
    json!({
        "rows": estimate.rows,
        "validation_rows": estimate.held,
        "tokens": estimate.tokens,
        "supervised_tokens": estimate.supervised,
        "parameters": estimate.trained,
        "steps": estimate.steps,
        "resumed_at": estimate.resumed,
        "compute": compute(estimate.compute),
        "threads": estimate.threads,
        "recompute": level(estimate.recompute),
        "tokens_per_pass": estimate.pass,
        "cached": estimate.cached,
        "tokens_per_second": estimate.tok_s,
        "seconds": estimate.seconds,
        "peak_bytes": estimate.peak,
        "peak_bytes_resumed": estimate.peak_resumed,
        "limit_bytes": estimate.limit,
    })
}

fn compute(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    }
}

fn level(recompute: Recompute) -> &'static str {
    match recompute {
        Recompute::Nothing => "nothing",
        Recompute::Halves => "halves",
        Recompute::Mlp => "mlp",
        Recompute::Layers => "layers",
    }
}

/// What the backward pass does with what the forward pass computed.
fn recomputed(recompute: Recompute) -> &'static str {
    match recompute {
        Recompute::Nothing => "nothing computed again",
        Recompute::Halves => "kept in 16 bits",
        Recompute::Mlp => "kept in 16 bits, half of the MLP computed again",
        Recompute::Layers => "layers computed again",
    }
}
