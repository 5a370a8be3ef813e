//! Parameters of a base that are one tensor, by the class of the model: an embedding and what shares its values.

use lorakit_tensor::TensorInfo;

use super::index::{Found, Index};
use crate::arch::names::{self, Tie, Ties, is_embedding, is_head, module_of};
use crate::model::ModelConfig;

/// Parameters with the same values. A file need not hold more than one of them.
#[derive(Debug)]
pub(crate) struct TiedSet {
    /// First the one that the others take their values from.
    pub(crate) members: Vec<Member>,
}

/// A parameter of a [`TiedSet`].
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name, as the base spells names.
    pub(crate) name: String,
    /// The tensor, if the base holds it.
    pub(crate) stored: Option<usize>,
    /// Whether it is the weight of an output.
    pub(crate) output: bool,
}

impl TiedSet {
    /// The sets among these tensors; `None` if the class of the model is not known, or not by these names.
    pub(super) fn all(
        index: &Index<'_>,
        tensors: &[TensorInfo],
        config: Option<&ModelConfig>,
    ) -> Option<Vec<Self>> {
        let known = match config.map_or(Ties::Unknown, ModelConfig::ties) {
            Ties::None => return Some(Vec::new()),
            Ties::Known(classes) => classes,
            Ties::Unknown => Vec::new(),
        };
        // Of the classes that could be meant, the first that has the most of these names.
        let sets = known.iter().rev().map(|ties| Self::of_class(index, tensors, ties));
        let named = |sets: &Vec<Self>| {
            sets.iter().flat_map(|set| &set.members).filter(|m| m.stored.is_some()).count()
        };
        let best = sets.max_by_key(named).filter(|sets| !sets.is_empty());
        best.or_else(|| Self::usual(tensors).map(|set| vec![set]))
    }

    fn of_class(index: &Index<'_>, tensors: &[TensorInfo], ties: &[Tie]) -> Vec<Self> {
        let mut sources: Vec<&str> = ties.iter().map(|tie| tie.source).collect();
        sources.sort_unstable();
        sources.dedup();
        let set = |source: &str| {
            let members = ties.iter().filter(|tie| tie.source == source).map(|tie| tie.name);
            let stored = |name| match index.named(name) {
                Found::One(place) => Some(place),
                _ => None,
            };
            let members: Vec<(&str, Option<usize>)> =
                [source].into_iter().chain(members).map(|name| (name, stored(name))).collect();
            let known =
                members.iter().find_map(|(name, place)| Some((*name, tensors[(*place)?].name.as_str())));
            let known = known?;
            let member = |(name, stored): &(&str, Option<usize>)| Member {
                name: stored.map_or_else(|| names::respelt(name, known), |place| tensors[place].name.clone()),
                stored: *stored,
                output: name.ends_with(".weight") && names::is_output(name),
            };
            Some(TiedSet { members: members.iter().map(member).collect() })
        };
        sources.into_iter().filter_map(set).collect()
    }

    /// The set of a model of unknown class, by names that most models use; `None` if no tensor or several could be the
    /// input embedding.
    fn usual(tensors: &[TensorInfo]) -> Option<Self> {
        let weight = |t: &TensorInfo| t.name.strip_suffix(".weight").unwrap_or_default().to_string();
        let mut embeddings = tensors.iter().enumerate().filter(|(_, t)| is_embedding(&weight(t)));
        let (Some((embedding, info)), None) = (embeddings.next(), embeddings.next()) else { return None };
        let head = tensors.iter().position(|t| is_head(&weight(t)));
        let usual = || format!("{}.weight", names::head_of(module_of(&info.name)));
        let name = head.map_or_else(usual, |head| tensors[head].name.clone());
        let input = Member { name: info.name.clone(), stored: Some(embedding), output: false };
        Some(TiedSet { members: vec![input, Member { name, stored: head, output: true }] })
    }

    /// Whether these are weights and not biases.
    pub(crate) fn is_of_weights(&self) -> bool {
        self.members.iter().any(|member| member.name.ends_with(".weight"))
    }

    /// The tensor whose values all have that are not stored.
    pub(crate) fn anchor(&self) -> usize {
        self.members.iter().find_map(|member| member.stored).unwrap_or_default()
    }

    /// The output.
    pub(crate) fn output(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.output)
    }

    /// The place of a parameter that no layer computes with: one that only hands its values to the embeddings of encoder
    /// and decoder.
    pub(crate) fn idle(&self) -> Option<usize> {
        let copies = self.members.iter().skip(1).filter(|member| !member.output).count();
        (copies > 0 && names::only_hands_on(&self.members.first()?.name)).then_some(0)
    }

    /// The member that is called `name`, in any spelling.
    pub(crate) fn find(&self, name: &str) -> Option<&Member> {
        let meaning = names::meaning(name);
        let named = self.members.iter().find(|member| names::meaning(&member.name) == meaning);
        let is_output = || name.strip_suffix(".weight").is_some_and(is_head);
        named.or_else(|| self.output().filter(|_| is_output()))
    }
}
