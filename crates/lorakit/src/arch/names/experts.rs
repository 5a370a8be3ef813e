//! Experts: `experts.3.w1` for one, `experts.gate_up_proj` for all of a layer.

use super::path::last;

/// The module that holds the experts of a layer.
pub(crate) const EXPERTS: &str = "experts";

/// The role of one matrix of an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projection {
    Gate,
    Up,
    Down,
}

use Projection::{Down, Gate, Up};

/// Words for gate, up and down: first those of most families, then Mixtral's.
const WORDS: &[[&str; 3]] = &[["gate_proj", "up_proj", "down_proj"], ["w1", "w3", "w2"]];

/// The module inside which Mixtral's words are used.
const OF_MIXTRAL: &str = "block_sparse_moe";

/// A parameter that holds a matrix of every expert, and the projections that make up its rows, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    pub(crate) parts: &'static [Projection],
}

/// Every stack, in the order in which expert classes define their parameters, which is also the order in which PEFT
/// nests them.
const ALL_STACKS: &[Stack] = &[
    Stack { name: "gate_up_proj", parts: &[Gate, Up] },
    Stack { name: "gate_proj", parts: &[Gate] },
    Stack { name: "up_proj", parts: &[Up] },
    Stack { name: "w1", parts: &[Gate] },
    Stack { name: "w3", parts: &[Up] },
    Stack { name: "down_proj", parts: &[Down] },
    Stack { name: "w2", parts: &[Down] },
];

/// The stacks of transformers 5: gate and up in one, and down.
pub(crate) const STACKS: [Stack; 2] = [ALL_STACKS[0], ALL_STACKS[5]];

/// Whether the module at that path holds the experts of a layer.
pub(crate) fn is_experts(path: &str) -> bool {
    last(path) == EXPERTS
}

/// The stack with that parameter name, and its place in the order of definition.
pub(crate) fn stack_of(parameter: &str) -> Option<(usize, Stack)> {
    ALL_STACKS.iter().copied().enumerate().find(|(_, stack)| stack.name == parameter)
}

/// The stack of transformers 5 that contains a projection, and the place of the projection in it.
pub(crate) fn stacks_of(projection: Projection) -> impl Iterator<Item = (Stack, usize)> {
    let place = move |stack: &Stack| stack.parts.iter().position(|part| *part == projection);
    STACKS.into_iter().filter_map(move |stack| Some((stack, place(&stack)?)))
}

/// The experts' module, the expert's number and the rest of the path: `mlp.experts`, 3, `w1` for `mlp.experts.3.w1`.
pub(crate) fn expert_of(path: &str) -> Option<(&str, usize, &str)> {
    let (before, leaf) = path.rsplit_once('.')?;
    let (experts, number) = before.rsplit_once('.')?;
    is_experts(experts).then_some((experts, number.parse().ok()?, leaf))
}

/// The projection that a word for a matrix of one expert means, in any vocabulary.
pub(crate) fn projection(leaf: &str) -> Option<Projection> {
    let place = WORDS.iter().find_map(|words| words.iter().position(|word| *word == leaf))?;
    [Gate, Up, Down].get(place).copied()
}

/// Every vocabulary for the projections of single experts, each as a function.
pub(crate) fn single_words() -> impl Iterator<Item = impl Fn(Projection) -> &'static str> {
    WORDS.iter().map(|words| move |projection: Projection| words[projection as usize])
}

/// The word for a projection of a single expert in most families.
pub(crate) fn usual_name(projection: Projection) -> &'static str {
    WORDS[0][projection as usize]
}

/// The words for projections of single experts in the family to which the path `experts` belongs.
pub(crate) fn single_names(experts: &str) -> impl Fn(Projection) -> &'static str + use<> {
    let words = if experts.split('.').any(|component| component == OF_MIXTRAL) { WORDS[1] } else { WORDS[0] };
    move |projection| words[projection as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_told_by_whole_components() {
        assert_eq!(expert_of("m.0.mlp.experts.12.w1"), Some(("m.0.mlp.experts", 12, "w1")));
        assert_eq!(expert_of("m.0.mlp.shared_experts.1.w1"), None);
        assert_eq!(expert_of("m.0.mlp.experts.x.w1"), None);
        assert!(is_experts("experts") && !is_experts("mlp.shared_experts") && !is_experts("experts.0"));
    }

    #[test]
    fn stacks_and_single_experts_are_one_table() {
        for (place, stack) in ALL_STACKS.iter().enumerate() {
            assert_eq!(stack_of(stack.name), Some((place, *stack)));
        }
        for each in [Gate, Up, Down] {
            let (stack, place) = stacks_of(each).next().unwrap();
            assert_eq!(stack.parts[place], each);
            for words in single_words() {
                assert_eq!(projection(words(each)), Some(each));
            }
        }
        assert_eq!(single_names("m.0.block_sparse_moe.experts")(Up), "w3");
        assert_eq!(single_names("m.0.mlp.experts")(Down), "down_proj");
    }
}
