//! Pairing names of two lists that mean the same thing.

use std::collections::{HashMap, HashSet};

use super::spelling::meaning;

/// Pairs names of `a` with names of `b`, by exact name or else by meaning. Pairs are in the order of `a`, followed by
/// names that only `b` has.
///
/// Two names of one file are different things, and a name that could mean either of two is not paired.
pub(crate) fn pairs(a: &[&str], b: &[&str]) -> Vec<(Option<usize>, Option<usize>)> {
    let exact: HashMap<&str, usize> = b.iter().enumerate().rev().map(|(j, name)| (*name, j)).collect();
    let known: HashSet<&str> = a.iter().copied().collect();
    let mut taken = vec![false; b.len()];
    let mut found: Vec<Option<usize>> = a.iter().map(|name| exact.get(name).copied()).collect();
    found.iter().flatten().for_each(|&j| taken[j] = true);
    let loose = b.iter().enumerate().filter(|(_, name)| !known.contains(*name));
    let loose = by_meaning(loose.map(|(j, name)| (j, *name)));
    let open = found.iter().zip(a).enumerate().filter(|(_, (found, _))| found.is_none());
    let open: Vec<(usize, &str)> = open.map(|(i, (_, name))| (i, *name)).collect();
    let meant = by_meaning(open.iter().copied());
    for (i, name) in open {
        let meaning = meaning(name);
        if let (Some(Some(_)), Some(Some(j))) = (meant.get(&meaning), loose.get(&meaning)) {
            found[i] = Some(*j);
            taken[*j] = true;
        }
    }
    let mut pairs: Vec<(Option<usize>, Option<usize>)> =
        found.into_iter().enumerate().map(|(i, j)| (Some(i), j)).collect();
    pairs.extend((0..b.len()).filter(|&j| !taken[j]).map(|j| (None, Some(j))));
    pairs
}

/// The place of each meaning; `None` if several names share it.
fn by_meaning<'a>(
    names: impl Iterator<Item = (usize, &'a str)>,
) -> HashMap<std::borrow::Cow<'a, str>, Option<usize>> {
    let mut places = HashMap::new();
    for (place, name) in names {
        places.entry(meaning(name)).and_modify(|known| *known = None).or_insert(Some(place));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paired_also_behind_prefixes() {
        let a = ["model.layers.0.q", "model.norm", "lm_head"];
        let b = ["lm_head", "language_model.model.layers.0.q", "extra", "model.norm"];
        let expected = [(Some(0), Some(1)), (Some(1), Some(3)), (Some(2), Some(0)), (None, Some(2))];
        assert_eq!(pairs(&a, &b), expected);
        // Two spellings in one file are different things.
        assert_eq!(pairs(&["x.q"], &["model.x.q", "x.q"]), [(Some(0), Some(1)), (None, Some(0))]);
        assert_eq!(pairs(&["model.x.q", "x.q"], &["x.q"]), [(Some(0), None), (Some(1), Some(0))]);
        let moe = ["block_sparse_moe.experts.0.w1"];
        assert_eq!(pairs(&moe, &["model.mlp.experts.0.gate_proj"]), [(Some(0), Some(0))]);
    }

    #[test]
    fn a_name_that_could_be_either_is_none() {
        let unpaired = [(Some(0), None), (None, Some(0)), (None, Some(1))];
        assert_eq!(pairs(&["x.q"], &["model.x.q", "transformer.x.q"]), unpaired);
        let both = pairs(&["model.x.q", "transformer.x.q"], &["x.q"]);
        assert_eq!(both, [(Some(0), None), (Some(1), None), (None, Some(0))]);
    }
}
