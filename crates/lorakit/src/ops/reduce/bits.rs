//! Rank against bits: which dtype the factors of each module get, and which rank that leaves room for.
//!
//! A module of rank `k` loses the tail of its spectrum, and what its dtypes round away. A float dtype with the relative
//! error `ε` costs each triplet `ε² s²`; blocks cost `ε² (Σ s)² / k` together, since their factors are even
//! ([`lorakit_linalg::Svd::even_factors`]). `ε` is measured on the factors that are there. Each module thus has a
//! list of sizes and losses, and one budget takes, of all modules, the steps that gain most per byte.

use lorakit_tensor::DType;
use ndarray::Array2;

use crate::adapter::Module;
use crate::adapter::format::AdapterFormat;
use crate::output::errors_of_rows;

/// A dtype for the factors of a module; `None` keeps the present one.
pub(super) type Asked = Option<DType>;

/// The dtypes of `A` and `B` if `module` gets that rank.
pub(super) fn stored(format: &dyn AdapterFormat, module: &Module, rank: usize, asked: Asked) -> [DType; 2] {
    asked.map_or([module.dtype(); 2], |dtype| format.stored_as(module, rank, dtype))
}

/// Rows and columns of the delta.
pub(super) fn shape(module: &Module) -> (usize, usize) {
    (module.b.info().rows_cols().0, module.a.info().rows_cols().1)
}

/// Whether factors in `dtypes` are computed anew to lose least to quantisation.
pub(super) fn is_quantised(dtypes: [DType; 2]) -> bool {
    dtypes.iter().any(|dtype| dtype.block().elements > 1)
}

/// Whether a module of that rank stays as it is: where it has the dtype that is asked for, or the writer casts all
/// factors to it.
pub(super) fn keeps(module: &Module, rank: usize, (asked, cast): (Asked, Option<DType>)) -> bool {
    rank >= module.rank() && (asked.is_none() || asked == cast)
}

/// The spectrum of a module, scale included, and how much each dtype rounds.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) s: Vec<f64>,
    noise: Vec<(DType, f64)>,
}

impl Measured {
    /// `a` is the factor on which `dtypes` are tried.
    pub(super) fn new(s: Vec<f64>, a: &Array2<f64>, dtypes: impl IntoIterator<Item = DType>) -> Self {
        Measured { s, noise: dtypes.into_iter().map(|dtype| (dtype, noise(dtype, a))).collect() }
    }

    /// The squared relative error of a row in `dtype`.
    fn noise(&self, dtype: DType) -> f64 {
        self.noise.iter().find(|(known, _)| *known == dtype).map_or(0.0, |(_, noise)| *noise)
    }

    /// `||D||²`.
    pub(super) fn energy(&self) -> f64 {
        self.s.iter().map(|s| s * s).sum()
    }
}

/// `ε²` of `dtype`: the mean over the rows of `a` of their squared error, relative to them.
fn noise(dtype: DType, a: &Array2<f64>) -> f64 {
    let cols = a.ncols().next_multiple_of(dtype.block().elements);
    let Some(errors) = errors_of_rows(dtype, a, cols) else { return 0.0 };
    let shares: Vec<f64> =
        errors.iter().filter(|(whole, _)| *whole > 0.0).map(|(whole, off)| off / whole).collect();
    shares.iter().sum::<f64>() / shares.len().max(1) as f64
}

/// One way to store a module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Way {
    pub(super) rank: usize,
    pub(super) asked: Asked,
    /// Bytes of the factors.
    cost: u64,
    /// The squared error.
    pub(super) lost: f64,
}

/// The ways to store `module` in one of `dtypes` that no mixture of others betters, the smallest first.
pub(super) fn ways(
    format: &dyn AdapterFormat,
    module: &Module,
    measured: &Measured,
    dtypes: &[Asked],
    max_rank: usize,
) -> Vec<Way> {
    let (rows, cols) = shape(module);
    let most = measured.s.iter().take(max_rank).take_while(|s| **s > 0.0).count().max(1);
    let tail = {
        let mut tail = vec![0.0; measured.s.len() + 1];
        for (k, s) in measured.s.iter().enumerate().rev() {
            tail[k] = tail[k + 1] + s * s;
        }
        tail
    };
    let mut ways = Vec::new();
    for &asked in dtypes {
        let (mut sum, mut squares) = (0.0, 0.0);
        for rank in 1..=most {
            let s = measured.s.get(rank - 1).copied().unwrap_or(0.0);
            (sum, squares) = (sum + s, squares + s * s);
            let whole = keeps(module, rank, (asked, None));
            let [a, b] = stored(format, module, rank, asked);
            let bytes = |dtype: DType, values| dtype.byte_len(values as u64).unwrap_or(u64::MAX / 4);
            let (cost, rounded) = if whole {
                (module.factor_bytes(), 0.0)
            } else {
                let exposed = if is_quantised([a, b]) { sum * sum / rank as f64 } else { squares };
                let noise = measured.noise(a) + measured.noise(b);
                (bytes(a, rank * cols) + bytes(b, rows * rank), noise * exposed)
            };
            let tail = tail.get(rank).copied().unwrap_or(0.0);
            ways.push(Way { rank, asked, cost, lost: tail + rounded });
        }
    }
    hull(ways)
}

/// The lower convex hull of losses over costs.
fn hull(mut ways: Vec<Way>) -> Vec<Way> {
    ways.sort_by(|x, y| x.cost.cmp(&y.cost).then(x.lost.total_cmp(&y.lost)));
    let mut hull: Vec<Way> = Vec::new();
    for way in ways {
        if hull.last().is_some_and(|last| way.cost == last.cost || way.lost >= last.lost) {
            continue;
        }
        while let [.., before, last] = hull.as_slice() {
            if gain(before, last) > gain(last, &way) {
                break;
            }
            hull.pop();
        }
        hull.push(way);
    }
    hull
}

/// What a step gains per byte.
fn gain(from: &Way, to: &Way) -> f64 {
    (from.lost - to.lost) / (to.cost - from.cost) as f64
}

/// The ways of all modules, and the steps between them in order of their gain.
#[derive(Debug)]
pub(super) struct Offers {
    ways: Vec<Vec<Way>>,
    /// Gain, module, and the way that the step leads to.
    steps: Vec<(f64, usize, usize)>,
}

impl Offers {
    pub(super) fn new(ways: Vec<Vec<Way>>) -> Self {
        let of_module = |(module, ways): (usize, &Vec<Way>)| -> Vec<(f64, usize, usize)> {
            let steps = ways.windows(2).enumerate();
            steps.map(|(i, pair)| (gain(&pair[0], &pair[1]), module, i + 1)).collect()
        };
        let mut steps: Vec<_> = ways.iter().enumerate().flat_map(of_module).collect();
        steps.sort_by(|x, y| y.0.total_cmp(&x.0));
        Offers { ways, steps }
    }

    /// The smallest way of each module.
    pub(super) fn smallest(&self) -> Vec<Way> {
        self.ways.iter().filter_map(|ways| ways.first().copied()).collect()
    }

    /// A way for each module, of at most `budget` bytes together, and the gain per byte of the best step that was left
    /// out. `None` if the smallest ways take more.
    pub(super) fn spend(&self, budget: u64) -> Option<(Vec<Way>, f64)> {
        let mut taken = vec![0; self.ways.len()];
        let mut spent: u64 = self.ways.iter().filter_map(|ways| Some(ways.first()?.cost)).sum();
        if spent > budget {
            return None;
        }
        let mut level = 0f64;
        for &(gain, module, to) in &self.steps {
            let ways = &self.ways[module];
            let cost = ways[to].cost - ways[to - 1].cost;
            if taken[module] + 1 == to && spent + cost <= budget {
                taken[module] = to;
                spent += cost;
            } else {
                level = level.max(gain);
            }
        }
        let ways = self.ways.iter().zip(&taken).filter_map(|(ways, at)| ways.get(*at).copied());
        Some((ways.collect(), level))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn way(cost: u64, lost: f64) -> Way {
        Way { rank: 1, asked: None, cost, lost }
    }

    #[test]
    fn only_ways_that_pay_are_offered() {
        let hull = hull(vec![way(40, 1.0), way(10, 9.0), way(20, 8.5), way(30, 3.0), way(35, 3.5)]);
        assert_eq!(hull, [way(10, 9.0), way(30, 3.0), way(40, 1.0)]);
    }

    #[test]
    fn a_budget_takes_the_steps_that_gain_most() {
        let offers = Offers::new(vec![
            vec![way(10, 9.0), way(30, 3.0), way(40, 1.0)],
            vec![way(10, 9.0), way(20, 1.0), way(60, 0.0)],
        ]);
        let lost = |budget| {
            offers.spend(budget).map(|(ways, _)| ways.iter().map(|way| way.lost).collect::<Vec<_>>())
        };
        assert_eq!(lost(19), None);
        assert_eq!(lost(20).unwrap(), [9.0, 9.0]);
        assert_eq!(lost(35).unwrap(), [9.0, 1.0]);
        assert_eq!(lost(50).unwrap(), [3.0, 1.0]);
        assert_eq!(lost(59).unwrap(), [3.0, 1.0]);
        assert_eq!(lost(1000).unwrap(), [1.0, 0.0]);
        assert_eq!(offers.spend(50).unwrap().1, 0.2);
    }

    proptest! {
        /// A larger budget never loses more.
        #[test]
        fn more_bytes_lose_less(points in prop::collection::vec((1u64..100, 0.0f64..10.0), 2..20), budget in 1u64..200) {
            let (mine, other) = points.split_at(points.len() / 2);
            let ways = |points: &[(u64, f64)]| hull(points.iter().map(|(cost, lost)| way(*cost, *lost)).collect());
            let offers = Offers::new(vec![ways(mine), ways(other)]);
            let lost = |budget| offers.spend(budget).map(|(ways, _)| ways.iter().map(|w| w.lost).sum::<f64>());
            if let (Some(less), Some(more)) = (lost(budget), lost(10 * budget)) {
                prop_assert!(more <= less + 1e-12);
            }
        }
    }
}
