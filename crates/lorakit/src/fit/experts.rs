//! Stacked experts: PEFT's `target_parameters`, and single experts of a base that stores them stacked.
//!
//! For a parameter of `E` experts and rank `r`, PEFT stores `A (r*E, in)` with row `e*r + k`, and `B (out, r*E)`
//! with column `k*E + e` - expert-major and rank-major. Some trainers packed `B` expert-major too, with the same
//! names and shapes. On disk, the base may hold `gate_up_proj [E, 2I, H]`, its transpose `[E, H, 2I]`, or one
//! tensor per expert and projection.

use std::ops::Range;

use lorakit_tensor::{DType, TensorInfo};

use super::edit::{Change, Edit, Fitting, MoeLayout};
use super::index::Found;
use super::misfit::{Misfit, ambiguous, unmatched};
use super::problem::Reason;
use super::resolver::{Home, Resolver};
use crate::TensorRef;
use crate::adapter::{Adapter, Experts, Module};
use crate::arch::names::{self, STACKS};
use crate::plan::LowRank;
use crate::tensor::Factor;

type Fit<T> = std::result::Result<T, Misfit>;

/// Edits for a module on stacked experts; `None` if `module` is not one.
pub(super) fn fit_experts(
    base: &Resolver<'_>,
    fitting: &Fitting<'_>,
    module: &Module,
) -> Fit<Option<Vec<Edit>>> {
    let Fitting { adapter, options, .. } = fitting;
    let (Some(_), Some(layer), Some(param)) = (module.experts, module.layer(), module.parameter.as_deref())
    else {
        return match names::listed(&module.path) {
            Some(listed) => fit_listed(base, module, listed),
            None => fit_single_expert(base, module, &module.path),
        };
    };
    let layout = match options.moe_layout {
        MoeLayout::Auto if adapter.config.has_expert_major() => MoeLayout::ExpertMajor,
        MoeLayout::Auto => MoeLayout::RankMajor,
        explicit => explicit,
    };
    if module.magnitude.is_some() {
        return Err(Misfit::new(&module.path, Reason::ExpertDora));
    }
    let factors = Factors::new(module, layout);
    match base.stack(&layer, param) {
        Found::One(index) => stacked(base, adapter, &factors, index).map(Some),
        Found::Several(found) => Err(ambiguous(&format!("{layer}.{param}"), &found)),
        Found::Absent => single(base, &factors, &layer, param).map(Some),
    }
}

/// The stacked weights that the packed `modules` at `path` belong to, where their shapes tell: `gate_up_proj
/// [E, 2I, H]` and `down_proj [E, H, I]`.
///
/// PEFT before 0.19 took such weights to be `[E, in, out]` and swapped the roles of A and B; only the two modules
/// together show that.
pub(crate) fn stacked_shapes(
    fitting: &Fitting<'_>,
    modules: &[Module],
    path: &str,
) -> Option<Vec<TensorInfo>> {
    let adapter = fitting.adapter;
    let modern = adapter.config.peft_minor().is_some_and(|version| version >= (0, 19));
    // By parameter: experts, inputs of A and outputs of B.
    let mut found: Vec<(String, [usize; 3])> = Vec::new();
    for module in modules {
        let param = module.parameter.clone()?;
        let experts = module.rank().checked_div(module.config_rank? as usize)?;
        let ((_, inputs), (outputs, _)) = (module.a.info().rows_cols(), module.b.info().rows_cols());
        found.push((param, [experts, inputs, outputs]));
    }
    let of = |name: &str| found.iter().find(|(param, _)| param == name).map(|(_, shape)| *shape);
    let [inwards, back] = STACKS.map(|stack| of(stack.name));
    let swapped = match (inwards, back) {
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

/// The factors of all experts.
struct Factors<'a> {
    module: &'a Module,
    layout: MoeLayout,
    /// `r * E`, or `r` for one expert.
    ranks: usize,
    inputs: usize,
    outputs: usize,
    /// The one expert that they are of.
    only: Option<usize>,
}

impl<'a> Factors<'a> {
    fn new(module: &'a Module, layout: MoeLayout) -> Self {
        let (ranks, inputs) = module.a.info().rows_cols();
        let (outputs, _) = module.b.info().rows_cols();
        let only = match module.experts {
            Some(Experts::One { expert, .. }) => Some(expert),
            _ => None,
        };
        Factors { module, layout, ranks, inputs, outputs, only }
    }

    /// Whether they change the expert of `home`.
    fn reach(&self, home: &Home) -> bool {
        self.only.is_none_or(|only| only == home.expert)
    }

    /// The rank of each of `experts` experts.
    fn rank(&self, experts: usize) -> Fit<usize> {
        if self.only.is_some() {
            return Ok(self.ranks);
        }
        if experts == 0 || !self.ranks.is_multiple_of(experts) {
            return Err(Misfit::new(&self.module.path, Reason::Ranks { rows: self.ranks, experts }));
        }
        Ok(self.ranks / experts)
    }

    /// The term that the expert of `home`, one of `experts`, adds there. The weight is stored in the orientation of
    /// the factors, or in the opposite one if it is `transposed`.
    fn term(&self, home: &Home, experts: usize, transposed: bool) -> Fit<LowRank> {
        let rank = self.rank(experts)?;
        let first = if self.only.is_some() { 0 } else { home.expert * rank };
        let a = Factor::matrix(self.module.a.clone(), self.ranks, self.inputs).take_rows(first, rank, 1);
        let b = Factor::matrix(self.module.b.clone(), self.outputs, self.ranks);
        let b = match self.layout {
            _ if self.only.is_some() => b,
            MoeLayout::ExpertMajor => b.take_cols(first, rank, 1),
            _ => b.take_cols(home.expert, rank, experts),
        };
        let (a, b) = if transposed { (b.transposed(), a.transposed()) } else { (a, b) };
        let b = b.take_rows(home.part.0 * home.rows.len(), home.rows.len(), 1);
        Ok(LowRank { rows: home.rows.clone(), b, a, scale: self.module.scale(rank) * self.module.strength })
    }
}

fn edit(base: &Resolver<'_>, index: usize, module: &Module, terms: Vec<LowRank>) -> Edit {
    let change = Change::LowRank { terms, dora: None, peft_rounds_delta: true, initial: None };
    let origin = module.path.clone();
    Edit { target: base.tensors[index].name.clone(), base: Some(index), origin, change }
}

/// A base that stores all experts of the parameter in one tensor `[E, d1, d2]`.
fn stacked(base: &Resolver<'_>, adapter: &Adapter, factors: &Factors<'_>, index: usize) -> Fit<Vec<Edit>> {
    let shape = &base.tensors[index].shape;
    let homes = base.in_stack(index);
    let experts = homes.len();
    let (out_in, in_out) =
        ([experts, factors.outputs, factors.inputs], [experts, factors.inputs, factors.outputs]);
    factors.rank(experts)?;
    let transposed = match (*shape == out_in, *shape == in_out) {
        (true, false) => false,
        (false, true) => true,
        // Square: PEFT before 0.19 always assumed `[E, in, out]`; since then the class decides.
        (true, true) => adapter.config.peft_minor().is_none_or(|v| v < (0, 19)) || base.transposed_in_peft(),
        (false, false) => {
            let reason = Reason::Weight { base: shape.clone(), adapter: out_in.to_vec() };
            return Err(Misfit::new(&factors.module.path, reason));
        }
    };
    let homes = homes.iter().filter(|home| factors.reach(home));
    let terms = homes.map(|home| factors.term(home, experts, transposed)).collect::<Fit<_>>()?;
    Ok(vec![edit(base, index, factors.module, terms)])
}

/// A base that stores one tensor per expert and projection.
fn single(base: &Resolver<'_>, factors: &Factors<'_>, path: &str, param: &str) -> Fit<Vec<Edit>> {
    let whole = format!("{path}.{param}");
    let stack = names::stack_in(path, param).ok_or_else(|| unmatched(&whole))?;
    let own = names::as_parameter(path).filter(|_| param == "weight");
    let path = own.as_deref().map_or(path, names::module_of);
    let homes = base.each(path, stack.parts).map_err(|(name, found)| match found {
        Found::Several(names) => ambiguous(&name, &names),
        _ if name == path => unmatched(&whole),
        _ => unmatched(&name),
    })?;
    let experts = homes.len() / stack.parts.len();
    factors.rank(experts)?;
    let mut edits = Vec::with_capacity(homes.len());
    for home in homes.iter().filter(|home| factors.reach(home)) {
        let weight = &base.tensors[home.tensor];
        let (rows, cols) = weight.rows_cols();
        let outputs = rows * home.part.1;
        // On disk, single experts are `torch.nn.Linear`, however the stacked parameter was oriented: if A and B
        // have the swapped roles of PEFT before 0.19, the transposed product fits.
        let transposed = if (factors.outputs, factors.inputs) == (outputs, cols) {
            false
        } else if (factors.inputs, factors.outputs) == (outputs, cols) {
            true
        } else {
            let adapter = vec![factors.outputs / home.part.1, factors.inputs];
            let reason = Reason::OfEachExpert { base: weight.shape.clone(), adapter };
            return Err(Misfit::new(&factors.module.path, reason));
        };
        let term = factors.term(home, experts, transposed)?;
        edits.push(edit(base, home.tensor, factors.module, vec![term]));
    }
    Ok(edits)
}

/// A module on one expert (`experts.3.w1`) of a base that stores the experts stacked.
fn fit_single_expert(base: &Resolver<'_>, module: &Module, path: &str) -> Fit<Option<Vec<Edit>>> {
    let Some((experts, expert, leaf)) = names::expert_of(path) else { return Ok(None) };
    let Some(projection) = names::projection(leaf) else { return Ok(None) };
    if base.resolve(&format!("{path}.weight"), |_| true) != Found::Absent {
        return Ok(None);
    }
    for (stack, place) in names::stacks_of(projection) {
        let index = match base.stack(experts, stack.name) {
            Found::One(index) => index,
            Found::Several(found) => return Err(ambiguous(path, &found)),
            Found::Absent => continue,
        };
        let info = &base.tensors[index];
        let ((rank, inputs), (outputs, _)) = (module.a.info().rows_cols(), module.b.info().rows_cols());
        let needed = [outputs * stack.parts.len(), inputs];
        let home = base.in_stack(index).into_iter().find(|home| home.expert == expert);
        let home = home.filter(|_| info.shape[1..] == needed && !base.stacks_transposed());
        let Some(home) = home.filter(|_| module.magnitude.is_none()) else {
            let reason = Reason::OfOneExpert { base: info.shape.clone(), adapter: vec![outputs, inputs] };
            return Err(Misfit::new(&module.path, reason));
        };
        let first = home.rows.start + place * outputs;
        let term = LowRank {
            rows: first..first + outputs,
            b: Factor::matrix(module.b.clone(), outputs, rank),
            a: Factor::matrix(module.a.clone(), rank, inputs),
            scale: module.scale(rank) * module.strength,
        };
        return Ok(Some(vec![edit(base, index, module, vec![term])]));
    }
    Ok(None)
}

/// A module on the expert that has a linear layer of its own in a list (`experts.down_projs.3`), where the base has one
/// parameter for all: `[E, in, out]`, or `[E, out, in]`.
fn fit_listed(
    base: &Resolver<'_>,
    module: &Module,
    (experts, expert, parameter): (&str, usize, &str),
) -> Fit<Option<Vec<Edit>>> {
    if base.resolve(&format!("{}.weight", module.path), |_| true) != Found::Absent {
        return Ok(None);
    }
    let index = match base.stack(experts, parameter) {
        Found::One(index) => index,
        Found::Several(found) => return Err(ambiguous(&module.path, &found)),
        Found::Absent => return Err(unmatched(&module.path)),
    };
    let shape = &base.tensors[index].shape;
    let ((rank, inputs), (outputs, _)) = (module.a.info().rows_cols(), module.b.info().rows_cols());
    let home = base.in_stack(index).into_iter().find(|home| home.expert == expert);
    let transposed = match (shape[1..] == [outputs, inputs], shape[1..] == [inputs, outputs]) {
        (true, true) => Some(base.stacks_transposed()),
        (true, false) => Some(false),
        (false, true) => Some(true),
        (false, false) => None,
    };
    let (Some(home), Some(transposed), None) = (home, transposed, &module.magnitude) else {
        let reason = Reason::OfOneExpert { base: shape.clone(), adapter: vec![outputs, inputs] };
        return Err(Misfit::new(&module.path, reason));
    };
    let (b, a) =
        (Factor::matrix(module.b.clone(), outputs, rank), Factor::matrix(module.a.clone(), rank, inputs));
    let (b, a) = if transposed { (a.transposed(), b.transposed()) } else { (b, a) };
    let scale = module.scale(rank) * module.strength;
    let mut edits = vec![edit(base, index, module, vec![LowRank { rows: home.rows, b, a, scale }])];
    if let Some(bias) = &module.bias {
        let name = format!("{experts}.{parameter}_bias");
        let Found::One(index) = base.resolve(&name, |info| info.shape.len() == 2) else {
            return Err(Misfit::new(&module.path, Reason::NoBias));
        };
        let info = &base.tensors[index];
        if info.shape.get(1) != Some(&outputs) || info.shape[0] <= expert {
            let reason = Reason::Bias { base: info.shape.clone(), adapter: bias.info().shape.clone() };
            return Err(Misfit::new(&module.path, reason));
        }
        let a = Factor::matrix(bias.clone(), 1, outputs);
        edits.push(edit(
            base,
            index,
            module,
            vec![LowRank { rows: expert..expert + 1, b: Factor::one(), a, scale }],
        ));
    }
    Ok(Some(edits))
}

/// The saved bias `name` of an expert that has a linear layer of its own in a list, where the base has one parameter for
/// the biases of all: `[E, out]`.
pub(super) fn fit_listed_bias(base: &Resolver<'_>, name: &str, tensor: &TensorRef) -> Option<Edit> {
    let (experts, expert, parameter) = names::listed(name.strip_suffix(".bias")?)?;
    let Found::One(index) = base.resolve(&format!("{experts}.{parameter}_bias"), |_| true) else {
        return None;
    };
    let info = &base.tensors[index];
    let values = tensor.info().elements() as usize;
    if info.shape.get(1) != Some(&values) || info.shape.len() != 2 || info.shape[0] <= expert {
        return None;
    }
    let row = Factor::matrix(tensor.clone(), 1, values).to_tensor(vec![1, values]).ok()?;
    let change = Change::Rows(row, vec![expert]);
    Some(Edit { target: info.name.clone(), base: Some(index), origin: name.to_string(), change })
}

/// The paths and rows of the modules that a stack `[E, out, in]` of the experts at `path` stands for. `None` if
/// the parameter is not a stack.
pub(crate) fn modules_of_stack(
    path: &str,
    parameter: &str,
    shape: &[usize],
) -> Option<Vec<(String, Range<usize>)>> {
    let &[experts, rows, _] = shape else { return None };
    let stack = names::stack_of(parameter)?;
    let own = names::as_parameter(path);
    let path = own.as_deref().map_or(path, names::module_of);
    let name = names::single_names(path);
    let each = rows / stack.parts.len();
    let module = |expert: usize, place: usize| {
        let first = expert * rows + place * each;
        (format!("{path}.{expert}.{}", name(stack.parts[place])), first..first + each)
    };
    let modules = (0..experts).flat_map(|expert| (0..stack.parts.len()).map(move |place| (expert, place)));
    Some(modules.map(|(expert, place)| module(expert, place)).collect())
}
