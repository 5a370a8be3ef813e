//! Which rows of one matrix make up another.

use std::ops::Range;
use std::sync::Arc;

/// An order of rows: row `n` of the target is row `order[n]` of the source. Kept as runs of neighbours, since
/// slices of a large tensor are as common as permutations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOrder {
    runs: Arc<[Run]>,
}

/// Rows that are neighbours in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    target: usize,
    source: usize,
    len: usize,
}

impl RowOrder {
    /// The order that takes these ranges of source rows one after another.
    pub fn of_ranges(ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut target = 0;
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            match runs.last_mut() {
                Some(run) if run.source + run.len == range.start => run.len += range.len(),
                _ => runs.push(Run { target, source: range.start, len: range.len() }),
            }
            target += range.len();
        }
        RowOrder { runs: runs.into() }
    }

    /// The order that takes these source rows one after another.
    pub fn of_rows(rows: impl IntoIterator<Item = usize>) -> Self {
        Self::of_ranges(rows.into_iter().map(|row| row..row + 1))
    }

    /// Number of target rows.
    pub fn len(&self) -> usize {
        self.runs.last().map_or(0, |run| run.target + run.len)
    }

    /// Whether there are no target rows.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether this order leaves a source of `rows` rows as it is.
    pub fn keeps(&self, rows: usize) -> bool {
        self.len() == rows && self.runs.iter().all(|run| run.source == run.target)
    }

    /// The source rows of the target rows `target`, as ranges.
    pub(super) fn sources(&self, target: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let first = self.runs.partition_point(|run| run.target + run.len <= target.start);
        let overlapping = self.runs[first..].iter().take_while(move |run| run.target < target.end);
        overlapping.map(move |run| {
            let start = target.start.max(run.target) - run.target;
            let end = target.end.min(run.target + run.len) - run.target;
            run.source + start..run.source + end
        })
    }

    /// Where the source rows `part` go: runs of target rows, each with its rows counted from `part.start`.
    pub(crate) fn targets(&self, part: &Range<usize>) -> Vec<(Range<usize>, RowOrder)> {
        let mut targets: Vec<(Range<usize>, Vec<Range<usize>>)> = Vec::new();
        for run in self.runs.iter() {
            let (start, end) = (part.start.max(run.source), part.end.min(run.source + run.len));
            if start >= end {
                continue;
            }
            let at = run.target + (start - run.source);
            let source = start - part.start..end - part.start;
            match targets.last_mut() {
                Some((rows, sources)) if rows.end == at => {
                    rows.end += end - start;
                    sources.push(source);
                }
                _ => targets.push((at..at + (end - start), vec![source])),
            }
        }
        targets.into_iter().map(|(rows, sources)| (rows, RowOrder::of_ranges(sources))).collect()
    }

    /// This order applied to the result of `first`.
    pub(super) fn after(&self, first: &RowOrder) -> RowOrder {
        RowOrder::of_ranges(self.runs.iter().flat_map(|run| first.sources(run.source..run.source + run.len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(order: &RowOrder) -> Vec<usize> {
        order.sources(0..order.len()).flatten().collect()
    }

    #[test]
    fn neighbours_become_one_run() {
        let order = RowOrder::of_rows([4, 5, 6, 0, 1]);
        assert_eq!(order, RowOrder::of_ranges([4..7, 2..2, 0..2]));
        assert_eq!((order.runs.len(), order.len()), (2, 5));
        assert_eq!(order.sources(2..4).collect::<Vec<_>>(), [6..7, 0..1]);
        assert!(!order.keeps(5) && RowOrder::of_rows(0..7).keeps(7) && !RowOrder::of_rows(0..7).keeps(8));
        assert!(RowOrder::of_rows([]).is_empty());
    }

    #[test]
    fn targets_are_where_sources_go() {
        let order = RowOrder::of_rows([0, 4, 1, 5, 2, 6, 3, 7]);
        let mut placed = vec![None; 8];
        for part in [0..3, 3..8] {
            for (target, relative) in order.targets(&part) {
                for (row, source) in target.zip(rows(&relative)) {
                    assert!(placed[row].replace(part.start + source).is_none());
                }
            }
        }
        assert_eq!(placed.into_iter().flatten().collect::<Vec<_>>(), rows(&order));
        assert_eq!(order.targets(&(0..8)), [(0..8, order.clone())]);
    }

    #[test]
    fn orders_compose() {
        let (first, second) = (RowOrder::of_rows([3, 1, 2, 0]), RowOrder::of_rows([2, 3, 0]));
        assert_eq!(rows(&second.after(&first)), [2, 0, 3]);
    }
}
