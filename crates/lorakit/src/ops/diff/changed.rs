//! How much of two models differs, and by how much.

use super::TensorDiff;

/// The tensors that differ, of those that could be measured. A sum over all values would be that of the few tensors
/// with the largest norms, such as embeddings.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct ChangedTensors {
    /// Number of tensors that differ.
    pub tensors: usize,
    /// Share of the values of all tensors that differ, 0 to 1.
    pub differing: f64,
    /// `||B - A|| / ||A||`, averaged over the tensors that differ; `None` if none has a norm.
    pub mean: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

impl ChangedTensors {
    pub(super) fn of(tensors: &[TensorDiff]) -> Self {
        let measured = || tensors.iter().filter_map(|t| Some((t.state, t.change.as_ref()?)));
        let (differing, all) =
            measured().fold((0, 0), |(n, all), (_, change)| (n + change.differing, all + change.values));
        let changes = || measured().filter(|(state, _)| state.differs()).map(|(_, change)| change);
        let distances: Vec<f64> = changes().filter_map(|change| change.whole.distance()).collect();
        ChangedTensors {
            tensors: changes().count(),
            differing: differing as f64 / all.max(1) as f64,
            mean: (!distances.is_empty()).then(|| distances.iter().sum::<f64>() / distances.len() as f64),
            max: distances.iter().copied().reduce(f64::max),
        }
    }
}
