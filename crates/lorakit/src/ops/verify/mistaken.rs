//! Tensors that hold what others should, or what they should in another order.

use std::hash::{DefaultHasher, Hasher};

use super::Verified;
use super::compare::Compared;
use super::pair::{Pair, Rows};
use super::state::State;
use super::step::step;
use super::storing::Storing;
use crate::Result;
use crate::plan::{Progress, Silent, Stretch, go_on};

/// At most so many tensors of one shape are searched for one that holds what another should.
const SEARCHED: usize = 8;
/// Matrices with more values than this are not transposed, as that takes the whole matrix.
const TRANSPOSED: usize = 1 << 26;

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
    let mut faults: Vec<(usize, String)> =
        holds.into_iter().map(|(at, other)| (at, format!("holds what `{other}` should"))).collect();
    for (at, pair) in mistaken {
        go_on(progress, "every tensor was compared")?;
        let what = if pair.touched { "the sum" } else { "the base" };
        if has_other_order(pair)? {
            faults.push((at, format!("has the rows of {what} in another order")));
        } else if is_transposed(pair)? {
            faults.push((at, format!("is {what} transposed")));
        }
    }
    for (at, fault) in faults {
        found[at].verified.fault = Some(fault);
    }
    Ok(())
}

/// Whether the rows are those of the rounded sum, in another order.
fn has_other_order(pair: &Pair<'_>) -> Result<bool> {
    let Some(storing) = Storing::new(pair.merged.info().dtype) else { return Ok(false) };
    let digest = |row: &[u8]| {
        let mut hasher = DefaultHasher::new();
        hasher.write(row);
        hasher.finish()
    };
    let (mut expected, mut there, mut encoded) = (0u64, 0u64, Vec::new());
    pair.for_each(&Stretch::new(&Silent, 0), |Rows { sum, bytes, panel, .. }| {
        storing.encode(sum, &mut encoded);
        let row = bytes.len() / panel.rows.len().max(1);
        let add = |sum: u64, bytes: &[u8]| {
            bytes.chunks(row.max(1)).fold(sum, |sum, row| sum.wrapping_add(digest(row)))
        };
        expected = add(expected, &encoded);
        there = add(there, bytes);
    })?;
    Ok(expected == there)
}

/// Whether it is the transposed sum, within a step; of matrices whose shape does not tell.
fn is_transposed(pair: &Pair<'_>) -> Result<bool> {
    let (rows, cols) = (pair.compute.rows, pair.compute.cols);
    if rows != cols || rows * cols > TRANSPOSED {
        return Ok(false);
    }
    let mut values = vec![0.0; rows * cols];
    pair.merged.decode(0..(rows * cols) as u64, &mut values)?;
    let mut is = true;
    pair.for_each(&Stretch::new(&Silent, 0), |Rows { sum, panel, .. }| {
        is = is
            && sum.iter().enumerate().all(|(at, &s)| {
                let x = values[at % cols * cols + panel.rows.start + at / cols];
                (x - s).abs() <= step(pair.grid(), x.abs().max(s.abs()))
            });
    })?;
    Ok(is)
}
