//! Tensors that hold what others should.

use super::Verified;
use super::compare::Compared;
use super::pair::Pair;
use super::state::State;
use crate::Result;
use crate::plan::{Progress, Silent, Stretch, go_on};

/// At most so many tensors of one shape are searched for one that holds what another should.
const SEARCHED: usize = 8;

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
