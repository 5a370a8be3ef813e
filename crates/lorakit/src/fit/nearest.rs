//! Similarity of names.

/// The longest name, in bytes, whose distances fit in one word.
const WORD: usize = 128;

/// A name with which others are compared, one after another.
///
/// The similarity is that of `strsim::normalized_levenshtein`. A column of the distance table fits in the bits of a
/// word, so each character of the other name takes a dozen instructions (Myers, 1999; Hyyrö, 2003).
pub(super) struct Nearest<'n> {
    name: &'n str,
    /// Where each ASCII character is in the name; `None` for names that do not fit in a word or are not ASCII.
    places: Option<Box<[u128; 128]>>,
}

impl<'n> Nearest<'n> {
    pub(super) fn to(name: &'n str) -> Self {
        let fits = name.is_ascii() && (1..=WORD).contains(&name.len());
        let places = fits.then(|| {
            let mut places = Box::new([0; 128]);
            name.bytes().enumerate().for_each(|(i, byte)| places[usize::from(byte)] |= 1 << i);
            places
        });
        Nearest { name, places }
    }

    /// The similarity: 1 for the same name, 0 for a name that has nothing in common.
    pub(super) fn likeness(&self, other: &str) -> f64 {
        let Some(places) = &self.places else { return strsim::normalized_levenshtein(self.name, other) };
        let last = 1u128 << (self.name.len() - 1);
        let mut distance = self.name.len();
        let mut length = 0usize;
        let (mut up, mut down) = (u128::MAX, 0u128);
        for character in other.chars() {
            let equal = places.get(character as usize).copied().unwrap_or(0);
            let vertical = equal | down;
            let horizontal = ((equal & up).wrapping_add(up) ^ up) | equal;
            let (mut right, mut left) = (down | !(horizontal | up), up & horizontal);
            distance += usize::from(right & last != 0);
            distance -= usize::from(left & last != 0);
            (right, left) = (right << 1 | 1, left << 1);
            (up, down) = (left | !(vertical | right), right & vertical);
            length += 1;
        }
        1.0 - distance as f64 / length.max(self.name.len()) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn likeness_is_that_of_strsim(name in "[ab.]{0,140}", other in "[abé.]{0,140}", unicode in "[aé]{0,9}") {
            for name in [&name, &unicode] {
                let expected = strsim::normalized_levenshtein(name, &other);
                prop_assert_eq!(Nearest::to(name).likeness(&other), expected);
            }
        }
    }
}
