//! A method that is in the table only under test: its deltas are `u v`, a row times a column.

use super::interface::{Layer, Method};
use crate::adapter::format::assemble::Outcome;
use crate::adapter::{Adapter, Module, ModuleKind, Scaling};

pub(super) struct Dummy;

impl Method for Dummy {
    fn peft_type(&self) -> &'static str {
        "DUMMY"
    }

    fn name(&self) -> &'static str {
        "dummy"
    }

    fn read_as(&self) -> &'static str {
        "a LoRA of rank 1"
    }

    fn marks(&self) -> &'static [&'static str] {
        &["dummy_u", "dummy_v"]
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        let (u, v) = (layer.need("dummy_u")?, layer.need("dummy_v")?);
        let scale = layer.settings.number("strength", 1.0)?;
        let module = Module::new(layer.path, ModuleKind::Linear, v, u, Scaling::Fixed(scale));
        adapter.modules.push(Module { expanded: Some(self.name()), ..module });
        Ok(())
    }
}
