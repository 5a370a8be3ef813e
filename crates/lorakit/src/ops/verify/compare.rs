//! One tensor of the merged model against the sum.

use lorakit_tensor::DType;

use super::factors::Factors;
use super::judge::Seen;
use super::pair::Pair;
use super::state::State;
use super::sums::Measured;
use super::{Verified, fault};
use crate::plan::{OutputTensor, Silent, Stretch};
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
    /// What its sum was rounded to before it was stored, if that is not the stored dtype.
    pub(super) through: Option<DType>,
}

impl Compared {
    pub(super) fn of(verified: Verified) -> Self {
        Compared { verified, sums: Measured::default(), factors: None, through: None }
    }

    /// A tensor that is the base's.
    pub(super) fn kept(name: &str) -> Self {
        Self::of(Verified { off: 0.0, error: 0.0, ..Verified::without(name, State::Kept) })
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
            touched: verified.touched,
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
        let fault = Some(fault::of_shapes(&merged.info().shape, &tensor.info.shape));
        return Ok(Compared::of(Verified { fault, ..of_state(State::Reshaped) }));
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
    let measured = match pair.measure(stretch) {
        // A merge copies such values as they are, and these are not those.
        Err(error) if !*touched && error.kind() == ErrorKind::NonFinite => {
            let state = if pair.is_comparable() { State::Changed } else { State::Unjudged };
            return Ok(Compared::of(of_state(state)));
        }
        measured => measured?,
    };
    let (state, m, through) = by_any_way(pair, measured)?;
    let pair = &pair.rounded_to(through);
    let moves = m.delta > 0.0;
    let mut state = state;
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
        through: through.map(DType::name),
        fault: fault::of_values(state, &m, pair),
        ..kept
    };
    Ok(Compared { verified, sums: m, factors, through })
}

/// What a tensor is, by its sums.
pub(super) fn state_of(pair: &Pair<'_>, m: &Measured) -> State {
    if pair.touched && m.delta > 0.0 {
        return State::touched(m, pair.quantised);
    }
    match State::untouched(m, pair.quantised) {
        // A delta of zeros: an adapter that was not trained, or at weight 0.
        State::Changed if pair.touched => State::Other,
        state => state,
    }
}

/// What a tensor is if its sum was stored at once, or else rounded to 16 bits first, as it is when a merge is cast or
/// quantised later: with its sums, and what it was rounded to.
fn by_any_way(pair: &Pair<'_>, m: Measured) -> Result<(State, Measured, Option<DType>)> {
    let state = state_of(pair, &m);
    let is_exact = |state: &State| matches!(state, State::Exact { .. } | State::Kept);
    if is_exact(&state) || m.copy || state == State::NonFinite || state == State::Near {
        return Ok((state, m, None));
    }
    let stored = pair.merged.info().dtype;
    let of_base = pair.compute.base.info().dtype;
    let mut ways: Vec<(DType, bool)> = [DType::BF16, DType::F16].into_iter().zip(m.fits).collect();
    ways.retain(|(dtype, _)| *dtype != stored);
    ways.sort_by_key(|(dtype, fits)| (!fits && !pair.quantised, *dtype != of_base));
    let (mut best, mut told) = ((state, m, None), pair.quantised);
    for (dtype, fits) in ways {
        // F32 that holds the values of a narrower dtype alone holds them because they were rounded.
        if !fits && !pair.quantised && stored == DType::F32 {
            continue;
        }
        let m = pair.rounded_to(Some(dtype)).measure(&Stretch::new(&Silent, 0))?;
        let state = state_of(pair, &m);
        if is_exact(&state) || m.copy {
            return Ok((state, m, Some(dtype)));
        }
        let better = match pair.quantised {
            true => state.holds() && (!best.0.holds() || m.differing < best.1.differing),
            false => state.holds() && !best.0.holds() || fits && !told && stored != DType::BF16,
        };
        if better {
            told |= fits;
            best = (state, m, Some(dtype));
        }
    }
    Ok(best)
}
