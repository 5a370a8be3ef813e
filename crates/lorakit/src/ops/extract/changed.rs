//! What changed, and what became of it.

/// What became of the change of one module, or of one tensor.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The module's path; for what is not a module, the tensor's name.
    pub name: String,
    /// What it became.
    pub became: Became,
    /// Rows and columns of the weight.
    pub shape: (usize, usize),
    /// `||T - W||`, Frobenius; of a new tensor `||T||`.
    pub norm: f64,
    /// `||T - W|| / ||W||`; `None` for a new tensor.
    pub relative: Option<f64>,
    /// Share of the values that differ; `None` for a new tensor.
    pub moved: Option<f64>,
    /// `||T - W - B A|| / ||T - W||`, with the factors as they are stored.
    pub residual: f64,
    /// The norm that rounding `T` to its dtype is expected to have in the rows that differ, if errors are independent of
    /// the values; `None` if it is quantised.
    pub rounding: Option<f64>,
    /// Share of the values of a merge, in the dtype of `T`, that are those of `T`; `None` for quantised tensors.
    pub identical: Option<f64>,
}

/// What a change became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// Factors of this rank.
    Factors(usize),
    /// A whole copy of the tuned tensor.
    Saved,
    /// Nothing: it is no more than what rounding leaves.
    Noise,
    /// Nothing: it was not wanted.
    LeftOut,
}

impl Became {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Became::Factors(_) => "factors",
            Became::Saved => "saved",
            Became::Noise => "noise",
            Became::LeftOut => "left_out",
        }
    }

    /// The rank; 0 without factors.
    pub fn rank(self) -> usize {
        if let Became::Factors(rank) = self { rank } else { 0 }
    }
}
