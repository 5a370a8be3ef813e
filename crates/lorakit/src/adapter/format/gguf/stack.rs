//! The two factors of one GGUF tensor, for one module or for all experts of a layer.

use lorakit_tensor::DType;

use super::Problem;
use super::names::{Facts, HALVES, Placed};
use crate::adapter::{Module, ModuleKind};
use crate::plan::OutputTensor;
use crate::tensor::{Factor, RowOrder};
use crate::{Error, Result, TensorRef};

use super::super::Scaled;

/// The modules of one GGUF tensor.
pub(super) struct Group<'a> {
    /// Name of the base's tensor.
    pub(super) name: String,
    pub(super) members: Vec<Placed<'a>>,
}

/// Both factors, ready to be written.
pub(super) struct Factors {
    a: TensorRef,
    b: Scaled,
    /// The dtypes that they have in the adapter.
    own: [DType; 2],
}

/// The quantised dtypes of factors, the finest first.
pub(super) const BLOCKS: &[DType] = &[DType::Q8_0, DType::Q4_0];

/// `asked`, or F16 for rows of `cols` values that are not whole blocks of it, as `convert_lora_to_gguf.py` does.
pub(super) fn fitting(asked: DType, cols: usize) -> DType {
    if BLOCKS.contains(&asked) && !cols.is_multiple_of(asked.block().elements) { DType::F16 } else { asked }
}

impl<'a> Group<'a> {
    /// Makes one group per GGUF tensor, in the order of `placed`.
    pub(super) fn of(placed: Vec<Placed<'a>>) -> Vec<Self> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for one in placed {
            let name = one.found.gguf_name();
            let place = *places.entry(name.clone()).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.members.push(one),
                None => groups.push(Group { name, members: vec![one] }),
            }
        }
        groups
    }

    /// The rank that the factors are padded to.
    fn rank(&self) -> usize {
        self.members.iter().map(|member| member.module.rank()).max().unwrap_or(0)
    }

    /// The alpha of each member as the file counts it: its scale times the rank that is written.
    pub(super) fn alphas(&self) -> impl Iterator<Item = f64> {
        let rank = self.rank() as f64;
        self.members.iter().map(move |member| member.module.scale(member.module.rank()) * rank)
    }

    /// The number by which `B` of each member is multiplied, if the file has `alpha`.
    pub(super) fn times(&self, alpha: f32) -> Vec<f64> {
        let times = |own: f64| if own as f32 == alpha { 1.0 } else { own / f64::from(alpha) };
        self.alphas().map(times).collect()
    }

    /// The factors as laid out in the file.
    ///
    /// # Errors
    /// If rows do not form heads, if two modules belong to one tensor, or if experts differ in shape.
    pub(super) fn factors(&self, facts: &Facts<'_>, times: &[f64]) -> Result<Factors> {
        match self.members.as_slice() {
            [one] if one.found.expert.is_none() => self.single(one, facts, times[0]),
            [first, second, ..] if first.found.expert.is_none() => {
                let problem = Problem::SameTensor { other: first.module.path.clone() };
                Err(Error::from(problem).tensor(&second.module.path))
            }
            _ => self.stacked(facts.experts, times),
        }
    }

    fn single(&self, one: &Placed<'_>, facts: &Facts<'_>, times: f64) -> Result<Factors> {
        let module = one.module;
        let own = [module.a.info().dtype, module.b.info().dtype];
        let single = Module { a: module.a.single_values()?, b: module.b.single_values()?, ..module.clone() };
        let (a, b) = matrices(&single);
        let a = if module.kind == ModuleKind::Embedding { a.transposed() } else { a };
        let order = one.found.rule.permutation(b.rows, facts.heads);
        let b = match order.map_err(|e| e.tensor(&module.path))? {
            Some(order) => {
                let rows = b.rows;
                b.gather_rows(&RowOrder::of_rows((0..rows).map(|row| order.hf_row(row))))
            }
            None => b,
        };
        Ok(Factors {
            a: a.to_tensor(vec![a.rows, a.cols])?,
            b: Scaled { tensor: b.to_tensor(vec![b.rows, b.cols])?, times },
            own,
        })
    }

    /// `A (E, r, in)` and `B (E, out, r)`: experts without a module are zero, as is the padding of smaller ranks.
    fn stacked(&self, experts: usize, times: &[f64]) -> Result<Factors> {
        let rank = self.rank();
        let first = &self.members[0];
        let sides = |module: &Module| (module.b.info().shape[0], module.a.info().shape[1]);
        let (outputs, inputs) = sides(first.module);
        let mut taken = vec![false; experts];
        for Placed { module, found } in &self.members {
            let (rows, cols) = sides(module);
            if (rows, cols) != (outputs, inputs) {
                let (first, first_rows, first_cols) = (first.module.path.clone(), outputs, inputs);
                let problem = Problem::UnevenExperts { rows, cols, first, first_rows, first_cols };
                return Err(Error::from(problem).tensor(&module.path));
            }
            if std::mem::replace(&mut taken[found.expert.unwrap_or(0)], true) {
                return Err(Error::from(Problem::SameExpert).tensor(&module.path));
            }
        }
        // A number that all experts share is multiplied in after stacking.
        let common = times.iter().all(|t| *t == times[0]).then_some(times[0]);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let dtypes = [|m: &Module| m.a.info().dtype, |m: &Module| m.b.info().dtype];
        let own = dtypes.map(|dtype| {
            let own = dtype(first.module);
            if self.members.iter().any(|m| dtype(m.module) != own) { DType::F32 } else { own }
        });
        let decoded = dtypes.map(|dtype| {
            let own = dtype(first.module);
            own.block().elements > 1 || self.members.iter().any(|m| dtype(m.module) != own)
        });
        for (Placed { module, found }, times) in self.members.iter().zip(times) {
            let expert = found.expert.unwrap_or(0);
            let inside = if common.is_some() { 1.0 } else { *times };
            let module = Module {
                a: if decoded[0] { module.a.decoded(1.0)? } else { module.a.clone() },
                b: if decoded[1] || common.is_none() { module.b.decoded(inside)? } else { module.b.clone() },
                ..(*module).clone()
            };
            let (own_a, own_b) = matrices(&module);
            a.push((own_a, expert * rank, 0));
            b.push((own_b, expert * outputs, 0));
        }
        Ok(Factors {
            a: TensorRef::assembled(a, inputs, vec![experts, rank, inputs])?,
            b: Scaled {
                tensor: TensorRef::assembled(b, rank, vec![experts, outputs, rank])?,
                times: common.unwrap_or(1.0),
            },
            own,
        })
    }
}

impl Factors {
    /// The tensors `{name}.lora_a` and `{name}.lora_b`, and the changes that their dtype required.
    pub(super) fn outputs(self, name: &str, asked: Option<DType>) -> ([OutputTensor; 2], Vec<String>) {
        let mut notes = Vec::new();
        let mut output = |factor: Scaled, own: DType, half: &str, short: &str| {
            let cols = factor.tensor.info().shape.last().copied().unwrap_or(1);
            let wanted = asked.unwrap_or(own);
            let dtype = match fitting(wanted, cols) {
                DType::F16 if wanted != DType::F16 => {
                    notes.push(format!("{short} as F16: its rows are not whole blocks of {wanted}"));
                    DType::F16
                }
                dtype @ (DType::F32 | DType::F16 | DType::BF16) => dtype,
                dtype if BLOCKS.contains(&dtype) => dtype,
                other => {
                    notes.push(format!("{short} as F32: llama.cpp does not compute with {other}"));
                    DType::F32
                }
            };
            let kept = factor.times == 1.0 || asked.is_some();
            factor.output(&format!("{name}{half}"), kept.then_some(dtype))
        };
        let [half_a, half_b] = HALVES;
        let [own_a, own_b] = self.own;
        let tensors = [output(Scaled::plain(self.a), own_a, half_a, "A"), output(self.b, own_b, half_b, "B")];
        (tensors, notes)
    }
}

/// The factors as matrices.
fn matrices(module: &Module) -> (Factor, Factor) {
    let matrix = |tensor: &TensorRef| {
        let shape = &tensor.info().shape;
        Factor::matrix(tensor.clone(), shape[0], shape[1])
    };
    (matrix(&module.a), matrix(&module.b))
}
