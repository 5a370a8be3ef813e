//! A format that is in the table only under test. It shows, in one file, what adding a format takes.
//!
//! ```text
//! dummy/PATH/a   (r, in)   = A
//! dummy/PATH/b   (out, r)  = scale * B
//! ```

use super::halves::{Half, Pair, pairs};
use super::{AdapterFormat, Can, Draft, DraftOptions, Mapped, Scaled};
use crate::adapter::{Adapter, Files, Module, ModuleKind, Scaling};
use crate::plan::Container;
use crate::{Base, Result};

/// The format.
#[derive(Debug)]
pub(crate) struct Dummy;

const PREFIX: &str = "dummy/";
const STEM: &str = "dummy_weights";

impl AdapterFormat for Dummy {
    fn name(&self) -> &'static str {
        "dummy"
    }

    fn title(&self) -> &'static str {
        "a folder that only tests know"
    }

    fn files(&self) -> &'static [&'static str] {
        &["dummy_weights.safetensors"]
    }

    fn marks(&self, name: &str, _: &Files) -> bool {
        name.starts_with(PREFIX)
    }

    fn read(&self, files: &Files, _: Option<&Base>) -> Result<Adapter> {
        let (pairs, findings) =
            pairs(files, |info| match info.name.strip_prefix(PREFIX)?.rsplit_once('/')? {
                (path, "a") => Some((path.to_string(), Half::A)),
                (path, "b") => Some((path.to_string(), Half::B)),
                _ => None,
            });
        let mut adapter = Adapter { findings, ..Adapter::empty(self.name(), files) };
        let plain =
            |pair: Pair| Module::new(pair.path, ModuleKind::Linear, pair.a, pair.b, Scaling::Fixed(1.0));
        adapter.modules = pairs.into_iter().map(plain).collect();
        adapter.sort();
        Ok(adapter)
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        Can { convolutions: true, ..Can::default() }.hold(adapter, self.name())?;
        let mut tensors = Vec::new();
        let mut mapped = Vec::new();
        for module in &adapter.modules {
            let name = format!("{PREFIX}{}", module.path);
            let b = Scaled { tensor: module.b.clone(), times: module.scale(module.rank()) };
            tensors.push(Scaled::plain(module.a.clone()).output(&format!("{name}/a"), options.dtype));
            tensors.push(b.output(&format!("{name}/b"), options.dtype));
            mapped.push(Mapped { module: module.path.clone(), name, how: Vec::new() });
        }
        let container = Container::Safetensors { stem: STEM, metadata: [].into(), max_shard: u64::MAX };
        Ok(Draft { stem: Some(STEM), container, tensors, side_files: Vec::new(), mapped })
    }
}
