//! A tensor of the merged model next to what base and adapters make.

use lorakit_quant::codec;
use lorakit_tensor::DType;

use crate::ops::Problem;
use crate::ops::merge::Sums;
use crate::plan::{Compute, OutputTensor, Packed, Panel, Recipe, Stretch};
use crate::{Error, Model, Result, TensorRef};

/// Rows of a tensor: what it should be made of, and what the merged model holds.
pub(super) struct Rows<'a> {
    /// The base.
    pub(super) base: &'a [f32],
    /// What the adapters add.
    pub(super) delta: &'a [f32],
    /// The sum, in f32.
    pub(super) sum: &'a [f32],
    /// The merged model's values, and their bytes.
    pub(super) found: &'a [f32],
    pub(super) bytes: &'a [u8],
    /// What they were computed from.
    pub(super) panel: &'a Panel<'a>,
}

/// One tensor of the merged model and what it should be.
#[derive(Clone)]
pub(super) struct Pair<'a> {
    pub(super) name: &'a str,
    /// What base and adapters make.
    pub(super) compute: Compute,
    /// Takes the place of the recipe's own base if an adapter replaced that.
    pub(super) base: Option<TensorRef>,
    /// The merged model's.
    pub(super) merged: TensorRef,
    /// Whether an adapter touches it.
    pub(super) touched: bool,
    /// Whether the merged model stores it in blocks or with scales.
    pub(super) quantised: bool,
    /// What sums are rounded to before they are stored, if that is not the stored dtype.
    pub(super) through: Option<DType>,
}

/// Whether values of this dtype are rounded one by one.
pub(super) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Whether an adapter touches a tensor of the sum.
pub(super) fn is_touched(sums: &Sums, tensor: &OutputTensor) -> bool {
    let name = &tensor.info.name;
    let of_base = |from: &TensorRef| {
        sums.base.find(name).is_some_and(|i| std::ptr::eq(sums.base.tensor(i).info(), from.info()))
    };
    let unchanged = match &tensor.recipe {
        Recipe::Copy(from) => of_base(from),
        Recipe::Compute(compute) => !compute.edits() && of_base(&compute.base),
        Recipe::Bytes(_) | Recipe::Part { .. } => false,
    };
    !unchanged || sums.silent.contains(name)
}

impl<'a> Pair<'a> {
    /// The sum `tensor` next to tensor `index` of the merged model.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a tensor that is not a sum.
    pub(super) fn new(sums: &Sums, tensor: &'a OutputTensor, merged: &Model, index: usize) -> Result<Self> {
        let name = &tensor.info.name;
        let found = merged.tensor(index);
        let mut compute = match &tensor.recipe {
            Recipe::Copy(from) => Compute::cast(from.clone()),
            Recipe::Compute(compute) => (**compute).clone(),
            Recipe::Bytes(_) | Recipe::Part { .. } => {
                return Err(Error::from(Problem::NotASum).tensor(name));
            }
        };
        let base = sums.base.find(name).map(|i| sums.base.tensor(i));
        let replaced = base.filter(|base| !std::ptr::eq(base.info(), compute.base.info()));
        let touched = is_touched(sums, tensor);
        // A replacement may have more rows than the base; then nothing is left of the base's.
        let base = replaced.filter(|base| base.info().shape == tensor.info.shape);
        let quantised = !is_float(found.info().dtype) && found.info().dtype != DType::F64
            || merged.packing.as_ref().is_some_and(|packing| packing.contains(index));
        let packer = merged.packing.as_ref().and_then(|p| p.packer(index, [compute.rows, compute.cols]));
        let seen = found.info();
        compute.packing =
            packer.map(|packing| Packed { packing, shape: seen.shape.clone(), dtype: seen.dtype });
        Ok(Pair { name, compute, base, merged: found, touched, quantised, through: None })
    }

    /// Whether the merged model has the shape of the sum.
    pub(super) fn has_shape(&self, tensor: &OutputTensor) -> bool {
        self.merged.info().shape == tensor.info.shape
    }

    /// Whether the sum is a stored tensor as it is.
    pub(super) fn is_as_it_was(&self) -> bool {
        !self.compute.edits() && self.base.is_none()
    }

    /// Whether the values of all three are known.
    pub(super) fn is_decodable(&self) -> bool {
        let all = [Some(&self.compute.base), self.base.as_ref(), Some(&self.merged)];
        all.into_iter().flatten().all(|tensor| codec(tensor.info().dtype).is_some())
    }

    /// Whether both are values of one dtype, so that other bytes are other values.
    pub(super) fn is_comparable(&self) -> bool {
        let (dtype, of_merged) = (self.compute.base.info().dtype, self.merged.info().dtype);
        dtype == of_merged && dtype.byte_len(1).is_some()
    }

    /// The same with sums that are rounded to `through` before they are stored.
    pub(super) fn rounded_to(&self, through: Option<DType>) -> Self {
        Pair { through, ..self.clone() }
    }

    /// The dtype whose steps lie between the values of the sum.
    pub(super) fn grid(&self) -> DType {
        self.through.unwrap_or(self.merged.info().dtype)
    }

    /// The same sum next to the tensor of another pair.
    pub(super) fn with_merged(&self, other: &Pair<'_>) -> Self {
        Pair { merged: other.merged.clone(), ..self.clone() }
    }

    /// How many terms fall on a row where most do: the number of adapters there, whose sum PEFT rounds after each.
    pub(super) fn in_turn(&self) -> usize {
        if self.compute.dora.is_some() || self.base.is_some() {
            return 1;
        }
        let terms = &self.compute.terms;
        let starts = terms.iter().map(|term| term.rows.start);
        starts.map(|row| terms.iter().filter(|term| term.rows.contains(&row)).count()).max().unwrap_or(0)
    }

    /// Calls `each` with a few rows at a time, in order, and tells their bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype without a decoder;
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) if base or adapters hold such values; if a file cannot be
    /// read.
    pub(super) fn for_each(&self, stretch: &Stretch<'_>, mut each: impl FnMut(Rows<'_>)) -> Result<()> {
        let Pair { name, compute, base, merged, .. } = self;
        let dtype = merged.info().dtype;
        let decoder = codec(dtype).ok_or_else(|| merged.no_decoder())?;
        let (mut stored, mut old, mut difference) = (Vec::new(), Vec::new(), Vec::new());
        compute.for_each_panel(name, self.through, |panel| {
            let Panel { ref rows, before, delta, sum, .. } = panel;
            let range = (rows.start * compute.cols) as u64..(rows.end * compute.cols) as u64;
            let at = |element| {
                dtype.byte_len(element).ok_or_else(|| {
                    Error::from(Problem::RowsNotFilled { columns: compute.cols, dtype }).tensor(name)
                })
            };
            let bytes = merged.read(at(range.start)?..at(range.end)?)?;
            stored.resize(sum.len(), 0.0);
            decoder.decode(&bytes, &mut stored);
            let mut rows = Rows { base: before, delta, sum, found: &stored, bytes: &bytes, panel: &panel };
            if let Some(base) = base {
                old.resize(sum.len(), 0.0);
                base.decode(range, &mut old)?;
                difference.clear();
                difference.extend(sum.iter().zip(&old).map(|(s, w)| s - w));
                rows = Rows { base: &old, delta: &difference, ..rows };
            }
            each(rows);
            stretch.advance(bytes.len() as u64);
            Ok(())
        })
    }
}
