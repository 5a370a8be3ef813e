//! What a user should know besides the numbers.

use super::Problem;
use super::bulk::SWALLOWED;
use super::compute::Done;
use super::problem::counted;
use super::{Became, Changed, ExtractOptions, NamePattern, Rule};
use crate::adapter::Adapter;
use crate::arch::names::{self, module_of};
use crate::{Error, Finding, Severity};

/// Relative change above which the two models have little to do with each other.
const UNLIKE: f64 = 0.5;

/// The finding about a pattern that leaves nothing out.
pub(super) fn idle(pattern: &NamePattern) -> Finding {
    Finding::new(Severity::Warning, "idle-pattern", "", format!("`--skip {pattern}` matches no tensor"))
}

/// The error if no part of a change would be in the adapter.
pub(super) fn nothing(changes: &[Changed], options: &ExtractOptions) -> Error {
    let tensors = changes.len();
    let problem = match changes {
        [] => Problem::Same,
        _ if changes.iter().any(|c| c.became == Became::LeftOut) => Problem::NothingWanted { tensors },
        _ => Problem::OnlyRounding { tensors },
    };
    Error::from(problem).at(&options.tuned)
}

/// Whether rounding left few values of a change, and less noise than it leaves of a larger one. Rows of which nothing
/// moved are taken for rows that did not change.
fn is_swallowed(done: &Done<'_>) -> bool {
    let (c, sums) = (&done.changed, &done.sums);
    let few = (sums.moved as f64) < 0.5 * (sums.rows * c.shape.1) as f64;
    few && c.rounding.is_some_and(|rounding| (c.norm * c.residual).powi(2) < SWALLOWED * rounding * rounding)
}

/// Notes and warnings on what was computed.
pub(super) fn of(done: &[Done<'_>], adapter: &Adapter, options: &ExtractOptions) -> Vec<Finding> {
    let mut notes = Vec::new();
    let mut say = |severity, code, subject: &str, message: String| {
        notes.push(Finding::new(severity, code, subject, message));
    };
    let changed = || done.iter().map(|d| &d.changed);
    let count = |which: Became| changed().filter(|c| c.became == which).count();
    let (moved, all) =
        done.iter().fold((0.0, 0.0), |(moved, all), d| (moved + d.sums.delta, all + d.sums.base));
    if moved > UNLIKE * UNLIKE * all && all > 0.0 {
        let message = format!(
            "the models differ by {:.0} % of the base's norm: is this the base that training started from?",
            100.0 * (moved / all).sqrt()
        );
        say(Severity::Warning, "unlike", "", message);
    }
    if count(Became::Noise) > 0 {
        let message = format!(
            "no factors for {}, which the noise of rounding does not tell from the base",
            counted(count(Became::Noise), "layer")
        );
        say(Severity::Note, "noise", "", message);
    }
    let swallowed = done.iter().filter(|d| is_swallowed(d)).count();
    if options.rule == Rule::Auto && swallowed > 0 {
        let message = format!(
            "rounding to the tuned model's dtype swallowed much of the change of {}, where fewer than half of the values \
             moved: the rank found there may not be the one it had",
            counted(swallowed, "module")
        );
        say(Severity::Note, "swallowed", "", message);
    }
    if count(Became::LeftOut) > 0 {
        let lost: f64 = changed().filter(|c| c.became == Became::LeftOut).map(|c| c.norm * c.norm).sum();
        let message = format!(
            "{} left out as asked: {:.2} % of the energy of all changes",
            counted(count(Became::LeftOut), "change"),
            100.0 * lost / moved.max(f64::MIN_POSITIVE)
        );
        say(Severity::Note, "left-out", "", message);
    }
    let (full, most) = changed().fold((0, 0), |(full, most), c| {
        let (rank, (rows, cols)) = (c.became.rank(), c.shape);
        (full + usize::from(rank * (rows + cols) > rows * cols), most.max(rank))
    });
    if full > 0 && !matches!(options.rule, Rule::Rank(_)) {
        let message = format!(
            "factors larger than the weight in {} (rank up to {most}): the change is of no low rank; `--rank` beside \
             the rule caps it",
            counted(full, "module")
        );
        say(Severity::Warning, "full-rank", "", message);
    }
    if options.rule == Rule::Auto && done.iter().any(|d| d.module.is_some() && d.sums.rounding.is_none()) {
        let message = "the tuned model is quantised, so the level of its noise is unknown and is estimated from what looks like noise";
        say(Severity::Note, "noise-unknown", "", message.into());
    }
    let bytes = |which: &dyn Fn(&str) -> bool| -> u64 {
        let saved = adapter.saved.iter().filter(|saved| which(module_of(&saved.name)));
        saved.map(|saved| saved.tensor.info().byte_len()).sum()
    };
    let vocabulary = bytes(&|path| names::is_embedding(path) || names::is_head(path));
    let factors: u64 = adapter.modules.iter().map(|m| m.a.info().byte_len() + m.b.info().byte_len()).sum();
    if vocabulary > factors + bytes(&|_| true) - vocabulary {
        let message = format!(
            "embeddings are saved whole{} and take {:.1} MB, more than all else; `--embeddings factors` makes that small",
            if adapter.config.ensure_weight_tying { ", twice because they are tied," } else { "" },
            vocabulary as f64 / 1e6
        );
        say(Severity::Note, "whole-embeddings", "", message);
    }
    for saved in &adapter.saved {
        let leaf = saved.name.rsplit('.').next().unwrap_or_default();
        if !matches!(leaf, "weight" | "bias") {
            let message = "is a parameter that PEFT does not take from adapters; a merge with lorakit does";
            say(Severity::Warning, "saved-parameter", &saved.name, message.into());
        }
    }
    notes
}
