//! Experts: `experts.3.w1` for one, `experts.gate_up_proj` for all of a layer.

use super::path::last;

/// The module that holds the experts of a layer.
pub(crate) const EXPERTS: &str = "experts";

/// The layer that chooses experts.
pub(crate) const ROUTER: &str = "gate";

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

/// Modules that hold all experts of a layer in their `weight`, beside the modules of other layers, and what
/// transformers 5 calls that parameter.
const OWN_MODULES: &[(&str, &str)] =
    &[("input_linear", "experts.gate_up_proj"), ("output_linear", "experts.down_proj")];

/// Lists of one linear layer for each expert, in the place of a parameter: `experts.gate_up_projs.3`.
const LISTS: &[(&str, &str)] = &[("gate_up_projs", "gate_up_proj"), ("down_projs", "down_proj")];

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
    Stack { name: "input_linear", parts: &[Gate, Up] },
    Stack { name: "output_linear", parts: &[Down] },
];

/// Parameters of expert classes, stacks or not, in the order of definition.
const IN_CLASS: &[&str] = &[
    "gate_up_proj",
    "gate_up_proj_bias",
    "gate_proj",
    "up_proj",
    "w1",
    "v1",
    "w3",
    "down_proj",
    "down_proj_bias",
    "w2",
];

/// The stacks of transformers 5: gate and up in one, and down.
pub(crate) const STACKS: [Stack; 2] = [ALL_STACKS[0], ALL_STACKS[5]];

/// Whether the module at that path holds the experts of a layer.
pub(crate) fn is_experts(path: &str) -> bool {
    last(path) == EXPERTS
}

/// Whether the module at that path holds experts, or is inside one that does.
pub(crate) fn holds_experts(path: &str) -> bool {
    path.split('.').any(|component| component == EXPERTS)
}

/// The stack with that parameter name.
pub(crate) fn stack_of(parameter: &str) -> Option<Stack> {
    ALL_STACKS.iter().copied().find(|stack| stack.name == parameter)
}

/// The stack that a parameter of the module `layer` is.
pub(crate) fn stack_in(layer: &str, parameter: &str) -> Option<Stack> {
    if parameter == "weight" {
        let own = OWN_MODULES.iter().any(|(module, _)| *module == last(layer));
        return stack_of(last(layer)).filter(|_| own);
    }
    stack_of(parameter).filter(|_| is_experts(layer))
}

/// The place of a parameter in the order in which expert classes define theirs.
pub(crate) fn place_in_class(parameter: &str) -> usize {
    IN_CLASS.iter().position(|name| *name == parameter).unwrap_or(IN_CLASS.len())
}

/// The parameter of transformers 5 that the `weight` of the module at `path` is: `m.experts.gate_up_proj` for
/// `m.input_linear`.
pub(crate) fn as_parameter(path: &str) -> Option<String> {
    let (parent, module) = path.rsplit_once('.').unwrap_or(("", path));
    let (_, parameter) = OWN_MODULES.iter().find(|(own, _)| *own == module)?;
    Some(if parent.is_empty() { parameter.to_string() } else { format!("{parent}.{parameter}") })
}

/// The experts' module, the expert's number and the parameter, for one layer of a list: `mlp.experts`, 3 and
/// `gate_up_proj` for `mlp.experts.gate_up_projs.3`.
pub(crate) fn listed(path: &str) -> Option<(&str, usize, &'static str)> {
    let (list, number) = path.rsplit_once('.')?;
    let (experts, list) = list.rsplit_once('.')?;
    let (_, parameter) = LISTS.iter().find(|(name, _)| *name == list)?;
    is_experts(experts).then_some((experts, number.parse().ok()?, parameter))
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
        for stack in ALL_STACKS {
            assert_eq!(stack_of(stack.name), Some(*stack));
        }
        assert_eq!(stack_in("m.0.block_sparse_moe.output_linear", "weight").unwrap().parts, [Down]);
        assert_eq!(stack_in("m.0.mlp.down_proj", "weight"), None);
        assert_eq!(stack_in("m.0.mlp", "down_proj"), None);
        let granite = as_parameter("m.0.block_sparse_moe.input_linear");
        assert_eq!(granite.as_deref(), Some("m.0.block_sparse_moe.experts.gate_up_proj"));
        assert_eq!(listed("m.0.mlp.experts.down_projs.12"), Some(("m.0.mlp.experts", 12, "down_proj")));
        assert_eq!(listed("m.0.mlp.experts.down_projs.x"), None);
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
