//! What can be wrong with matrices, and with requests about them.

use std::fmt;

use crate::error::ErrorKind;

/// What can be wrong with matrices. It holds data and renders the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Problem {
    /// A value is NaN or infinite; `what` is "the matrix", "B" and so on.
    Value { what: &'static str, value: f64, row: usize, column: usize },
    /// A term's scale is NaN or infinite.
    Scale { scale: f64 },
    /// A singular value is NaN or infinite.
    Spectrum { index: usize, value: f64 },
    /// A product of finite factors is not finite.
    Range,
    /// Singular values were not found.
    SingularValues { rows: usize, columns: usize },
    /// QR factors were not found.
    QrFactors { rows: usize, columns: usize },
    /// A sum of nothing has no shape.
    NoTerms,
    /// Factors that cannot be multiplied.
    Inner { b: (usize, usize), a: (usize, usize) },
    /// Terms that cannot be added.
    Terms { rows: usize, columns: usize, needed_rows: usize, needed_columns: usize },
    /// A matrix, and factors of another shape.
    Residual { rows: usize, columns: usize, of_factors: (usize, usize) },
    /// Column spaces of vectors of different lengths.
    Dimensions { one: usize, other: usize },
    /// An operator whose product does not have the promised shape.
    Operator { rows: usize, columns: usize, needed_rows: usize, needed_columns: usize },
    /// Values that do not fill a matrix.
    Count { values: usize, rows: usize, columns: usize },
    /// A budget below what rank 1 everywhere takes.
    Budget { budget: u64, needed: u64 },
    /// Ranks without a price.
    Free { index: usize },
}

impl Problem {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Problem::Value { .. } | Problem::Scale { .. } | Problem::Spectrum { .. } | Problem::Range => {
                ErrorKind::NonFinite
            }
            Problem::SingularValues { .. } | Problem::QrFactors { .. } => ErrorKind::NoConvergence,
            Problem::NoTerms
            | Problem::Inner { .. }
            | Problem::Terms { .. }
            | Problem::Residual { .. }
            | Problem::Dimensions { .. }
            | Problem::Operator { .. }
            | Problem::Count { .. } => ErrorKind::Shape,
            Problem::Budget { .. } => ErrorKind::Budget,
            Problem::Free { .. } => ErrorKind::Domain,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Value { what, value, row, column } => {
                write!(f, "{what} holds {value} in row {row}, column {column}; values must be finite")
            }
            Problem::Scale { scale } => write!(f, "a scale of {scale}; it must be finite"),
            Problem::Spectrum { index, value } => {
                write!(f, "spectrum {index} holds {value}; values must be finite")
            }
            Problem::Range => f.write_str("the product of B and A is beyond the range of f64"),
            Problem::SingularValues { rows, columns } => {
                write!(f, "the singular values of a {rows} x {columns} matrix did not converge")
            }
            Problem::QrFactors { rows, columns } => {
                write!(f, "no QR factors of a {rows} x {columns} matrix were found")
            }
            Problem::NoTerms => f.write_str("no terms; a sum must have at least one"),
            Problem::Inner { b: (m, r), a: (s, n) } => write!(
                f,
                "B of shape {m} x {r} and A of shape {s} x {n}; B must have as many columns as A has rows"
            ),
            Problem::Terms { rows, columns, needed_rows, needed_columns } => write!(
                f,
                "a term of shape {rows} x {columns} beside one of {needed_rows} x {needed_columns}; all must have one shape"
            ),
            Problem::Residual { rows, columns, of_factors: (m, n) } => {
                write!(f, "a {rows} x {columns} matrix, but factors of a {m} x {n} one")
            }
            Problem::Dimensions { one, other } => {
                write!(f, "column spaces in {one} and in {other} dimensions; both must have as many")
            }
            Problem::Operator { rows, columns, needed_rows, needed_columns } => write!(
                f,
                "the operator's product is {rows} x {columns}; it must be {needed_rows} x {needed_columns}"
            ),
            Problem::Count { values, rows, columns } => {
                write!(f, "{values} values, which do not fill a {rows} x {columns} matrix")
            }
            Problem::Budget { budget, needed } => {
                write!(f, "a budget of {budget} parameters; rank 1 everywhere takes {needed}")
            }
            Problem::Free { index } => {
                write!(f, "spectrum {index} costs nothing; a unit of rank must have a cost")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_fragments() {
        let (rows, columns) = (3, 4);
        let samples = [
            Problem::Value { what: "B", value: f64::NAN, row: 1, column: 2 },
            Problem::Scale { scale: f64::INFINITY },
            Problem::Spectrum { index: 1, value: f64::NAN },
            Problem::Range,
            Problem::SingularValues { rows, columns },
            Problem::QrFactors { rows, columns },
            Problem::NoTerms,
            Problem::Inner { b: (3, 2), a: (1, 4) },
            Problem::Terms { rows, columns, needed_rows: 5, needed_columns: 6 },
            Problem::Residual { rows, columns, of_factors: (5, 6) },
            Problem::Dimensions { one: 3, other: 4 },
            Problem::Operator { rows, columns, needed_rows: 5, needed_columns: 6 },
            Problem::Count { values: 7, rows, columns },
            Problem::Budget { budget: 1, needed: 2 },
            Problem::Free { index: 1 },
        ];
        for problem in samples {
            let text = problem.to_string();
            assert!(!text.ends_with('.') && !text.contains("need"), "{problem:?}: {text:?}");
        }
    }
}
