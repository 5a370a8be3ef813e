//! What became of a module.

use lorakit_tensor::DType;

/// What became of one module.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Reduced {
    /// Its path.
    #[serde(rename = "module")]
    pub path: String,
    /// The rank before.
    pub rank_before: usize,
    /// The rank after.
    pub rank: usize,
    /// The dtypes of `A` and `B` after.
    pub dtypes: (DType, DType),
    /// Rows and columns of the delta.
    pub shape: (usize, usize),
    /// Share of the energy that is kept, 0 to 1.
    pub energy: f64,
    /// `||D' - D|| / ||D||`, Frobenius, rounding to the stored dtype included.
    pub error: f64,
    /// `||D||`.
    pub norm: f64,
}

impl Reduced {
    /// Parameters of factors of that rank.
    pub(super) fn parameters(&self, rank: usize) -> u64 {
        (rank * (self.shape.0 + self.shape.1)) as u64
    }
}
