//! Stacked experts: PEFT's `target_parameters`, and single experts of a base that stores them stacked.
//!
//! For a parameter of `E` experts and rank `r`, PEFT stores `A (r*E, in)` with row `e*r + k`, and `B (out, r*E)`
//! with column `k*E + e` - expert-major and rank-major. Some trainers packed `B` expert-major too, with the same
//! names and shapes. On disk the base may hold `gate_up_proj [E, 2I, H]`, its transpose `[E, H, 2I]`, or one
//! tensor for each expert and projection.

use lorakit_tensor::{DType, TensorInfo};

use super::{BaseView, Change, Edit, Fitting, Misfit, Parameters, Reason};
use crate::ModelConfig;
use crate::adapter::{Adapter, Module};
use crate::plan::LowRank;
use crate::tensor::Factor;

type Fit<T> = std::result::Result<T, Misfit>;

/// How the columns of `B` are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MoeLayout {
    /// What `lora_B_layout` in the configuration says, PEFT's order if it says nothing.
    #[default]
    Auto,
    /// Column `k*E + e`: PEFT.
    RankMajor,
    /// Column `e*r + k`.
    ExpertMajor,
}

crate::choice::choices! { MoeLayout {
    Auto = "auto", "what the configuration says, else PEFT's order";
    RankMajor = "rank_major", "the experts of one rank side by side, as PEFT writes them";
    ExpertMajor = "expert_major", "the ranks of one expert side by side";
} }

/// Parameters of expert modules in the order their classes define them, which is the order PEFT nests them in.
const DEFINITION_ORDER: &[&str] = &["gate_up_proj", "gate_proj", "up_proj", "w1", "w3", "down_proj", "w2"];

/// Names of one expert's tensors, as `(gate, up, down)`.
const SPELLINGS: &[[&str; 3]] = &[["gate_proj", "up_proj", "down_proj"], ["w1", "w3", "w2"]];

/// Edits for a module on stacked experts; `None` if `module` is none.
pub(super) fn fit_experts(
    base: &BaseView<'_>,
    fitting: &Fitting<'_>,
    module: &Module,
) -> Fit<Option<Vec<Edit>>> {
    let Fitting { adapter, parameters, options } = fitting;
    let nested = module.path.matches(".base_layer").count();
    let path = module.path.replace(".base_layer", "");
    if path.rsplit('.').next() != Some("experts") {
        return fit_single_expert(base, module, &path);
    }
    let param = parameter(parameters, module, &path, nested)?;
    let layout = match (options.moe_layout, adapter.config.moe_b_layout.as_deref()) {
        (MoeLayout::Auto, Some("expert_major")) => MoeLayout::ExpertMajor,
        (MoeLayout::Auto, _) => MoeLayout::RankMajor,
        (explicit, _) => explicit,
    };
    if module.magnitude.is_some() {
        return Err(Misfit::new(&module.path, Reason::ExpertDora));
    }
    let stack = Stack::new(module, layout);
    if let Some(edits) = fused(base, adapter, &stack, &path, &param)? {
        return Ok(Some(edits));
    }
    per_expert(base, &stack, &path, &param).map(Some)
}

/// Which parameter the module adapts. Names do not say: PEFT wraps in definition order, the first innermost.
fn parameter(parameters: &Parameters<'_>, module: &Module, path: &str, nested: usize) -> Fit<String> {
    let mut params = parameters.of(path);
    if params.is_empty() {
        params = vec!["gate_up_proj", "down_proj"];
    }
    let order = |p: &&str| DEFINITION_ORDER.iter().position(|d| d == p).unwrap_or(usize::MAX);
    params.sort_by_key(order);
    params.dedup();
    let (times, names) = (nested + 1, params.len());
    let own = names.checked_sub(times).map(|i| params[i].to_string());
    own.ok_or_else(|| Misfit::new(&module.path, Reason::Wrapped { times, names }))
}

/// The stacked weights that the packed `modules` at `path` belong to, where their shapes tell: `gate_up_proj
/// [E, 2I, H]` and `down_proj [E, H, I]`.
///
/// PEFT before 0.19 took such weights for `[E, in, out]` and swapped the roles of A and B; only the two modules
/// together show it.
pub(crate) fn stacked_shapes(
    fitting: &Fitting<'_>,
    modules: &[Module],
    path: &str,
) -> Option<Vec<TensorInfo>> {
    let Fitting { adapter, parameters, .. } = fitting;
    let modern = adapter.config.peft_minor().is_some_and(|version| version >= (0, 19));
    // By parameter: experts, inputs of A and outputs of B.
    let mut found: Vec<(String, [usize; 3])> = Vec::new();
    for module in modules {
        let nested = module.path.matches(".base_layer").count();
        let param = parameter(parameters, module, path, nested).ok()?;
        let experts = module.rank().checked_div(module.config_rank? as usize)?;
        let ((_, inputs), (outputs, _)) = (module.a.info().rows_cols(), module.b.info().rows_cols());
        found.push((param, [experts, inputs, outputs]));
    }
    let of = |name: &str| found.iter().find(|(param, _)| param == name).map(|(_, shape)| *shape);
    let swapped = match (of("gate_up_proj"), of("down_proj")) {
        (Some([_, hidden, double]), Some([_, inner, back])) => {
            match (hidden == back && double == 2 * inner, double == inner && hidden == 2 * back) {
                (true, false) => false,
                (false, true) => true,
                (true, true) => !modern,
                (false, false) => return None,
            }
        }
        _ if modern => false,
        _ => return None,
    };
    let info = |(param, [experts, inputs, outputs]): &(String, [usize; 3])| {
        let (rows, cols) = if swapped { (inputs, outputs) } else { (outputs, inputs) };
        TensorInfo { name: format!("{path}.{param}"), dtype: DType::F32, shape: vec![*experts, *rows, *cols] }
    };
    Some(found.iter().map(info).collect())
}

/// Whether a model stores its stacked experts as `[E, in, out]`: GPT-OSS and Llama 4 do.
pub(crate) fn stacks_transposed(config: Option<&ModelConfig>) -> bool {
    let family = config.and_then(|c| c.model_type()).unwrap_or_default();
    ["gpt_oss", "llama4", "llama4_text"].contains(&family)
}

/// The factors of all experts.
struct Stack<'a> {
    module: &'a Module,
    layout: MoeLayout,
    /// `r * E`.
    ranks: usize,
    inputs: usize,
    outputs: usize,
}

impl<'a> Stack<'a> {
    fn new(module: &'a Module, layout: MoeLayout) -> Self {
        let (ranks, inputs) = module.a.info().rows_cols();
        let (outputs, _) = module.b.info().rows_cols();
        Stack { module, layout, ranks, inputs, outputs }
    }

    /// The rank of one of `experts` experts.
    fn rank(&self, experts: usize) -> Fit<usize> {
        if experts == 0 || !self.ranks.is_multiple_of(experts) {
            return Err(Misfit::new(&self.module.path, Reason::Ranks { rows: self.ranks, experts }));
        }
        Ok(self.ranks / experts)
    }

    /// `(A_e, B_e)` of one expert: `(r, in)` and `(out, r)`.
    fn factors(&self, expert: usize, experts: usize, rank: usize) -> (Factor, Factor) {
        let a =
            Factor::matrix(self.module.a.clone(), self.ranks, self.inputs).take_rows(expert * rank, rank, 1);
        let b = Factor::matrix(self.module.b.clone(), self.outputs, self.ranks);
        let b = match self.layout {
            MoeLayout::ExpertMajor => b.take_cols(expert * rank, rank, 1),
            _ => b.take_cols(expert, rank, experts),
        };
        (a, b)
    }

    fn edit(&self, base: &BaseView<'_>, index: usize, terms: Vec<LowRank>) -> Edit {
        let change = Change::LowRank { terms, dora: None, peft_rounds_delta: true };
        let origin = self.module.path.clone();
        Edit { target: base.tensors[index].name.clone(), base: Some(index), origin, change }
    }
}

/// A base that stores all experts of the parameter in one tensor `[E, d1, d2]`.
fn fused(
    base: &BaseView<'_>,
    adapter: &Adapter,
    stack: &Stack<'_>,
    path: &str,
    param: &str,
) -> Fit<Option<Vec<Edit>>> {
    let names = [format!("{path}.{param}"), format!("{path}.{param}.weight")];
    let Some(index) = names.iter().find_map(|n| find(base, n)) else { return Ok(None) };
    let [experts, d1, d2] = base.tensors[index].shape[..] else { return Ok(None) };
    let rank = stack.rank(experts)?;
    let out_in = (stack.outputs, stack.inputs) == (d1, d2);
    let in_out = (stack.inputs, stack.outputs) == (d1, d2);
    let transposed = match (out_in, in_out) {
        (true, false) => false,
        (false, true) => true,
        // Square: PEFT before 0.19 always took `[E, in, out]`; since then the class decides, and only GPT-OSS
        // and Llama 4 store it so.
        (true, true) => {
            adapter.config.peft_minor().is_none_or(|v| v < (0, 19)) || stacks_transposed(base.config)
        }
        (false, false) => {
            let adapter = vec![experts, stack.outputs, stack.inputs];
            let reason = Reason::Weight { base: base.tensors[index].shape.clone(), adapter };
            return Err(Misfit::new(&stack.module.path, reason));
        }
    };
    let terms = (0..experts).map(|e| {
        let (a, b) = stack.factors(e, experts, rank);
        let (a, b) = if transposed { (b.transposed(), a.transposed()) } else { (a, b) };
        LowRank { rows: e * d1..(e + 1) * d1, b, a, scale: stack.module.scale(rank) }
    });
    Ok(Some(vec![stack.edit(base, index, terms.collect())]))
}

/// A base that stores one tensor for each expert and projection.
fn per_expert(base: &BaseView<'_>, stack: &Stack<'_>, path: &str, param: &str) -> Fit<Vec<Edit>> {
    let name = |e: usize, leaf: &str| format!("{path}.{e}.{leaf}.weight");
    let Some(spelling) = SPELLINGS.iter().find(|s| find(base, &name(0, s[2])).is_some()) else {
        return Err(super::unmatched(&format!("{path}.{param}")));
    };
    let experts = (0..).take_while(|&e| find(base, &name(e, spelling[2])).is_some()).count();
    let rank = stack.rank(experts)?;
    // `gate_up_proj` is gate and up stacked: the upper half of B's rows is the gate's.
    let leaves: &[(&str, usize, usize)] = match param {
        "gate_up_proj" => &[(spelling[0], 0, 2), (spelling[1], 1, 2)],
        "down_proj" | "w2" => &[(spelling[2], 0, 1)],
        "gate_proj" | "w1" => &[(spelling[0], 0, 1)],
        "up_proj" | "w3" => &[(spelling[1], 0, 1)],
        _ => return Err(super::unmatched(&format!("{path}.{param}"))),
    };
    let mut edits = Vec::with_capacity(experts * leaves.len());
    for e in 0..experts {
        for &(leaf, part, parts) in leaves {
            let name = name(e, leaf);
            let index = find(base, &name).ok_or_else(|| super::unmatched(&name))?;
            let term = expert_term(stack, &base.tensors[index], e, experts, rank, (part, parts))?;
            edits.push(stack.edit(base, index, vec![term]));
        }
    }
    Ok(edits)
}

/// The term for one expert's own tensor `[rows, cols]`, part `part` of `parts` of the stacked output.
fn expert_term(
    stack: &Stack<'_>,
    weight: &TensorInfo,
    expert: usize,
    experts: usize,
    rank: usize,
    (part, parts): (usize, usize),
) -> Fit<LowRank> {
    let (rows, cols) = weight.rows_cols();
    let (a, b) = stack.factors(expert, experts, rank);
    // Single experts are `torch.nn.Linear` on disk, whatever the stacked parameter's orientation was: if A and
    // B carry the swapped roles of PEFT before 0.19, the transposed product fits.
    let (a, b) = match () {
        () if (stack.outputs, stack.inputs) == (rows * parts, cols) => (a, b),
        () if (stack.inputs, stack.outputs) == (rows * parts, cols) => (b.transposed(), a.transposed()),
        () => {
            let adapter = vec![stack.outputs / parts, stack.inputs];
            let reason = Reason::OfEachExpert { base: weight.shape.clone(), adapter };
            return Err(Misfit::new(&stack.module.path, reason));
        }
    };
    Ok(LowRank { rows: 0..rows, b: b.take_rows(part * rows, rows, 1), a, scale: stack.module.scale(rank) })
}

/// A module on one expert (`experts.3.w1`) of a base that stores the experts stacked.
fn fit_single_expert(base: &BaseView<'_>, module: &Module, path: &str) -> Fit<Option<Vec<Edit>>> {
    let mut parts = path.rsplitn(3, '.');
    let (leaf, expert, experts) = (parts.next(), parts.next(), parts.next());
    let (Some(leaf), Some(Ok(expert)), Some(experts)) = (leaf, expert.map(str::parse::<usize>), experts)
    else {
        return Ok(None);
    };
    let spelling = SPELLINGS.iter().find_map(|s| s.iter().position(|l| *l == leaf));
    let (Some(role), true) = (spelling, experts.ends_with("experts")) else { return Ok(None) };
    if find(base, &format!("{path}.weight")).is_some() {
        return Ok(None);
    }
    let param = if role == 2 { "down_proj" } else { "gate_up_proj" };
    let Some(index) = find(base, &format!("{experts}.{param}")) else { return Ok(None) };
    let info = &base.tensors[index];
    let [count, d1, d2] = info.shape[..] else { return Ok(None) };
    let halves = if role == 2 { 1 } else { 2 };
    let ((rank, inputs), (outputs, _)) = (module.a.info().rows_cols(), module.b.info().rows_cols());
    if expert >= count || (outputs * halves, inputs) != (d1, d2) || module.magnitude.is_some() {
        let reason = Reason::OfOneExpert { base: info.shape.clone(), adapter: vec![outputs, inputs] };
        return Err(Misfit::new(&module.path, reason));
    }
    let first = expert * d1 + if role == 1 { outputs } else { 0 };
    let term = LowRank {
        rows: first..first + outputs,
        b: Factor::matrix(module.b.clone(), outputs, rank),
        a: Factor::matrix(module.a.clone(), rank, inputs),
        scale: module.scale(rank),
    };
    let change = Change::LowRank { terms: vec![term], dora: None, peft_rounds_delta: true };
    let origin = module.path.clone();
    Ok(Some(vec![Edit { target: info.name.clone(), base: Some(index), origin, change }]))
}

fn find(base: &BaseView<'_>, name: &str) -> Option<usize> {
    match base.index.resolve(name, |_| true) {
        super::Found::One(index) => Some(index),
        _ => None,
    }
}
