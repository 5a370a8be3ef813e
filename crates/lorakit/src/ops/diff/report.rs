//! A comparison, for programs.

use std::path::Path;

use serde::{Serialize, Serializer};

use super::{
    AdapterDiff, AdapterSide, Change, ChangedTensors, Diff, FieldDiff, KindDiff, ModelDiff, ModelSide,
    ModuleDiff, ModuleSide, State, Sums, TensorDiff,
};
use crate::report;

/// How two adapters or two models differ.
#[derive(Debug, Clone, Serialize)]
pub struct DiffReport<'d> {
    /// Whether A and B do different things.
    pub differs: bool,
    /// What was compared.
    #[serde(flatten)]
    pub of: Compared<'d>,
}

/// What was compared, and how it differs.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Compared<'d> {
    /// Two adapters.
    Adapters {
        /// The first.
        a: &'d AdapterSide,
        /// The second.
        b: &'d AdapterSide,
        /// See [`AdapterDiff::rescaled`].
        factor: Option<f64>,
        /// Of all low-rank deltas together.
        deltas: &'d Sums,
        /// Differences of the configurations that matter.
        configuration: &'d [FieldDiff],
        /// Low-rank modules.
        modules: &'d [ModuleDiff],
        /// What is stored whole.
        tensors: &'d [TensorDiff],
    },
    /// Two models.
    Models {
        /// The first.
        a: &'d ModelSide,
        /// The second.
        b: &'d ModelSide,
        /// The base that both come from, if it was named.
        #[serde(serialize_with = "report::optional_path")]
        base: Option<&'d Path>,
        /// Number of tensors that A and B have in the same shape but the base lacks.
        base_lacks: Option<usize>,
        /// Of the tensors that differ.
        changed: &'d ChangedTensors,
        /// Of all values of the tensors that could be measured.
        values: &'d Sums,
        /// Of what A and B add to the base.
        deltas: Option<&'d Sums>,
        /// Scalar fields of `config.json` that differ.
        configuration: &'d [FieldDiff],
        /// By kind of layer.
        kinds: &'d [KindDiff],
        /// Every tensor.
        tensors: &'d [TensorDiff],
    },
}

impl Diff {
    /// Whether A and B do different things.
    pub fn differs(&self) -> bool {
        match self {
            Diff::Adapters(found) => found.differs(),
            Diff::Models(found) => found.differs(),
        }
    }

    /// What was found, for programs.
    pub fn report(&self) -> DiffReport<'_> {
        let of = match self {
            Diff::Adapters(found) => of_adapters(found),
            Diff::Models(found) => of_models(found),
        };
        DiffReport { differs: self.differs(), of }
    }
}

fn of_adapters(found: &AdapterDiff) -> Compared<'_> {
    Compared::Adapters {
        a: &found.a,
        b: &found.b,
        factor: found.rescaled(),
        deltas: &found.total,
        configuration: &found.config,
        modules: &found.modules,
        tensors: &found.parameters,
    }
}

fn of_models(found: &ModelDiff) -> Compared<'_> {
    Compared::Models {
        a: &found.a,
        b: &found.b,
        base: found.base.as_deref(),
        base_lacks: found.base.as_ref().map(|_| found.lacking),
        changed: &found.changed,
        values: &found.total,
        deltas: found.deltas.as_ref(),
        configuration: &found.config,
        kinds: &found.kinds,
        tensors: &found.tensors,
    }
}

crate::report::by_name! { State: name }

/// Norms and angles, rather than the sums they come from.
impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields {
            a: f64,
            b: f64,
            ratio: Option<f64>,
            cosine: Option<f64>,
            distance: Option<f64>,
            factor: Option<f64>,
        }
        let (a, b) = self.norms();
        let (ratio, cosine, distance, factor) = (self.ratio(), self.cosine(), self.distance(), self.factor());
        Fields { a, b, ratio, cosine, distance, factor }.serialize(serializer)
    }
}

impl Serialize for ModuleDiff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'m> {
            module: &'m str,
            state: State,
            a: Option<&'m ModuleSide>,
            b: Option<&'m ModuleSide>,
            deltas: Option<&'m Sums>,
            #[serde(skip_serializing_if = "Option::is_none")]
            factor: Option<f64>,
        }
        let factor = if let State::Rescaled(factor) = self.state { Some(factor) } else { None };
        let fields = Fields {
            module: &self.path,
            state: self.state,
            a: self.a.as_ref(),
            b: self.b.as_ref(),
            deltas: self.sums.as_ref(),
            factor,
        };
        fields.serialize(serializer)
    }
}

/// Shares, rather than the counts they come from.
impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'c> {
            differing: f64,
            largest: f64,
            non_finite: (u64, u64),
            values: &'c Sums,
            deltas: Option<&'c Sums>,
        }
        let fields = Fields {
            differing: self.share(),
            largest: self.largest,
            non_finite: self.non_finite,
            values: &self.whole,
            deltas: self.deltas.as_ref(),
        };
        fields.serialize(serializer)
    }
}
