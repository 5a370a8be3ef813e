//! Figures of a candidate, and how they compare.

use std::collections::BTreeMap;

use super::check::{Answer, Check};
use super::measure::Loss;
use super::regression::Item;
use super::report::{Against, Answered, Forgetting, Given, Losses, Passed, Regression, Unit};
use super::rows::Row;
use super::statistics::{Interval, bootstrap, mcnemar};
use super::task::{Figures, Task};
use crate::model::Real;

/// A candidate with what it was asked.
#[derive(Clone, Copy)]
pub(super) struct Judged<'a> {
    pub(super) task: &'a Task,
    pub(super) figures: &'a Figures,
}

/// Which row is which for two models; a row that is too long for one of them is in none.
pub(super) fn pairs(own: &[Row], other: &[Row]) -> Vec<(usize, usize)> {
    let known: BTreeMap<_, usize> = keys(other).zip(0..).collect();
    keys(own).zip(0..).filter_map(|(key, at)| Some((at, *known.get(&key)?))).collect()
}

/// File, line, and which part of a long text.
fn keys(rows: &[Row]) -> impl Iterator<Item = (usize, u64, usize)> {
    let mut parts = BTreeMap::new();
    rows.iter().map(move |row| {
        let place = (row.document.source, row.document.line);
        let part = parts.entry(place).and_modify(|part| *part += 1).or_insert(0);
        (place.0, place.1, *part)
    })
}

/// Losses on held-out rows, and how they differ from a baseline's.
pub(super) fn losses(own: Judged<'_>, baseline: Option<Judged<'_>>, seed: u64) -> Losses {
    let sum = Loss::sum(&own.figures.losses);
    let unit = match baseline {
        Some(baseline) if !own.task.is_as(baseline.task) => Unit::BitsPerByte,
        _ => Unit::NatsPerToken,
    };
    let difference = baseline.map(|baseline| {
        let pairs = pairs(&own.task.held.rows, &baseline.task.held.rows);
        let pair = |(a, b): (usize, usize)| (own.figures.losses[a], baseline.figures.losses[b]);
        difference(pairs.into_iter().map(pair), unit, seed)
    });
    let loss = sum.mean();
    Losses {
        loss,
        perplexity: Real::exp(loss),
        bits_per_token: loss / std::f64::consts::LN_2,
        bits_per_byte: sum.bits_per_byte(),
        tokens: sum.tokens,
        rows: own.figures.losses.len(),
        difference,
        unit,
    }
}

/// How much more the first of each pair loses than the second.
fn difference(pairs: impl Iterator<Item = (Loss, Loss)>, unit: Unit, seed: u64) -> Interval {
    let row = |(own, other): (Loss, Loss)| match unit {
        Unit::NatsPerToken => (own.nats - other.nats, other.weight),
        Unit::BitsPerByte => (own.bits() - other.bits(), other.bytes as f64),
    };
    bootstrap(&pairs.map(row).collect::<Vec<_>>(), seed)
}

/// Loss on general text, and how much of it is new; none if there is no text.
pub(super) fn forgetting(
    own: Judged<'_>,
    base: Option<Judged<'_>>,
    threshold: f64,
    seed: u64,
) -> Option<Forgetting> {
    let sum = Loss::sum(own.figures.general.values());
    if sum.tokens == 0 {
        return None;
    }
    let unit = match base {
        Some(base) if !own.task.reads_as(base.task) => Unit::BitsPerByte,
        _ => Unit::NatsPerToken,
    };
    let forgetting = base.map(|base| {
        let both =
            own.figures.general.iter().filter_map(|(at, loss)| Some((*loss, *base.figures.general.get(at)?)));
        difference(both, unit, seed)
    });
    // The threshold is one of tokens, as the base makes them.
    let threshold = match (unit, base) {
        (Unit::BitsPerByte, Some(base)) => {
            let text = Loss::sum(base.figures.general.values());
            threshold / std::f64::consts::LN_2 * text.tokens as f64 / (text.bytes as f64).max(1.0)
        }
        _ => threshold,
    };
    Some(Forgetting {
        loss: sum.mean(),
        bits_per_byte: sum.bits_per_byte(),
        forgetting,
        unit,
        divergence: sum.mean_divergence(),
        flagged: forgetting.is_some_and(|forgetting| forgetting.is_above(threshold)),
    })
}

/// An answer as it is reported.
pub(super) fn given(answer: &Answer, expected: Option<&str>, checks: &[Check]) -> Given {
    Given {
        text: answer.text.clone(),
        tokens: answer.tokens,
        stopped: answer.stopped,
        exact: expected.map(|expected| answer.text == expected),
        failures: checks.iter().filter_map(|check| check.failure(answer)).collect(),
    }
}

/// Answers to held-out rows, and how they compare; none if none was asked for.
pub(super) fn answered(own: Judged<'_>, baseline: Option<Judged<'_>>, checks: &[Check]) -> Option<Answered> {
    let answers: Vec<&Answer> = own.figures.answers.iter().flatten().collect();
    if answers.is_empty() {
        return None;
    }
    let pairs = baseline.map(|baseline| (baseline, pairs(&own.task.held.rows, &baseline.task.held.rows)));
    // How many pass, and how that compares.
    let count = |passes: &dyn Fn(&Answer, &Row) -> bool| {
        let of = |judged: Judged<'_>, at: usize| {
            judged.figures.answers[at].as_ref().map(|answer| passes(answer, &judged.task.held.rows[at]))
        };
        let passed = (0..own.figures.answers.len()).filter(|at| of(own, *at) == Some(true)).count();
        let against = pairs.as_ref().map(|(baseline, pairs)| {
            let both = pairs.iter().filter_map(|(a, b)| Some((of(own, *a)?, of(*baseline, *b)?)));
            against(both)
        });
        (passed, against)
    };
    let (exact, exact_against) =
        count(&|answer, row| row.question.as_ref().is_some_and(|question| question.expected == answer.text));
    let (json, _) = count(&|answer, _| Check::Json.failure(answer).is_none());
    let checks = checks.iter().map(|check| {
        let (passed, against) = count(&|answer, _| check.failure(answer).is_none());
        Passed { check: check.name().to_string(), passed, against }
    });
    Some(Answered {
        rows: answers.len(),
        exact,
        json,
        stopped: answers.iter().filter(|answer| answer.stopped).count(),
        mean_tokens: answers.iter().map(|answer| answer.tokens as f64).sum::<f64>() / answers.len() as f64,
        checks: checks.collect(),
        exact_against,
    })
}

/// How passes of two candidates at the same things compare.
pub(super) fn against(both: impl Iterator<Item = (bool, bool)>) -> Against {
    let (mut better, mut worse) = (0, 0);
    for (own, other) in both {
        better += usize::from(own && !other);
        worse += usize::from(!own && other);
    }
    Against { better, worse, p: mcnemar(better, worse) }
}

/// Items of the regression file; none without any.
pub(super) fn regression(own: &Figures, baseline: Option<&Figures>, items: &[Item]) -> Option<Regression> {
    if items.is_empty() {
        return None;
    }
    let passes = |figures: &Figures, at: usize| {
        items[at].checks.iter().all(|check| check.failure(&figures.items[at]).is_none())
    };
    let named = |which: &dyn Fn(usize) -> bool| -> Vec<String> {
        (0..items.len()).filter(|at| which(*at)).map(|at| items[at].name.clone()).collect()
    };
    let before = |at: usize| baseline.map(|baseline| passes(baseline, at));
    Some(Regression {
        items: items.len(),
        passed: (0..items.len()).filter(|at| passes(own, *at)).count(),
        newly_broken: named(&|at| before(at) == Some(true) && !passes(own, at)),
        newly_fixed: named(&|at| before(at) == Some(false) && passes(own, at)),
        must_failed: named(&|at| items[at].must && !passes(own, at)),
    })
}
