//! Features of a merge without a golden from a reference, against f64 arithmetic.

mod experts;
mod features;
mod made;
mod methods;
mod olora;
mod output;
mod stacks;
mod strength;
mod table;
mod tied;
mod together;
mod undo;
mod vocabulary;
