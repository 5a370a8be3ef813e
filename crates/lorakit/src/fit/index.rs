//! Finding a base tensor by the name an adapter gives it.

use std::collections::HashMap;
use std::sync::OnceLock;

use lorakit_tensor::TensorInfo;

use super::nearest::Nearest;

/// Names of the base's tensors.
#[derive(Debug)]
pub(crate) struct TensorIndex<'a> {
    tensors: &'a [TensorInfo],
    by_name: HashMap<&'a str, usize>,
    /// Positions in the order of the names read backwards, in which those with one ending stand together.
    backwards: OnceLock<Vec<usize>>,
}

/// What a look-up found.
#[derive(Debug, PartialEq)]
pub(super) enum Found<'a> {
    None,
    One(usize),
    Many(Vec<&'a str>),
}

/// Prefixes that libraries add and drop: `transformers` renames between versions, multimodal wrappers.
const PREFIXES: &[&str] = &[
    "",
    "model.",
    "language_model.",
    "language_model.model.",
    "model.language_model.",
    "transformer.",
    "base_model.",
];

impl<'a> TensorIndex<'a> {
    /// An index of these tensors.
    pub(crate) fn new(tensors: &'a [TensorInfo]) -> Self {
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        TensorIndex { tensors, by_name, backwards: OnceLock::new() }
    }

    /// The tensor of exactly that name.
    pub(crate) fn exact(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The tensor that `name` means: exact, then with known prefixes swapped, then by its ending. Candidates
    /// that `fits` refuses are not considered, unless there is no other.
    pub(super) fn resolve(&self, name: &str, fits: impl Fn(&TensorInfo) -> bool) -> Found<'a> {
        if let Some(index) = self.exact(name) {
            return Found::One(index);
        }
        let linear = name.strip_suffix(".weight").map(|module| format!("{module}.linear.weight"));
        if let Some(index) = linear.and_then(|name| self.exact(&name)) {
            return Found::One(index);
        }
        let mut swapped: Vec<usize> = Vec::new();
        for old in PREFIXES {
            let Some(bare) = name.strip_prefix(old) else { continue };
            swapped.extend(PREFIXES.iter().filter_map(|new| self.exact(&format!("{new}{bare}"))));
        }
        swapped.sort_unstable();
        swapped.dedup();
        if !swapped.is_empty() {
            return self.choose(&swapped, &fits);
        }
        let bare =
            PREFIXES.iter().filter_map(|p| name.strip_prefix(p)).min_by_key(|n| n.len()).unwrap_or(name);
        // An ending of two components at least: `weight` alone would match anything.
        if bare.matches('.').count() < 2 {
            return Found::None;
        }
        self.choose(&self.ending_in(&format!(".{bare}")), &fits)
    }

    /// The tensors whose names end so, in file order.
    fn ending_in(&self, ending: &str) -> Vec<usize> {
        let name = |i: usize| self.tensors[i].name.as_str();
        let backwards = self.backwards.get_or_init(|| {
            let mut order: Vec<usize> = (0..self.tensors.len()).collect();
            order.sort_by(|&a, &b| name(a).bytes().rev().cmp(name(b).bytes().rev()));
            order
        });
        let first = backwards.partition_point(|&i| name(i).bytes().rev().lt(ending.bytes().rev()));
        let found = backwards[first..].iter().copied().take_while(|&i| name(i).ends_with(ending));
        let mut found: Vec<usize> = found.collect();
        found.sort_unstable();
        found
    }

    fn choose(&self, candidates: &[usize], fits: &impl Fn(&TensorInfo) -> bool) -> Found<'a> {
        let fitting: Vec<usize> = candidates.iter().copied().filter(|&i| fits(&self.tensors[i])).collect();
        match (candidates, fitting.as_slice()) {
            ([], _) => Found::None,
            (_, [one]) | ([one], []) => Found::One(*one),
            (many, _) => Found::Many(many.iter().map(|&i| self.tensors[i].name.as_str()).collect()),
        }
    }

    /// The name most like `name`, for messages: a look at every name.
    pub(super) fn nearest(&self, name: &str) -> Option<&'a str> {
        let nearest = Nearest::to(name);
        let score = |t: &&TensorInfo| (nearest.likeness(&t.name) * 1e6) as u64;
        self.tensors.iter().max_by_key(score).map(|t| t.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorakit_tensor::DType;

    fn tensors(names: &[&str]) -> Vec<TensorInfo> {
        let info = |n: &&str| TensorInfo { name: n.to_string(), dtype: DType::F32, shape: vec![2, 2] };
        names.iter().map(info).collect()
    }

    #[test]
    fn prefixes_are_swapped_and_endings_must_be_unique() {
        let t =
            tensors(&["language_model.model.layers.0.q.weight", "vision.layers.0.k.weight", "h.0.c.weight"]);
        let index = TensorIndex::new(&t);
        assert_eq!(index.resolve("model.layers.0.q.weight", |_| true), Found::One(0));
        assert_eq!(index.resolve("transformer.h.0.c.weight", |_| true), Found::One(2));
        assert_eq!(index.resolve("model.layers.0.k.weight", |_| true), Found::One(1));
        assert_eq!(index.resolve("model.layers.0.v.weight", |_| true), Found::None);
    }

    #[test]
    fn endings_are_found_in_file_order() {
        let names = ["x.b.c", "b.c", "a.b.c", "a.bb.c", ".b.c", "c", "y.b.cc", "é.b.c"];
        let t = tensors(&names);
        let index = TensorIndex::new(&t);
        for ending in [".b.c", ".c", ".cc", "c", "", ".d", "é.b.c"] {
            let expected: Vec<usize> = (0..names.len()).filter(|&i| names[i].ends_with(ending)).collect();
            assert_eq!(index.ending_in(ending), expected, "{ending}");
        }
    }

    #[test]
    fn two_homes_are_reported_unless_the_shape_decides() {
        let mut t = tensors(&["a.layers.0.q.weight", "b.layers.0.q.weight"]);
        let index = TensorIndex::new(&t);
        assert!(matches!(index.resolve("layers.0.q.weight", |_| true), Found::Many(n) if n.len() == 2));
        t[1].shape = vec![3, 3];
        let index = TensorIndex::new(&t);
        assert_eq!(index.resolve("layers.0.q.weight", |t| t.shape == [3, 3]), Found::One(1));
    }
}
