//! Finding a base tensor by the name that an adapter gives it.

use std::collections::HashMap;
use std::sync::OnceLock;

use lorakit_tensor::TensorInfo;

use super::nearest::Nearest;
use crate::arch::names;

/// An index of the base's tensors by name.
#[derive(Debug)]
pub(super) struct Index<'a> {
    tensors: &'a [TensorInfo],
    by_name: HashMap<&'a str, usize>,
    /// Tensors whose names mean the same.
    by_meaning: OnceLock<HashMap<String, Vec<usize>>>,
    /// Positions, sorted by the names read backwards, so names with the same ending are neighbours.
    backwards: OnceLock<Vec<usize>>,
}

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Nothing in the base.
    Absent,
    /// This tensor.
    One(usize),
    /// Any of these tensors.
    Several(Vec<&'a str>),
}

impl<'a> Index<'a> {
    pub(super) fn new(tensors: &'a [TensorInfo]) -> Self {
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        Index { tensors, by_name, by_meaning: OnceLock::new(), backwards: OnceLock::new() }
    }

    /// The tensor of exactly that name.
    pub(super) fn exact(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The tensor that has `name`, in any spelling.
    pub(super) fn named(&self, name: &str) -> Found<'a> {
        if let Some(index) = self.exact(name) {
            return Found::One(index);
        }
        let same = self.by_meaning().get(names::meaning(name).as_ref());
        same.map_or(Found::Absent, |same| self.choose(same, &|_| true))
    }

    /// The tensor that `name` means: an exact match, then another spelling, then the same ending. Candidates that
    /// `fits` refuses are considered only if there is no other.
    pub(super) fn resolve(&self, name: &str, fits: impl Fn(&TensorInfo) -> bool) -> Found<'a> {
        if let Some(index) = self.exact(name) {
            return Found::One(index);
        }
        let linear = name.strip_suffix(".weight").map(|module| format!("{module}.linear.weight"));
        if let Some(index) = linear.and_then(|name| self.exact(&name)) {
            return Found::One(index);
        }
        if let Some(same) = self.by_meaning().get(names::meaning(name).as_ref()) {
            return self.choose(same, &fits);
        }
        let bare = names::bare(name);
        // An ending of at least two components: `weight` alone would match anything.
        if bare.matches('.').count() < 2 {
            return Found::Absent;
        }
        self.choose(&self.ending_in(&format!(".{bare}")), &fits)
    }

    fn by_meaning(&self) -> &HashMap<String, Vec<usize>> {
        self.by_meaning.get_or_init(|| {
            let mut places: HashMap<String, Vec<usize>> = HashMap::new();
            for (i, info) in self.tensors.iter().enumerate() {
                places.entry(names::meaning(&info.name).into_owned()).or_default().push(i);
            }
            places
        })
    }

    /// The tensors whose names end in `ending`, in file order.
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
            ([], _) => Found::Absent,
            (_, [one]) | ([one], []) => Found::One(*one),
            (many, _) => Found::Several(many.iter().map(|&i| self.tensors[i].name.as_str()).collect()),
        }
    }

    /// The name most similar to `name`, for messages; compares every name.
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
        let index = Index::new(&t);
        assert_eq!(index.resolve("model.layers.0.q.weight", |_| true), Found::One(0));
        assert_eq!(index.resolve("transformer.h.0.c.weight", |_| true), Found::One(2));
        assert_eq!(index.resolve("model.layers.0.k.weight", |_| true), Found::One(1));
        assert_eq!(index.resolve("model.layers.0.v.weight", |_| true), Found::Absent);
        // One component could be anywhere.
        assert_eq!(index.resolve("k.weight", |_| true), Found::Absent);
        assert_eq!(index.resolve("0.k.weight", |_| true), Found::One(1));
    }

    #[test]
    fn names_of_another_version_of_transformers_are_found() {
        let t = tensors(&[
            "model.layers.0.block_sparse_moe.gate.weight",
            "model.layers.0.block_sparse_moe.experts.0.w1.weight",
            "down_blocks.0.q.weight",
        ]);
        let index = Index::new(&t);
        assert_eq!(index.resolve("model.layers.0.mlp.gate.weight", |_| true), Found::One(0));
        assert_eq!(index.resolve("layers.0.mlp.experts.0.gate_proj.weight", |_| true), Found::One(1));
        assert_eq!(index.resolve("unet.down_blocks.0.q.weight", |_| true), Found::One(2));
    }

    #[test]
    fn endings_are_found_in_file_order() {
        let names = ["x.b.c", "b.c", "a.b.c", "a.bb.c", ".b.c", "c", "y.b.cc", "é.b.c"];
        let t = tensors(&names);
        let index = Index::new(&t);
        for ending in [".b.c", ".c", ".cc", "c", "", ".d", "é.b.c"] {
            let expected: Vec<usize> = (0..names.len()).filter(|&i| names[i].ends_with(ending)).collect();
            assert_eq!(index.ending_in(ending), expected, "{ending}");
        }
    }

    #[test]
    fn two_homes_are_reported_unless_the_shape_decides() {
        let mut t = tensors(&["a.layers.0.q.weight", "b.layers.0.q.weight"]);
        let index = Index::new(&t);
        assert!(matches!(index.resolve("layers.0.q.weight", |_| true), Found::Several(n) if n.len() == 2));
        t[1].shape = vec![3, 3];
        let index = Index::new(&t);
        assert_eq!(index.resolve("layers.0.q.weight", |t| t.shape == [3, 3]), Found::One(1));
    }
}
