//! What is wrong with a tensor, in words.

use super::pair::Pair;
use super::state::State;
use super::sums::Measured;
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
        State::Other | State::Changed if m.norm == 0.0 && m.sum > 0.0 => Some("is all zeros".into()),
        State::Other | State::Changed if pair.quantised => {
            let dtype = pair.merged.info().dtype;
            let times = (m.error / m.rounding).sqrt();
            match m.place {
                Some(at) => Some(format!(
                    "is further from {what} than {dtype} explains in {}, most at {:?}",
                    rows(m),
                    index(at, &pair.merged.info().shape)
                )),
                None if m.rounding > 0.0 && m.error > m.rounding => {
                    Some(format!("is {times:.2} times as far from {what} as its encoding"))
                }
                None => None,
            }
        }
        State::Other | State::Changed => {
            let times = m.times_sum(pair.grid()).filter(|_| m.far > 0 || m.off > 1);
            let place = m.place.map(|at| index(at, &pair.merged.info().shape)).unwrap_or_default();
            match times {
                Some(factor) => Some(format!("is {what} times {factor:.3}")),
                None if m.off == 0 || 2 * m.off > values => None,
                None if m.rows > 1 && m.off > 1 && 2 * m.rows_off < m.rows => {
                    Some(format!("has {} values in {} that are not {what}", m.off, rows(m)))
                }
                None => Some(format!(
                    "has {} among {values} values that {} not {what}: first {place:?}",
                    m.off,
                    are(m.off)
                )),
            }
        }
        _ => None,
    }
}

/// What is wrong with a tensor of this shape, in words.
pub(super) fn of_shapes(found: &[usize], expected: &[usize]) -> String {
    let transposed = found.len() == 2 && found.iter().eq(expected.iter().rev());
    let transposed = if transposed { ", as if transposed" } else { "" };
    format!("has shape {found:?}, not {expected:?}{transposed}")
}

/// How many rows, and which if they are next to each other.
fn rows(m: &Measured) -> String {
    let count = format!("{} of {} rows", m.rows_off, m.rows);
    match m.rows_from_to {
        Some((from, to)) if from == to && m.rows > 1 => format!("{count} ({from})"),
        Some((from, to)) if to - from + 1 == m.rows_off && m.rows_off < m.rows => {
            format!("{count} ({from} to {to})")
        }
        _ => count,
    }
}

/// The place of a value in a tensor of this shape.
fn index(at: u64, shape: &[usize]) -> Vec<u64> {
    let mut rest = at;
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&size| {
            let place = rest % size.max(1) as u64;
            rest /= size.max(1) as u64;
            place
        })
        .collect();
    index.reverse();
    index
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
            State::Unjudged => Some("cannot be compared"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_shapes_in_words() {
        assert_eq!(index(23, &[2, 3, 4]), [1, 2, 3]);
        assert_eq!(index(5, &[8]), [5]);
        assert_eq!(of_shapes(&[3, 2], &[2, 3]), "has shape [3, 2], not [2, 3], as if transposed");
        assert_eq!(of_shapes(&[4, 3], &[2, 3]), "has shape [4, 3], not [2, 3]");
        let m = |from, to, rows_off| Measured {
            rows: 9,
            rows_off,
            rows_from_to: Some((from, to)),
            ..Measured::default()
        };
        assert_eq!(rows(&m(2, 4, 3)), "3 of 9 rows (2 to 4)");
        assert_eq!(rows(&m(2, 5, 3)), "3 of 9 rows");
        assert_eq!(rows(&m(2, 2, 1)), "1 of 9 rows (2)");
    }
}
