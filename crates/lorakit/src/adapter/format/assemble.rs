//! Makes a module from its tensors: a plain LoRA, or factors computed from those of LyCORIS.

use super::spelling::{Part, Parts};
use crate::adapter::lycoris::Matrix;
use crate::adapter::{Files, Module, ModuleKind, Scaling};
use crate::tensor::Factor;
use crate::{Error, Result, TensorRef};

/// The fault that kept a module from being read: the code and the message of a finding.
pub(super) type Fault = (&'static str, String);

/// The module called `name` with these tensors. `kernel` is the size of its convolution, if it is known to be one;
/// `alpha` is the value from the file's metadata, used if there is no tensor for it.
///
/// # Errors
/// If an alpha cannot be read. Faults of the module are in the inner error.
pub(super) fn assemble(
    files: &Files,
    name: &str,
    parts: &Parts,
    kernel: Option<usize>,
    alpha: Option<Scaling>,
) -> Result<std::result::Result<Module, Fault>> {
    let reader = Reader { files, name, parts, kernel, alpha };
    let module = if reader.has(Part::Down) || reader.has(Part::Up) {
        reader.plain()
    } else if parts.keys().any(|p| (Part::HadaW1A..=Part::HadaT2).contains(p)) {
        reader.loha()
    } else if parts.keys().any(|p| (Part::LokrW1..=Part::LokrT2).contains(p)) {
        reader.lokr()
    } else {
        Err(fault("missing-half", "has no factors, only what goes with them"))
    };
    match module {
        Ok(module) => Ok(Ok(module)),
        Err(Stop::Fault(fault)) => Ok(Err(fault)),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// Why there is no module.
pub(super) enum Stop {
    /// The file has a fault.
    Fault(Fault),
    /// The file could not be read.
    Error(Error),
}

pub(super) type Outcome<T> = std::result::Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

pub(super) fn fault(code: &'static str, message: impl Into<String>) -> Stop {
    Stop::Fault((code, message.into()))
}

/// The tensors of a module.
pub(super) struct Reader<'a> {
    files: &'a Files,
    name: &'a str,
    parts: &'a Parts,
    pub(super) kernel: Option<usize>,
    alpha: Option<Scaling>,
}

impl Reader<'_> {
    pub(super) fn has(&self, part: Part) -> bool {
        self.parts.contains_key(&part)
    }

    /// An error about the module, with its name and its file.
    pub(super) fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.tensor(self.name).at(self.files.source.path()))
    }

    /// A part, if it is there.
    pub(super) fn get(&self, part: Part) -> Option<TensorRef> {
        self.parts.get(&part).map(|index| self.files.tensor(*index))
    }

    /// A part that must be there; matrices have at least two dimensions.
    pub(super) fn need(&self, part: Part, what: &str) -> Outcome<TensorRef> {
        let tensor = self.get(part).ok_or_else(|| fault("missing-half", format!("lacks {what}")))?;
        if tensor.info().shape.len() < 2 {
            let message = format!("has {what} of shape {:?}, which is not a matrix", tensor.info().shape);
            return Err(fault("shape", message));
        }
        Ok(tensor)
    }

    /// The alpha; the rank if there is none, or if it is 0.
    pub(super) fn alpha(&self, rank: usize) -> Outcome<Option<f64>> {
        let Some(tensor) = self.get(Part::Alpha) else { return Ok(None) };
        let values = tensor.values()?;
        match values.as_slice() {
            [alpha] if !alpha.is_finite() => Err(fault("alpha", format!("has an alpha of {alpha}"))),
            [0.0] => Ok(Some(rank as f64)),
            [alpha] => Ok(Some(f64::from(*alpha))),
            _ => Err(fault("alpha", format!("has an alpha of shape {:?}", tensor.info().shape))),
        }
    }

    /// The module with these factors, and with the other parts that go with them.
    pub(super) fn finish(
        &self,
        a: TensorRef,
        b: TensorRef,
        scaling: Scaling,
        expanded: Option<&'static str>,
    ) -> Outcome<Module> {
        let out = b.info().shape[0];
        let a_dimensions = a.info().shape.len();
        let magnitude = self.get(Part::Magnitude).map(|tensor| magnitude(tensor, out, a_dimensions));
        Ok(Module {
            magnitude: magnitude.transpose()?,
            bias: self.get(Part::Bias),
            expanded,
            ..Module::new(self.name.to_string(), ModuleKind::Linear, a, b, scaling)
        })
    }

    fn plain(&self) -> Outcome<Module> {
        let (found, lacking) = if self.has(Part::Down) { ("A", "B") } else { ("B", "A") };
        if !(self.has(Part::Down) && self.has(Part::Up)) {
            let message =
                format!("has a factor {found} (lora_down is A, lora_up B), but {lacking} is missing");
            return Err(fault("missing-half", message));
        }
        let (a, b) = (self.need(Part::Down, "lora_down")?, self.need(Part::Up, "lora_up")?);
        let rank = a.info().shape[0];
        if b.info().rows_cols().1 != rank {
            let (a, b) = (&a.info().shape, &b.info().shape);
            return Err(fault("shape", format!("has A {a:?} and B {b:?}, which disagree on the rank")));
        }
        let scaling = match (self.alpha(rank)?, self.alpha) {
            (Some(alpha), _) => Scaling::Alpha(alpha),
            (None, Some(scaling)) => scaling,
            (None, None) => Scaling::Alpha(rank as f64),
        };
        let a = match self.get(Part::Mid) {
            Some(mid) => self.with_mid(&a, &mid, rank)?,
            None => a,
        };
        let (a, b) = self.as_convolution(a, b)?;
        self.finish(a, b, scaling, None)
    }

    /// `A` with the core of a Tucker decomposition, `(r, r, kh, kw)`, multiplied into it; the rank stays the same.
    fn with_mid(&self, a: &TensorRef, mid: &TensorRef, rank: usize) -> Outcome<TensorRef> {
        let inputs = a.info().rows_cols().1;
        let core = mid.info().shape.clone();
        let [r, s, kernel @ ..] = core.as_slice() else {
            return Err(fault("shape", format!("has lora_mid of shape {core:?}, which is not a core")));
        };
        if (*r, *s) != (rank, rank) {
            return Err(fault("shape", format!("has lora_mid of shape {core:?}, and its rank is {rank}")));
        }
        let size = kernel.iter().product();
        let mixed = Matrix::Mixed { core: 1, down: 0, rows: rank, inputs, kernel: size };
        let shape = [&[rank, inputs], kernel].concat();
        Ok(mixed.tensor(vec![a.clone(), mid.clone()], shape)?)
    }

    /// Factors of a 1 x 1 convolution may be stored like those of a linear layer.
    fn as_convolution(&self, a: TensorRef, b: TensorRef) -> Outcome<(TensorRef, TensorRef)> {
        let a = match (a.info().shape.as_slice(), self.kernel) {
            (&[rank, inputs], Some(1)) => {
                Factor::matrix(a.clone(), rank, inputs).to_tensor(vec![rank, inputs, 1, 1])?
            }
            _ => a,
        };
        let ones = vec![1; a.info().shape.len() - 2];
        let b = match b.info().shape.as_slice() {
            &[out, rank] if !ones.is_empty() => {
                Factor::matrix(b.clone(), out, rank).to_tensor([vec![out, rank], ones].concat())?
            }
            _ => b,
        };
        Ok((a, b))
    }
}

/// Magnitudes in PEFT's shape: `(out,)`, or `(1, out, 1, 1)` for a convolution. LyCORIS stores them in a shape that
/// broadcasts to the weight's.
fn magnitude(tensor: TensorRef, out: usize, dimensions: usize) -> Outcome<TensorRef> {
    let shape = &tensor.info().shape;
    let along_rows = shape.first() == Some(&out) || (shape.len() > 2 && shape.get(1) == Some(&out));
    if !along_rows || tensor.info().elements() != out as u64 {
        let message = format!(
            "has magnitudes of shape {shape:?} for {out} output rows; other formats have no DoRA along the \
             inputs"
        );
        return Err(fault("shape", message));
    }
    let mut wanted = vec![out];
    if dimensions > 2 {
        wanted = vec![1, out];
        wanted.resize(dimensions, 1);
    }
    if *shape == wanted {
        return Ok(tensor);
    }
    Ok(Factor::matrix(tensor.clone(), 1, out).to_tensor(wanted)?)
}
