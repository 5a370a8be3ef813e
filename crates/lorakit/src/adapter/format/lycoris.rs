//! LoHa and LoKr as LyCORIS stores them, read as plain LoRAs.

use super::assemble::{Outcome, Reader, fault};
use super::spelling::Part;
use crate::TensorRef;
use crate::adapter::lycoris::{Matrix, Pair, Product};
use crate::adapter::{Module, Scaling};

/// One side of a LoHa.
struct Side {
    pair: Pair,
    inputs: Vec<TensorRef>,
    kernel: Vec<usize>,
    rank: usize,
}

impl Reader<'_> {
    /// `(w1_a w1_b) * (w2_a w2_b)`, value by value.
    pub(super) fn loha(&self) -> Outcome<Module> {
        let first = self.side([Part::HadaW1A, Part::HadaW1B, Part::HadaT1], "hada_w1", 0)?;
        let at = first.inputs.len();
        let second = self.side([Part::HadaW2A, Part::HadaW2B, Part::HadaT2], "hada_w2", at)?;
        let shape = |side: &Side| Product::Hadamard.rows_cols(side.pair, side.pair);
        let (x, y) = (shape(&first), shape(&second));
        expect(x == y && first.kernel == second.kernel, || {
            format!("multiplies matrices of {x:?} and {y:?}")
        })?;
        let inputs = [first.inputs, second.inputs].concat();
        let kernel = if first.kernel.is_empty() { self.known_kernel(x.1)? } else { first.kernel };
        let (a, b) = self.named(Product::Hadamard.factors(first.pair, second.pair, &inputs, &kernel))?;
        let rank = first.rank;
        let scale = self.alpha(rank)?.unwrap_or(rank as f64) / rank as f64;
        self.finish(a, b, Scaling::Fixed(scale), Some("LoHa"))
    }

    /// `w_a w_b`, or with a core, the Tucker decomposition of both; its inputs come after `at` others.
    fn side(&self, [a, b, core]: [Part; 3], what: &str, at: usize) -> Outcome<Side> {
        let (wa, wb) = (self.need(a, &format!("{what}_a"))?, self.need(b, &format!("{what}_b"))?);
        match self.get(core) {
            Some(core) => tucker(wa, wb, core, at),
            None => {
                let ((rows, r), (rank, cols)) = (wa.info().rows_cols(), wb.info().rows_cols());
                fit(r == rank, &wa, &wb)?;
                let left = Matrix::Plain { input: at, rows, cols: rank };
                let right = Matrix::Plain { input: at + 1, rows: rank, cols };
                Ok(Side { pair: Pair { left, right }, inputs: vec![wa, wb], kernel: Vec::new(), rank })
            }
        }
    }

    /// The Kronecker product of `w1` and `w2`, each of them whole or in two factors.
    pub(super) fn lokr(&self) -> Outcome<Module> {
        let (first, first_rank) =
            self.block(Part::LokrW1, [Part::LokrW1A, Part::LokrW1B, Part::LokrT1], "lokr_w1", 0)?;
        let at = first.inputs.len();
        let parts = [Part::LokrW2A, Part::LokrW2B, Part::LokrT2];
        let (second, second_rank) = self.block(Part::LokrW2, parts, "lokr_w2", at)?;
        expect(first.kernel.is_empty(), || format!("has lokr_w1 with a kernel {:?}", first.kernel))?;
        let inputs = [first.inputs, second.inputs].concat();
        let cols = Product::Kronecker.rows_cols(first.pair, second.pair).1;
        let kernel = if second.kernel.is_empty() { self.known_kernel(cols)? } else { second.kernel };
        let (a, b) = self.named(Product::Kronecker.factors(first.pair, second.pair, &inputs, &kernel))?;
        // Two whole matrices are not scaled: in that case, LyCORIS sets alpha to the rank.
        let scale = match first_rank.or(second_rank) {
            Some(rank) => self.alpha(rank)?.unwrap_or(rank as f64) / rank as f64,
            None => 1.0,
        };
        self.finish(a, b, Scaling::Fixed(scale), Some("LoKr"))
    }

    /// A matrix that is whole, or its factors; then with their rank.
    fn block(&self, whole: Part, parts: [Part; 3], what: &str, at: usize) -> Outcome<(Side, Option<usize>)> {
        if self.get(whole).is_none() {
            let side = self.side(parts, what, at)?;
            let rank = side.rank;
            return Ok((side, Some(rank)));
        }
        expect_one(!parts.iter().any(|part| self.has(*part)), what)?;
        let tensor = self.need(whole, what)?;
        let (rows, cols) = tensor.info().rows_cols();
        let kernel = tensor.info().shape[2..].to_vec();
        let pair = Pair::full(at, rows, cols);
        Ok((Side { pair, inputs: vec![tensor], kernel, rank: rows.min(cols) }, None))
    }

    /// The kernel that the model's list gives a layer of `cols` columns.
    fn known_kernel(&self, cols: usize) -> Outcome<Vec<usize>> {
        let Some(size) = self.kernel else { return Ok(Vec::new()) };
        expect(cols.is_multiple_of(size * size), || {
            format!("has {cols} columns and a kernel of {size} x {size}")
        })?;
        Ok(vec![size, size])
    }
}

/// `sum over i, j of core[i, j, ...] * wa[i, out] * wb[j, in]`.
fn tucker(wa: TensorRef, wb: TensorRef, core: TensorRef, at: usize) -> Outcome<Side> {
    let ((r, rows), (rank, inputs)) = (wa.info().rows_cols(), wb.info().rows_cols());
    fit(r == rank, &wa, &wb)?;
    let kernel = match core.info().shape.as_slice() {
        [r, s, kernel @ ..] if (*r, *s) == (rank, rank) && !kernel.is_empty() => kernel.to_vec(),
        shape => {
            return Err(fault("shape", format!("has a core of shape {shape:?}, and its rank is {rank}")));
        }
    };
    let left = Matrix::Transposed { input: at, rows, cols: rank };
    let size = kernel.iter().product();
    let right = Matrix::Mixed { core: at + 2, down: at + 1, rows: rank, inputs, kernel: size };
    Ok(Side { pair: Pair { left, right }, inputs: vec![wa, wb, core], kernel, rank })
}

fn fit(holds: bool, x: &TensorRef, y: &TensorRef) -> Outcome<()> {
    expect(holds, || format!("has factors of shapes {:?} and {:?}", x.info().shape, y.info().shape))
}

/// Nobody can tell which of two counts.
fn expect_one(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(fault("repeated-key", format!("has {what} whole and in factors"))) }
}

fn expect(holds: bool, message: impl Fn() -> String) -> Outcome<()> {
    if holds { Ok(()) } else { Err(fault("shape", message() + ", which do not fit")) }
}

#[cfg(test)]
mod tests;
