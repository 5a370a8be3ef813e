//! Factors that form no product, and why.

/// What is wrong with a tensor without values.
pub(super) fn empty(shape: &[usize]) -> String {
    format!("has no values (shape {shape:?}): it was saved without gathering its shards")
}

/// What is wrong with factors that are not matrices.
pub(super) fn flat(a: &[usize], b: &[usize]) -> String {
    let why = match (a, b) {
        ([_], [_]) => ": FSDP flattens what it shards, and this was saved without gathering the parts",
        _ => "",
    };
    format!("has factors of shapes {a:?} and {b:?}, which are not matrices{why}")
}

/// The finding on factors that disagree on the rank: its code and its message.
pub(super) fn disagreement(a: &[usize], b: &[usize]) -> (&'static str, String) {
    let (&[held, ..], &[_, rank, ..]) = (a, b) else { return ("shape", flat(a, b)) };
    let convolution = a.len() > 2 && b.len() > 2;
    if convolution && rank > 0 && held % rank == 0 && held > rank {
        let groups = held / rank;
        let message = format!(
            "is a convolution in {groups} groups (A {a:?}, B {b:?}), which PEFT does not merge either"
        );
        return ("unmergeable", message);
    }
    ("shape", format!("has A {a:?} and B {b:?}, which disagree on the rank"))
}

/// In how many parts the rows of every A would have been cut, if all were cut alike, judged by the shapes of A and B.
pub(super) fn slices<'s>(factors: impl Iterator<Item = (&'s [usize], &'s [usize])>) -> Option<usize> {
    let parts = |(a, b): (&[usize], &[usize])| match (a, b) {
        (&[held, _], &[_, rank]) if held > 0 && rank % held == 0 => rank / held,
        _ => 1,
    };
    let all: Vec<usize> = factors.map(parts).collect();
    let first = *all.first().filter(|parts| **parts > 1 && all.len() > 1)?;
    all.iter().all(|parts| *parts == first).then_some(first)
}

/// What [`slices`] means, at the end of a message.
pub(super) fn sliced(parts: usize) -> String {
    format!(
        ": every A has 1/{parts} of its rows, as if one of {parts} processes had saved its own part only (FSDP, without \
         gathering)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shapes_tell_is_told() {
        let of = |a: &[usize], b: &[usize]| disagreement(a, b);
        let (code, message) = of(&[8, 16, 3, 3], &[32, 2, 1, 1]);
        assert_eq!(code, "unmergeable");
        assert_eq!(
            message,
            "is a convolution in 4 groups (A [8, 16, 3, 3], B [32, 2, 1, 1]), which PEFT does not merge either"
        );
        assert_eq!(of(&[8, 16, 3, 3], &[32, 3, 1, 1]).0, "shape");
        assert!(of(&[2, 16], &[16, 4]).1.ends_with("disagree on the rank"));
        assert!(flat(&[32], &[64]).contains("FSDP"));
        assert!(flat(&[32], &[4, 8]).ends_with("not matrices"));
    }

    #[test]
    fn slices_are_cut_alike() {
        let of = |shapes: &[([usize; 2], [usize; 2])]| slices(shapes.iter().map(|(a, b)| (&a[..], &b[..])));
        assert_eq!(of(&[([2, 16], [16, 4]), ([2, 8], [32, 4])]), Some(2));
        assert_eq!(of(&[([1, 16], [16, 4]), ([2, 8], [32, 8])]), Some(4));
        assert_eq!(of(&[([2, 16], [16, 4])]), None, "one module may be wrong for any reason");
        assert_eq!(of(&[([2, 16], [16, 4]), ([4, 8], [32, 4])]), None);
        assert_eq!(of(&[([3, 16], [16, 4]), ([3, 8], [32, 4])]), None);
        assert_eq!(of(&[([4, 16], [16, 4]), ([4, 8], [32, 4])]), None);
        assert_eq!(of(&[([0, 16], [16, 4]), ([0, 8], [32, 4])]), None);
    }
}
