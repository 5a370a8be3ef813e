//! Whether a fine-tune helped.

use std::fmt;

use serde::Serialize;

use super::report::{Against, Answered, Losses, Regression, Unit};

/// The probability below which a split is not taken for chance.
const LEVEL: f64 = 0.05;

/// The rule, in words.
pub(super) const RULE: &str = "regressed: the held-out loss rose, or fewer answers are exact or pass a check, or an \
    item that must pass fails; improved: one of these the other way, and none of the former; no significant change: \
    neither. A loss rose or fell if the whole 95 % interval of the paired difference lies on one side of 0 (bootstrap \
    over rows, 10 or more); answers became fewer or more if McNemar's exact test gives p < 0.05.";

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something is better, and nothing is worse.
    Improved,
    /// Nothing that could not be chance.
    NoSignificantChange,
    /// Something is worse.
    Regressed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Improved => "improved",
            Outcome::NoSignificantChange => "no significant change",
            Outcome::Regressed => "regressed",
        })
    }
}

/// What a comparison comes to, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In a word.
    pub outcome: Outcome,
    /// What is better.
    pub better: Vec<String>,
    /// What is worse.
    pub worse: Vec<String>,
}

impl Verdict {
    /// The verdict of a candidate's figures, which hold how they compare.
    pub(super) fn of(losses: &Losses, answers: Option<&Answered>, regression: Option<&Regression>) -> Self {
        let (mut better, mut worse) = (Vec::new(), Vec::new());
        if let Some(difference) = &losses.difference {
            let unit = match losses.unit {
                Unit::NatsPerToken => "nats per token",
                Unit::BitsPerByte => "bits per byte",
            };
            let by = format!("by {:.4} {unit}", difference.mean.abs());
            if difference.is_below(0.0) {
                better.push(format!("the held-out loss fell {by}"));
            } else if difference.is_above(0.0) {
                worse.push(format!("the held-out loss rose {by}"));
            }
        }
        let mut split = |against: &Option<Against>, what: &str| {
            let Some(Against { better: more, worse: fewer, p }) = *against else { return };
            if p < LEVEL && more > fewer {
                better.push(format!("{} more answers {what}", more - fewer));
            } else if p < LEVEL {
                worse.push(format!("{} fewer answers {what}", fewer - more));
            }
        };
        if let Some(answers) = answers {
            split(&answers.exact_against, "are exact");
            answers.checks.iter().for_each(|check| split(&check.against, &format!("pass `{}`", check.check)));
        }
        if let Some(regression) = regression.filter(|regression| !regression.must_failed.is_empty()) {
            worse.push(match regression.must_failed.len() {
                1 => "an item that must pass fails".to_string(),
                several => format!("{several} items that must pass fail"),
            });
        }
        let outcome = match (better.is_empty(), worse.is_empty()) {
            (_, false) => Outcome::Regressed,
            (false, true) => Outcome::Improved,
            (true, true) => Outcome::NoSignificantChange,
        };
        Verdict { outcome, better, worse }
    }
}

#[cfg(test)]
mod tests {
    use super::super::statistics::Interval;
    use super::*;

    fn losses(low: f64, high: f64) -> Losses {
        let difference = Interval { mean: f64::midpoint(low, high), low: Some(low), high: Some(high) };
        Losses {
            loss: 1.0,
            perplexity: 2.0,
            bits_per_token: 1.0,
            bits_per_byte: None,
            tokens: 1,
            rows: 20,
            difference: Some(difference),
            unit: Unit::NatsPerToken,
        }
    }

    fn answers(better: usize, worse: usize, p: f64) -> Answered {
        Answered {
            rows: 20,
            exact: 3,
            json: 2,
            stopped: 20,
            mean_tokens: 4.0,
            checks: Vec::new(),
            exact_against: Some(Against { better, worse, p }),
        }
    }

    #[test]
    fn what_is_worse_wins() {
        let (fell, rose, same) = (losses(-2.0, -1.0), losses(0.1, 0.2), losses(-0.1, 0.2));
        let (more, fewer, alike) = (answers(9, 1, 0.02), answers(0, 6, 0.03), answers(3, 1, 0.6));
        let of = |losses: &Losses, answers: &Answered| Verdict::of(losses, Some(answers), None).outcome;
        for (losses, answers, expected) in [
            (&fell, &more, Outcome::Improved),
            (&fell, &alike, Outcome::Improved),
            (&same, &more, Outcome::Improved),
            (&same, &alike, Outcome::NoSignificantChange),
            (&rose, &alike, Outcome::Regressed),
            (&rose, &more, Outcome::Regressed),
            (&fell, &fewer, Outcome::Regressed),
        ] {
            assert_eq!(of(losses, answers), expected, "{losses:?} {answers:?}");
        }
        assert_eq!(Verdict::of(&fell, Some(&fewer), None).worse, ["6 fewer answers are exact"]);
        let broken = Regression {
            items: 2,
            passed: 1,
            newly_broken: Vec::new(),
            newly_fixed: Vec::new(),
            must_failed: vec!["greeting".into()],
        };
        assert_eq!(Verdict::of(&fell, None, Some(&broken)).outcome, Outcome::Regressed);
    }

    #[test]
    fn few_rows_say_nothing() {
        let mut few = losses(-2.0, -1.0);
        few.difference = Some(Interval { mean: -1.5, low: None, high: None });
        assert_eq!(Verdict::of(&few, None, None).outcome, Outcome::NoSignificantChange);
    }
}
