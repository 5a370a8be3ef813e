//! What is wrong with a tensor, in words.

use super::Verified;
use super::compare::Compared;
use super::measure::Measured;
use super::pair::Pair;
use super::state::State;
use super::verdict::shown;
use crate::Result;
use crate::plan::{Progress, Silent, Stretch, go_on};

/// At most so many tensors of one shape are searched for one that holds what another should.
const SEARCHED: usize = 8;

/// What the values of a tensor say about its state.
pub(super) fn of_values(state: State, m: &Measured, pair: &Pair<'_>) -> Option<String> {
    let values = m.values;
    let what = if pair.touched { "the sum" } else { "the base's" };
    match state {
        State::NonFinite => Some(format!("{} of {values} values are NaN or infinite", m.bad)),
        State::Scaled(factor) => {
            Some(format!("holds the delta {} times", shown((factor * 1e4).round() / 1e4)))
        }
        State::Other | State::Changed if !pair.quantised => {
            let times = m.times_sum(pair.merged.info().dtype).filter(|_| m.far > 0 || m.off > 1);
            match times {
                Some(factor) => Some(format!("is {what} times {factor:.3}")),
                None if m.off == 0 => None,
                None if m.off == 1 => Some(format!("1 of {values} values is not {what}")),
                None if m.rows > 1 && 2 * m.rows_off < m.rows => Some(format!(
                    "{} of {values} values, in {} of {} rows, are not {what}",
                    m.off, m.rows_off, m.rows
                )),
                None => Some(format!("{} of {values} values are not {what}", m.off)),
            }
        }
        _ => None,
    }
}

impl State {
    /// What is wrong with a tensor in this state, if its values were not compared.
    fn fault(self, touched: bool) -> Option<&'static str> {
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

/// Says of each tensor what is wrong with it, where its values have not.
///
/// # Errors
/// As for comparing.
pub(super) fn name(
    found: &mut [Compared],
    pairs: &[Option<Pair<'_>>],
    progress: &dyn Progress,
) -> Result<()> {
    for Compared { verified, .. } in &mut *found {
        let Verified { state, touched, fault, .. } = verified;
        let of_state = || state.fault(*touched).map(str::to_owned);
        *fault = fault.take().or_else(of_state);
    }
    let is_mistaken = |at: usize| {
        let state = found[at].verified.state;
        let pair = pairs[at].as_ref().filter(|pair| pair.is_decodable() && !pair.quantised);
        pair.filter(|_| matches!(state, State::Other | State::Changed)).map(|pair| (at, pair))
    };
    let mistaken: Vec<(usize, &Pair<'_>)> = (0..pairs.len()).filter_map(is_mistaken).collect();
    let mut holds = Vec::new();
    for (at, pair) in &mistaken {
        let alike = |other: &&(usize, &Pair<'_>)| {
            other.0 != *at && other.1.merged.info().shape == pair.merged.info().shape
        };
        let others: Vec<_> = mistaken.iter().filter(alike).collect();
        if others.len() >= SEARCHED {
            continue;
        }
        for (_, other) in others {
            go_on(progress, "every tensor was compared")?;
            let m = other.with_merged(pair).measure(&Stretch::new(&Silent, 0))?;
            if m.once || m.twice || m.in_turn {
                holds.push((*at, other.name.to_string()));
            }
        }
    }
    for (at, other) in holds {
        found[at].verified.fault = Some(format!("holds what `{other}` should"));
    }
    Ok(())
}
