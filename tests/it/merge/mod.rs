//! Features of a merge that no reference has a golden for, against f64 arithmetic.

mod experts;
mod features;
mod made;
mod output;
mod together;
