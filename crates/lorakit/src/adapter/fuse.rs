//! Modules that are separate in one format and fused in another: q, k and v; gate and up.
//!
//! The rows of the fused weight are those of the parts, one after another. Fusing stacks the factors: `A` has the
//! rows of all `A`s, `B` is block-diagonal, and the rank is the sum. If the parts share their `A` (because they were
//! split from one module), it is kept once. Splitting takes the diagonal blocks back if `B` has them, which keeps
//! the rank of the parts; else each part gets a copy of `A` and its rows of `B`. Neither changes any delta.

use super::{Module, Problem, Scaling};
use crate::tensor::Factor;
use crate::{Error, Result, TensorRef};

/// One part of a fused module.
#[derive(Debug, Clone)]
pub(crate) struct FusePart<'a> {
    /// The adapted part; `None` if this one is not adapted.
    pub(crate) module: Option<&'a Module>,
    /// The number of rows of its weight.
    pub(crate) rows: usize,
}

/// Makes one module at `path` that does what `parts` do together, in the order of their rows. Scales that differ are
/// multiplied into `B`, which then becomes F32.
///
/// # Errors
/// `ErrorKind::Inexpressible` if some parts have DoRA magnitudes and others do not, if a part replaces its weight, or
/// if no part is adapted; `ErrorKind::Shape` if a part has another number of rows or inputs; as
/// [`TensorRef::assembled`].
pub(crate) fn fuse(path: &str, parts: &[FusePart<'_>]) -> Result<Module> {
    let present: Vec<&Module> = parts.iter().filter_map(|part| part.module).collect();
    let refuse = |problem: Problem| Error::from(problem).tensor(path);
    let first = *present.first().ok_or_else(|| refuse(Problem::NoPart))?;
    if let Some(module) = present.iter().find(|module| module.base_weight.is_some()) {
        return Err(refuse(Problem::ReplacedPart { part: module.path.clone() }));
    }
    let inputs = first.a.info().rows_cols().1;
    for part in parts {
        let Some(module) = part.module else { continue };
        let (rows, cols) = (module.b.info().rows_cols().0, module.a.info().rows_cols().1);
        if (rows, cols) != (part.rows, inputs) {
            let problem = Problem::PartSize { rows, cols, needed_rows: part.rows, needed_cols: inputs };
            return Err(Error::from(problem).tensor(&module.path));
        }
    }
    let total: usize = parts.iter().map(|part| part.rows).sum();
    let scales: Vec<f64> = present.iter().map(|module| module.scale(module.rank())).collect();
    let scale = super::format::most_common(scales.iter().copied()).unwrap_or(1.0);
    let even = scales.iter().all(|&own| own == scale);
    let shared = present.len() == parts.len() && share_a(&present)?;
    let (mut rows_of_a, mut blocks) = (Vec::new(), Vec::new());
    let (mut row, mut rank) = (0, 0);
    for part in parts {
        if let Some(module) = part.module {
            let own = module.rank();
            let b = if even { module.b.clone() } else { module.b.decoded(module.scale(own) / scale)? };
            blocks.push((Factor::matrix(b, part.rows, own), row, if shared { 0 } else { rank }));
            rows_of_a.push((Factor::matrix(module.a.clone(), own, inputs), rank, 0));
            rank += own;
        }
        row += part.rows;
    }
    if shared {
        (rows_of_a, rank) =
            (vec![(Factor::matrix(first.a.clone(), first.rank(), inputs), 0, 0)], first.rank());
    }
    let a = TensorRef::assembled(rows_of_a, inputs, vec![rank, inputs])?;
    let b = TensorRef::assembled(blocks, rank, vec![total, rank])?;
    Ok(Module {
        magnitude: joined(path, parts, total, |module| module.magnitude.as_ref(), true)?,
        bias: joined(path, parts, total, |module| module.bias.as_ref(), false)?,
        ..Module::new(path, first.kind, a, b, Scaling::Fixed(scale))
    })
}

/// Whether all modules have the same `A`, value for value.
fn share_a(modules: &[&Module]) -> Result<bool> {
    let Some((first, rest)) = modules.split_first() else { return Ok(false) };
    for module in rest {
        if !module.a.same_values(&first.a)? {
            return Ok(false);
        }
    }
    Ok(!rest.is_empty())
}

/// Joins a vector of each part to one of `total` values. A part without a vector gets zeros; with `all`, either every
/// part has a vector, or none has.
fn joined(
    path: &str,
    parts: &[FusePart<'_>],
    total: usize,
    of: impl Fn(&Module) -> Option<&TensorRef>,
    all: bool,
) -> Result<Option<TensorRef>> {
    let mut pieces = Vec::new();
    let mut row = 0;
    for part in parts {
        if let Some(tensor) = part.module.and_then(&of) {
            pieces.push((vector(tensor, part.rows)?, row, 0));
        }
        row += part.rows;
    }
    if all && !pieces.is_empty() && pieces.len() < parts.len() {
        return Err(Error::from(Problem::PartialDora).tensor(path));
    }
    (!pieces.is_empty()).then(|| TensorRef::assembled(pieces, 1, vec![total])).transpose()
}

/// A tensor with a value for each of `rows` rows, as a column.
fn vector(tensor: &TensorRef, rows: usize) -> Result<Factor> {
    let info = tensor.info();
    if info.elements() != rows as u64 {
        return Err(Error::from(Problem::VectorSize { values: info.elements(), rows }).tensor(&info.name));
    }
    Ok(Factor::matrix(tensor.clone(), rows, 1))
}

/// Splits `module` into one module for each of `parts`, given by path and number of rows.
///
/// # Errors
/// `ErrorKind::Shape` if the parts do not have as many rows as `B`; `ErrorKind::Inexpressible` for a weight that
/// replaces the base's; if `B` cannot be read.
pub(crate) fn split(module: &Module, parts: &[(String, usize)]) -> Result<Vec<Module>> {
    let (rows, rank) = module.b.info().rows_cols();
    let inputs = module.a.info().rows_cols().1;
    let needed: usize = parts.iter().map(|(_, rows)| rows).sum();
    if needed != rows {
        let problem = Problem::SplitRows { rows, parts: parts.len(), needed };
        return Err(Error::from(problem).tensor(&module.path));
    }
    if module.base_weight.is_some() {
        return Err(Error::from(Problem::SplitWeight).tensor(&module.path));
    }
    let counts: Vec<usize> = parts.iter().map(|(_, rows)| *rows).collect();
    let each = if is_block_diagonal(&module.b.values()?, rank, &counts) { rank / parts.len() } else { rank };
    let mut start = 0;
    let of_part = |(index, (path, rows)): (usize, &(String, usize))| {
        let column = if each == rank { 0 } else { index * each };
        let a = Factor::matrix(module.a.clone(), rank, inputs).take_rows(column, each, 1);
        let b = Factor::matrix(module.b.clone(), needed, rank).take_rows(start, *rows, 1);
        let b = b.take_cols(column, each, 1);
        let cut =
            |tensor: &TensorRef| vector(tensor, needed)?.take_rows(start, *rows, 1).to_tensor(vec![*rows]);
        let scale = module.scale(module.rank());
        let part = Module {
            magnitude: module.magnitude.as_ref().map(cut).transpose()?,
            bias: module.bias.as_ref().map(cut).transpose()?,
            config_rank: module.config_rank.map(|_| each as f64),
            ..Module::new(
                path.clone(),
                module.kind,
                a.to_tensor(vec![each, inputs])?,
                b.to_tensor(vec![*rows, each])?,
                if each == rank { module.scaling } else { Scaling::Fixed(scale) },
            )
        };
        start += rows;
        Ok(part)
    };
    parts.iter().enumerate().map(of_part).collect()
}

/// Whether the row-major `b` of `rank` columns is zero outside of diagonal blocks: one for each part, with heights
/// `rows` and equal widths.
fn is_block_diagonal(b: &[f32], rank: usize, rows: &[usize]) -> bool {
    if rows.len() < 2 || rank == 0 || !rank.is_multiple_of(rows.len()) {
        return false;
    }
    let each = rank / rows.len();
    let part_of_row = rows.iter().enumerate().flat_map(|(part, &n)| std::iter::repeat_n(part, n));
    b.chunks_exact(rank).zip(part_of_row).all(|(row, part)| {
        row.iter().enumerate().all(|(column, &value)| value == 0.0 || column / each == part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::adapter::ModuleKind;
    use crate::tensor::tests::tensor;

    fn module(path: &str, a: (&[usize], &[f32]), b: (&[usize], &[f32]), scale: f64) -> Module {
        let (a, b) = (tensor("a", a.0, a.1), tensor("b", b.0, b.1));
        Module::new(path, ModuleKind::Linear, a, b, Scaling::Fixed(scale))
    }

    /// `scale * B * A`, row by row.
    fn delta(module: &Module) -> Vec<Vec<f64>> {
        let (a, b) = (module.a.values().unwrap(), module.b.values().unwrap());
        let (rank, inputs) = module.a.info().rows_cols();
        let scale = module.scale(rank);
        let value = |row: &[f32], i: usize| -> f64 {
            row.iter().enumerate().map(|(k, &b)| scale * f64::from(b) * f64::from(a[k * inputs + i])).sum()
        };
        b.chunks_exact(rank).map(|row| (0..inputs).map(|i| value(row, i)).collect()).collect()
    }

    fn part(module: &Module) -> FusePart<'_> {
        FusePart { module: Some(module), rows: module.b.info().rows_cols().0 }
    }

    #[test]
    fn parts_become_diagonal_blocks_and_come_back() {
        let q = module("q", (&[1, 2], &[1.0, 2.0]), (&[2, 1], &[3.0, 4.0]), 0.5);
        let k = module("k", (&[1, 2], &[5.0, 6.0]), (&[1, 1], &[7.0]), 0.5);
        let fused = fuse("qk", &[part(&q), part(&k)]).unwrap();
        assert_eq!(fused.a.values().unwrap(), [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(fused.b.values().unwrap(), [3.0, 0.0, 4.0, 0.0, 0.0, 7.0]);
        assert_eq!((fused.scale(2), fused.b.info().shape.as_slice()), (0.5, [3, 2].as_slice()));

        let parts = split(&fused, &[("q".into(), 2), ("k".into(), 1)]).unwrap();
        for (back, before) in parts.iter().zip([&q, &k]) {
            assert_eq!((back.path.as_str(), back.rank(), back.scale(1)), (before.path.as_str(), 1, 0.5));
            assert!(back.a.same_values(&before.a).unwrap() && back.b.same_values(&before.b).unwrap());
        }
    }

    #[test]
    fn a_shared_a_is_kept_once() {
        let fused = module("qk", (&[2, 2], &[1.0, 2.0, 3.0, 4.0]), (&[2, 2], &[5.0, 6.0, 7.0, 8.0]), 1.0);
        let parts = split(&fused, &[("q".into(), 1), ("k".into(), 1)]).unwrap();
        assert!(parts.iter().all(|part| part.rank() == 2));
        assert_eq!(parts[1].b.values().unwrap(), [7.0, 8.0]);
        let again = fuse("qk", &parts.iter().map(part).collect::<Vec<_>>()).unwrap();
        assert!(again.a.same_values(&fused.a).unwrap() && again.b.same_values(&fused.b).unwrap());
    }

    #[test]
    fn absent_parts_are_zero_and_scales_are_multiplied_in() {
        let q = module("q", (&[1, 1], &[1.0]), (&[1, 1], &[3.0]), 2.0);
        let v = module("v", (&[1, 1], &[1.0]), (&[1, 1], &[5.0]), 1.0);
        let fused = fuse("qkv", &[part(&q), FusePart { module: None, rows: 2 }, part(&v)]).unwrap();
        assert_eq!(fused.scale(2), 2.0);
        assert_eq!(fused.b.values().unwrap(), [3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.5]);
    }

    #[test]
    fn magnitudes_are_of_all_parts_or_none() {
        let dora = |values: &[f32]| Module {
            magnitude: Some(tensor("m", &[values.len()], values)),
            ..module("q", (&[1, 1], &[1.0]), (&[2, 1], &[3.0, 4.0]), 1.0)
        };
        let (x, y) = (dora(&[1.0, 2.0]), dora(&[3.0, 4.0]));
        let fused = fuse("qk", &[part(&x), part(&y)]).unwrap();
        assert_eq!(fused.magnitude.as_ref().unwrap().values().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let parts = split(&fused, &[("q".into(), 2), ("k".into(), 2)]).unwrap();
        assert_eq!(parts[1].magnitude.as_ref().unwrap().values().unwrap(), [3.0, 4.0]);

        let plain = Module { magnitude: None, ..x.clone() };
        let error = fuse("qk", &[part(&x), part(&plain)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Inexpressible);
        let short = dora(&[1.0]);
        assert!(fuse("qk", &[part(&short), part(&y)]).unwrap_err().to_string().contains("must hold 2"));
    }

    #[test]
    fn rows_must_add_up() {
        let fused = module("qk", (&[1, 1], &[1.0]), (&[3, 1], &[1.0, 2.0, 3.0]), 1.0);
        let error = split(&fused, &[("q".into(), 2), ("k".into(), 2)]).unwrap_err();
        assert_eq!(error.to_string(), "`qk`: changes 3 rows, but its 2 parts have 4");
        let error = fuse("qk", &[FusePart { module: Some(&fused), rows: 2 }]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!(
            fuse("qk", &[FusePart { module: None, rows: 2 }]).unwrap_err().kind(),
            ErrorKind::Inexpressible
        );
    }

    proptest! {
        #[test]
        fn fusing_and_splitting_change_no_delta(
            shapes in prop::collection::vec((1..4usize, 1..4usize), 2..4),
            inputs in 1..4usize,
            seed in 0..1000u32,
        ) {
            let mut state = seed;
            let mut values = |n: usize| -> Vec<f32> {
                (0..n).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f32::from((state >> 24) as u8) / 64.0 - 2.0
                }).collect()
            };
            let modules: Vec<Module> = shapes.iter().map(|&(rows, rank)| {
                let (a, b) = (values(rank * inputs), values(rows * rank));
                module("part", (&[rank, inputs], &a), (&[rows, rank], &b), 0.5)
            }).collect();
            let fused = fuse("whole", &modules.iter().map(part).collect::<Vec<_>>()).unwrap();
            let before: Vec<Vec<f64>> = modules.iter().flat_map(delta).collect();
            prop_assert_eq!(&delta(&fused), &before);
            let names: Vec<(String, usize)> = shapes.iter().map(|s| ("part".to_string(), s.0)).collect();
            let parts = split(&fused, &names).unwrap();
            let after: Vec<Vec<f64>> = parts.iter().flat_map(delta).collect();
            prop_assert_eq!(&after, &before);
            let even = shapes.iter().all(|s| s.1 == shapes[0].1);
            prop_assert!(!even || parts.iter().zip(&modules).all(|(x, y)| x.rank() == y.rank()));
        }
    }
}
