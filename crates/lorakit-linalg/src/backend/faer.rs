//! faer, always on the calling thread: the order of its sums then depends only on the shapes and the kind of processor.

use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_in_place,
};
use faer::linalg::qr::no_pivoting::factor;
use faer::linalg::svd::{self as faer_svd, ComputeSvdVectors};
use faer::{Accum, Conj, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView1, ArrayView2, ShapeBuilder, s};

use super::column_major;
#[cfg(any(test, not(feature = "lapack")))]
use super::{RawQr, RawSvd};
use crate::entry::Entry;

/// `Q` as the product of Householder reflections, over `R`: `a = Q R`.
pub(crate) struct Reflections {
    /// Column-major `(m, n)`: `R` on and above the diagonal, the vectors of the reflections below.
    packed: Array2<f64>,
    /// Column-major `(block, min(m, n))`.
    coefficients: Array2<f64>,
}

impl Reflections {
    pub(crate) fn of(a: ArrayView2<'_, f64>) -> Self {
        let (m, n) = a.dim();
        let mut packed = column_major(a);
        let block = factor::recommended_block_size::<f64>(m, n);
        let mut coefficients = Array2::zeros((block, m.min(n)).f());
        if m.min(n) > 0 {
            let mut memory =
                MemBuffer::new(factor::qr_in_place_scratch::<f64>(m, n, block, Par::Seq, Default::default()));
            factor::qr_in_place(
                column_major_mut(&mut packed),
                column_major_mut(&mut coefficients),
                Par::Seq,
                MemStack::new(&mut memory),
                Default::default(),
            );
        }
        Reflections { packed, coefficients }
    }

    /// `R (min(m, n), n)`, upper trapezoidal.
    pub(crate) fn r(&self) -> Array2<f64> {
        let (m, n) = self.packed.dim();
        let mut r = self.packed.slice(s![..m.min(n), ..]).as_standard_layout().into_owned();
        for (i, mut row) in r.rows_mut().into_iter().enumerate() {
            row.slice_mut(s![..i]).fill(0.0);
        }
        r
    }

    /// The first `min(m, n)` columns of `Q` times `core (min(m, n), c)`: `(m, c)`, column-major.
    pub(crate) fn q_times(&self, core: ArrayView2<'_, f64>) -> Array2<f64> {
        let (m, n) = self.packed.dim();
        let (k, columns) = core.dim();
        let mut out = Array2::zeros((m, columns).f());
        out.slice_mut(s![..k, ..]).assign(&core);
        if m.min(n) > 0 && columns > 0 {
            let block = self.coefficients.nrows();
            let mut memory = MemBuffer::new(apply_scratch::<f64>(m, block, columns));
            apply_in_place(
                column_major_ref(&self.packed),
                column_major_ref(&self.coefficients),
                Conj::No,
                column_major_mut(&mut out),
                Par::Seq,
                MemStack::new(&mut memory),
            );
        }
        out
    }
}

/// The thin factors; never `None`, unlike those of a library that may fail.
#[cfg(any(test, not(feature = "lapack")))]
pub(crate) fn qr(a: ArrayView2<'_, f64>) -> Option<RawQr> {
    let reflections = Reflections::of(a);
    let k = a.nrows().min(a.ncols());
    Some(RawQr { q: reflections.q_times(Array2::eye(k).view()), r: reflections.r() })
}

/// The thin factors; `None` if the iteration does not converge.
#[cfg(any(test, not(feature = "lapack")))]
pub(crate) fn svd(a: ArrayView2<'_, f64>) -> Option<RawSvd> {
    let (m, n) = a.dim();
    let k = m.min(n);
    let (mut u, mut v) = (Array2::zeros((m, k).f()), Array2::zeros((n, k).f()));
    let s = decompose(a, Some((&mut u, &mut v)))?;
    Some(RawSvd { u, s, v })
}

/// The singular values, in descending order; `None` if the iteration does not converge.
pub(crate) fn singular_values(a: ArrayView2<'_, f64>) -> Option<Vec<f64>> {
    decompose(a, None)
}

fn decompose(
    a: ArrayView2<'_, f64>,
    vectors: Option<(&mut Array2<f64>, &mut Array2<f64>)>,
) -> Option<Vec<f64>> {
    let (m, n) = a.dim();
    let mut s = vec![0.0; m.min(n)];
    if s.is_empty() {
        return Some(s);
    }
    let compute = if vectors.is_some() { ComputeSvdVectors::Thin } else { ComputeSvdVectors::No };
    let mut memory =
        MemBuffer::new(faer_svd::svd_scratch::<f64>(m, n, compute, compute, Par::Seq, Default::default()));
    let (u, v) = match vectors {
        Some((u, v)) => (Some(column_major_mut(u)), Some(column_major_mut(v))),
        None => (None, None),
    };
    let mut copy = None;
    let values = DiagMut::from_slice_mut(&mut s);
    let stack = MemStack::new(&mut memory);
    faer_svd::svd(view(a, &mut copy), values, u, v, Par::Seq, stack, Default::default()).ok()?;
    Some(s)
}

/// The matrix product `a b`, of `a (m, k)` and `b (k, n)`: `(m, n)`, on the calling thread.
///
/// # Panics
/// If the inner dimensions differ.
pub fn product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let (m, n) = (a.nrows(), b.ncols());
    let mut out = vec![0.0; m * n];
    let (mut copy_a, mut copy_b) = (None, None);
    faer::linalg::matmul::matmul(
        MatMut::from_row_major_slice_mut(&mut out, m, n),
        Accum::Replace,
        view(a, &mut copy_a),
        view(b, &mut copy_b),
        1.0,
        Par::Seq,
    );
    Array2::from_shape_vec((m, n), out).unwrap_or_default()
}

/// The inner products of all columns, `zᵀ z`, of `z (m, n)`: `(n, n)`, on the calling thread.
pub(crate) fn gram<T: Entry>(z: ArrayView2<'_, T>) -> Array2<f64> {
    use faer::linalg::matmul::triangular::{BlockStructure, matmul};
    let n = z.ncols();
    let mut out = vec![0.0; n * n];
    for_each_panel(z, |_, z| {
        matmul(
            MatMut::from_row_major_slice_mut(&mut out, n, n),
            BlockStructure::TriangularLower,
            Accum::Add,
            z.transpose(),
            BlockStructure::Rectangular,
            z,
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
    });
    for i in 0..n {
        for j in 0..i {
            out[j * n + i] = out[i * n + j];
        }
    }
    Array2::from_shape_vec((n, n), out).unwrap_or_default()
}

/// The row-major product of the row-major `a (m, k)` and `b (k, n)`, in f32, on the calling thread.
pub(crate) fn product_of_rows(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f32> {
    let mut out = vec![0.0; m * n];
    faer::linalg::matmul::matmul(
        MatMut::from_row_major_slice_mut(&mut out, m, n),
        Accum::Replace,
        MatRef::from_row_major_slice(a, m, k),
        MatRef::from_row_major_slice(b, k, n),
        1.0,
        Par::Seq,
    );
    out
}

/// The inner products of columns of `x (m, p)` with columns of `y (m, q)`, `xᵀ y`: `(p, q)`, on the calling thread.
///
/// # Panics
/// If the numbers of rows differ.
pub(crate) fn inner_products<T: Entry>(x: ArrayView2<'_, T>, y: ArrayView2<'_, T>) -> Array2<f64> {
    let (rows, p, q) = (x.nrows(), x.ncols(), y.ncols());
    let (mut out, mut wide) = (vec![0.0; p * q], Vec::with_capacity(PANEL * q));
    let mut add = |x: MatRef<'_, f64>, y: MatRef<'_, f64>| {
        let out = MatMut::from_row_major_slice_mut(&mut out, p, q);
        faer::linalg::matmul::matmul(out, Accum::Add, x.transpose(), y, 1.0, Par::Seq);
    };
    match T::as_wide(y) {
        Some(y) => for_each_panel(x, |_, x| add(x, view(y, &mut None))),
        None => for_each_panel(x, |from, x| {
            add(x, widened_panel(y.slice(s![from..(from + PANEL).min(rows), ..]), &mut wide));
        }),
    }
    Array2::from_shape_vec((p, q), out).unwrap_or_default()
}

/// The product of a tall `z (m, n)` and a small `core (n, c)`: `(m, c)` in the layout of `z`, on the calling thread.
///
/// # Panics
/// If the inner dimensions differ.
pub(crate) fn tall_product<T: Entry>(z: ArrayView2<'_, T>, core: ArrayView2<'_, f64>) -> Array2<f64> {
    let (rows, columns) = (z.nrows(), core.ncols());
    let (mut out, mut copy) = (vec![0.0; rows * columns], None);
    let core = view(core, &mut copy);
    let by_columns = is_column_major(z);
    for_each_panel(z, |from, z| {
        let whole = if by_columns {
            MatMut::from_column_major_slice_mut(&mut out, rows, columns)
        } else {
            MatMut::from_row_major_slice_mut(&mut out, rows, columns)
        };
        let part = whole.subrows_mut(from, z.nrows());
        faer::linalg::matmul::matmul(part, Accum::Replace, z, core, 1.0, Par::Seq);
    });
    let shape = (rows, columns).set_f(by_columns);
    Array2::from_shape_vec(shape, out).unwrap_or_default()
}

/// Rows of a panel that is widened to 64 bits: a few hundred kilobytes, which stay in the cache.
const PANEL: usize = 512;

/// Calls `each` with the first row of each panel of rows of `z`, and the panel: all of `z`, if it holds 64 bits
/// already.
fn for_each_panel<T: Entry>(z: ArrayView2<'_, T>, mut each: impl FnMut(usize, MatRef<'_, f64>)) {
    if let Some(z) = T::as_wide(z) {
        return each(0, view(z, &mut None));
    }
    let rows = z.nrows();
    let mut wide = Vec::with_capacity(PANEL * z.ncols());
    for from in (0..rows).step_by(PANEL) {
        each(from, widened_panel(z.slice(s![from..(from + PANEL).min(rows), ..]), &mut wide));
    }
}

/// `panel` in 64 bits, stored in `wide`.
fn widened_panel<'w, T: Entry>(panel: ArrayView2<'_, T>, wide: &'w mut Vec<f64>) -> MatRef<'w, f64> {
    let (rows, columns) = panel.dim();
    wide.clear();
    if is_column_major(panel) {
        panel.columns().into_iter().for_each(|column| widen(column, wide));
        return MatRef::from_column_major_slice(wide, rows, columns);
    }
    panel.rows().into_iter().for_each(|row| widen(row, wide));
    MatRef::from_row_major_slice(wide, rows, columns)
}

fn is_column_major<T>(z: ArrayView2<'_, T>) -> bool {
    z.strides()[0] == 1 && z.ncols() > 1
}

fn widen<T: Entry>(line: ArrayView1<'_, T>, out: &mut Vec<f64>) {
    match line.to_slice() {
        Some(values) => out.extend(values.iter().map(|x| x.wide())),
        None => out.extend(line.iter().map(|x| x.wide())),
    }
}

/// faer's view of `a`, through a copy if its values are not contiguous.
fn view<'a>(a: ArrayView2<'a, f64>, copy: &'a mut Option<Array2<f64>>) -> MatRef<'a, f64> {
    let (m, n) = a.dim();
    if let Some(values) = a.to_slice() {
        return MatRef::from_row_major_slice(values, m, n);
    }
    if let Some(values) = a.reversed_axes().to_slice() {
        return MatRef::from_column_major_slice(values, m, n);
    }
    column_major_ref(copy.insert(column_major(a)))
}

fn column_major_ref(a: &Array2<f64>) -> MatRef<'_, f64> {
    let (m, n) = a.dim();
    MatRef::from_column_major_slice(a.as_slice_memory_order().unwrap_or_default(), m, n)
}

fn column_major_mut(a: &mut Array2<f64>) -> MatMut<'_, f64> {
    let (m, n) = a.dim();
    MatMut::from_column_major_slice_mut(a.as_slice_memory_order_mut().unwrap_or_default(), m, n)
}
