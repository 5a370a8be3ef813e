//! What is wrong with a tensor, in words.

use super::measure::Measured;
use super::pair::Pair;
use super::state::State;
use super::verdict::shown;

/// What the values of a tensor say about its state.
pub(super) fn of_values(state: State, m: &Measured, pair: &Pair<'_>) -> Option<String> {
    let values = m.values;
    let what = if pair.touched { "the sum" } else { "the base's" };
    match state {
        State::NonFinite => {
            Some(format!("has {} among {values} values that {} NaN or infinite", m.bad, are(m.bad)))
        }
        State::Scaled(factor) => {
            Some(format!("holds the delta {} times", shown((factor * 1e4).round() / 1e4)))
        }
        State::Other | State::Changed if !pair.quantised => {
            let times = m.times_sum(pair.merged.info().dtype).filter(|_| m.far > 0 || m.off > 1);
            match times {
                Some(factor) => Some(format!("is {what} times {factor:.3}")),
                None if m.off == 0 || 2 * m.off > values => None,
                None if m.rows > 1 && m.off > 1 && 2 * m.rows_off < m.rows => Some(format!(
                    "has {} values in {} of {} rows that are not {what}",
                    m.off, m.rows_off, m.rows
                )),
                None => Some(format!("has {} among {values} values that {} not {what}", m.off, are(m.off))),
            }
        }
        _ => None,
    }
}

fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

impl State {
    /// What is wrong with a tensor in this state, if its values were not compared.
    pub(super) fn fault(self, touched: bool) -> Option<&'static str> {
        match self {
            State::Missing => Some("is the base's: the delta is missing"),
            State::Absent if touched => Some("is missing, and adapters touch it"),
            State::Absent => Some("is missing"),
            State::Extra => Some("is not in the base"),
            State::Reshaped => Some("has another shape"),
            State::Unjudged => Some("cannot be compared"),
            _ => None,
        }
    }
}
