//! One tensor of the merged model against the sum.

use super::factors::Factors;
use super::judge::Seen;
use super::measure::Measured;
use super::pair::Pair;
use super::state::State;
use super::{Verified, fault};
use crate::plan::{OutputTensor, Stretch};
use crate::{ErrorKind, Result};

/// A share of the magnitude of a factor: deltas of a Near tensor that are off by less are those of other kernels.
const TELLING: f64 = 1e-3;
/// Fewer values than this are not enough to tell a factor by.
const ENOUGH: u64 = 64;

/// What was found of one tensor.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    pub(super) verified: Verified,
    /// Zero unless values were compared.
    pub(super) sums: Measured,
    /// The factors of the delta that make the tensor, if they were needed.
    pub(super) factors: Option<Factors>,
}

impl Compared {
    pub(super) fn of(verified: Verified) -> Self {
        Compared { verified, sums: Measured::default(), factors: None }
    }

    /// A tensor of the sum that the merged model does not have.
    pub(super) fn absent(tensor: &OutputTensor, touched: bool) -> Self {
        Self::of(Verified { touched, ..Verified::without(&tensor.info.name, State::Absent) })
    }

    /// The same for the verdict on all.
    pub(super) fn seen(&self) -> Seen {
        let Compared { verified, sums: m, .. } = self;
        Seen {
            state: verified.state,
            swallowed: self.is_swallowed(),
            is_matrix: m.rows > 1,
            apart: verified.error,
            uneven: m.uneven(),
            uncertainty: if m.delta > 0.0 { m.uncertainty() } else { 0.0 },
        }
    }

    /// Whether it rounds to the base although an adapter touches it.
    pub(super) fn is_swallowed(&self) -> bool {
        matches!(self.verified.state, State::Exact { .. }) && self.sums.copy
    }
}

/// Compares a tensor of the merged model with the sum `tensor`.
///
/// # Errors
/// Those of reading base and adapters, unless they say that values cannot be compared.
pub(super) fn compare(pair: &Pair<'_>, tensor: &OutputTensor, stretch: &Stretch<'_>) -> Result<Compared> {
    let Pair { name, compute, merged, touched, quantised, .. } = pair;
    let of_state = |state| Verified { touched: *touched, ..Verified::without(name, state) };
    if !pair.has_shape(tensor) {
        return Ok(Compared::of(of_state(State::Reshaped)));
    }
    let kept = Verified { off: 0.0, error: 0.0, ..of_state(State::Kept) };
    if pair.is_as_it_was() && compute.base.same_values(merged)? {
        return Ok(Compared::of(kept));
    }
    if !pair.is_decodable() {
        // Such as counters of normalisations, which are saved whole: they are equal, or they are not.
        if *touched && !compute.edits() && compute.base.same_values(merged)? {
            let exact = State::Exact { once: true, twice: true, in_turn: false };
            return Ok(Compared::of(Verified { state: exact, ..kept }));
        }
        let of_base = pair.base.as_ref().map(|base| base.same_values(merged)).transpose()?;
        let state = match (*touched, of_base) {
            (true, Some(true)) => State::Missing,
            _ if !pair.is_comparable() => State::Unjudged,
            (true, _) => State::Other,
            (false, _) => State::Changed,
        };
        return Ok(Compared::of(of_state(state)));
    }
    let m = match pair.measure(stretch) {
        // A merge copies such values as they are, and these are not those.
        Err(error) if !*touched && error.kind() == ErrorKind::NonFinite => {
            let state = if pair.is_comparable() { State::Changed } else { State::Unjudged };
            return Ok(Compared::of(of_state(state)));
        }
        measured => measured?,
    };
    let moves = m.delta > 0.0;
    let mut state = if *touched && moves {
        State::touched(&m, *quantised)
    } else {
        match State::untouched(&m, *quantised) {
            // A delta of zeros: an adapter that was not trained, or at weight 0.
            State::Changed if *touched => State::Other,
            state => state,
        }
    };
    let mut factors = None;
    if *touched && moves && !*quantised && matches!(state, State::Near | State::Scaled(_) | State::Other) {
        let found = Factors::of(pair, stretch)?;
        factors = Some(found);
        // Every value is within a step of the sum, but all of them are the base and the delta times another number.
        let other = !found.contains(1.0) && found.is_narrow() && m.values >= ENOUGH;
        let factor = found.decimals().next().filter(|factor| other && (factor - 1.0).abs() > TELLING);
        state = factor.map_or(state, State::Scaled);
    }
    let size = if moves { m.delta } else { m.sum };
    let verified = Verified {
        state,
        scale: moves.then(|| m.scale()),
        off: m.off as f64 / m.values.max(1) as f64,
        error: if m.error > 0.0 { (m.error / size).sqrt() } else { 0.0 },
        non_finite: m.bad,
        fault: fault::of_values(state, &m, pair),
        ..kept
    };
    Ok(Compared { verified, sums: m, factors })
}
