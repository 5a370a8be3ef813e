//! The crate's one error type.

use std::error::Error as StdError;
use std::fmt;

use crate::problem::Problem;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, coarse enough to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value is NaN or infinite, or a product leaves the range of f64.
    NonFinite,
    /// The iteration for the singular values did not converge.
    NoConvergence,
    /// Shapes do not belong together.
    Shape,
    /// The smallest possible choice is beyond the budget.
    Budget,
    /// An argument is outside its domain.
    Domain,
}

/// An error of this crate, which sees only values: the caller knows the file and the tensor, and names them.
#[derive(Debug, Clone, PartialEq)]
pub struct Error(Problem);

impl Error {
    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error(problem)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Error {}
