//! What a step hands to the plan.

use std::sync::Arc;

use super::Sheet;
use crate::adapter::Adapter;
use crate::card::Loading;
use crate::plan::{self, Cover, Provenance};

/// What an output says about itself, for as long as there is something to add.
#[derive(Debug, Clone, Default)]
pub(crate) struct Papers {
    /// Where it came from.
    pub(crate) provenance: Option<Arc<dyn Provenance>>,
    /// What its model card says, if it gets one.
    pub(crate) sheet: Option<Sheet>,
}

impl Papers {
    /// Adds a row to the figures of the card, or gives it another value.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<String>) {
        if let Some(sheet) = &mut self.sheet {
            sheet.figure(name, value.into());
        }
    }

    /// For a model.
    pub(crate) fn of_model(self) -> plan::Papers {
        let cover = self.sheet.map(|sheet| -> Arc<dyn Cover> { Arc::new(sheet) });
        plan::Papers { provenance: self.provenance, cover }
    }

    /// For this adapter in a format that is loaded like this.
    pub(crate) fn of_adapter(self, adapter: &Adapter, loading: Option<Loading>) -> plan::Papers {
        let sheet = self.sheet.map(|sheet| sheet.of_adapter(adapter, loading));
        Papers { sheet, ..self }.of_model()
    }
}
