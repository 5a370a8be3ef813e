//! Rows that weights are chosen on, and rows that are held back.

/// The places of rows that something is chosen on, a `share` of all, and of the others, each ascending. What decides is the
/// digest of a row, so rows that are the same come to the same side, and where a row stands in its file does not matter.
pub(super) fn split(rows: &[&[u32]], share: f64) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<([u8; 32], usize)> = rows.iter().map(|tokens| digest(tokens)).zip(0..).collect();
    order.sort_unstable();
    let mut count = (rows.len() as f64 * share).ceil() as usize;
    while count > 0 && count < order.len() && order[count].0 == order[count - 1].0 {
        count += 1;
    }
    let places = |part: &[([u8; 32], usize)]| {
        let mut places: Vec<usize> = part.iter().map(|(_, at)| *at).collect();
        places.sort_unstable();
        places
    };
    let (chosen, held) = order.split_at(count.min(order.len()));
    (places(chosen), places(held))
}

fn digest(tokens: &[u32]) -> [u8; 32] {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    *blake3::hash(&bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_on_one_side_wherever_they_stand() {
        let rows: Vec<Vec<u32>> = (0..40).map(|at| vec![at, at * at, 7]).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let (chosen, held) = split(&rows, 0.5);
        assert_eq!((chosen.len(), held.len()), (20, 20));
        let backwards: Vec<&[u32]> = rows.iter().rev().copied().collect();
        let (again, _) = split(&backwards, 0.5);
        let mirrored: Vec<usize> = again.iter().rev().map(|at| 39 - at).collect();
        assert_eq!(mirrored, chosen);
        assert!(chosen.iter().any(|at| *at >= 20) && held.iter().any(|at| *at < 20), "{chosen:?}");
        assert_eq!(split(&rows, 1.0), ((0..40).collect(), Vec::new()));
    }

    #[test]
    fn equal_rows_stay_together() {
        let (one, other) = ([1u32, 2, 3], [4u32, 5]);
        let rows: Vec<&[u32]> = (0..12).map(|at| if at % 4 == 0 { &other[..] } else { &one }).collect();
        let (chosen, held) = split(&rows, 0.5);
        assert!(chosen.len() == 9 && held.len() == 3 || chosen.len() == 12, "{chosen:?} {held:?}");
        assert_eq!(split(&[], 0.5), (Vec::new(), Vec::new()));
    }
}
