//! Adapters that were not read from a file: held by a trainer, or computed.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Adapter, AdapterConfig, Module, Problem, Saved};
use crate::{Error, Result, TensorRef};

impl Adapter {
    /// The [`format`](Adapter::format) of adapters in memory.
    pub const IN_MEMORY: &'static str = "memory";

    /// Makes an adapter in memory, which [`save`](crate::ops::convert::save) writes in any format. Messages call it
    /// `name`. Each module has its own scale, so `config` need not give ranks and alphas, and if it does they are written
    /// as far as they are true; its other fields, such as the base and the task, go into the file. Tensors come from [`TensorRef::of_values`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for two modules with the same path, and for factors whose shapes
    /// do not form a product.
    pub fn in_memory(
        name: impl AsRef<Path>,
        config: AdapterConfig,
        modules: Vec<Module>,
        saved: Vec<Saved>,
    ) -> Result<Self> {
        let name = name.as_ref();
        let mut paths = HashSet::new();
        for module in &modules {
            let fault = |problem: Problem| Err(Error::from(problem).tensor(&module.path).at(name));
            if !paths.insert(&module.path) {
                return fault(Problem::GivenTwice);
            }
            let (a, b) = (&module.a.info().shape, &module.b.info().shape);
            match (a.as_slice(), b.as_slice()) {
                ([r, _, ..], [_, s, ..]) if r == s && !a.contains(&0) && !b.contains(&0) => {}
                _ => return fault(Problem::NotFactors { a: a.clone(), b: b.clone() }),
            }
        }
        let mut adapter = Adapter { modules, saved, ..Self::of(Self::IN_MEMORY, name) };
        adapter.config = config.of_memory();
        adapter.sort();
        Ok(adapter)
    }

    /// The tensors of all parts.
    pub(super) fn parts(&self) -> Vec<TensorRef> {
        let of_module = |m: &Module| {
            let optional = [&m.magnitude, &m.bias, &m.base_weight].map(Clone::clone).into_iter().flatten();
            [m.a.clone(), m.b.clone()].into_iter().chain(optional).collect::<Vec<_>>()
        };
        let modules = self.modules.iter().flat_map(of_module);
        let saved = self.saved.iter().map(|saved| saved.tensor.clone());
        let rows = self.token_rows.iter().map(|rows| rows.tensor.clone());
        let deltas = self.deltas.iter().map(|delta| delta.tensor.clone());
        modules.chain(saved).chain(deltas).chain(rows).collect()
    }
}

impl AdapterConfig {
    /// The configuration with its fields repeated in its raw text, which is what writers copy. Writers add the ranks,
    /// alphas and other values that follow from the modules.
    fn of_memory(mut self) -> Self {
        if self.peft_type.is_empty() {
            self.peft_type = "LORA".into();
        }
        let texts = [
            ("peft_type", self.peft_type.as_str()),
            ("task_type", self.task_type.as_deref().unwrap_or_default()),
            ("bias", self.bias.as_str()),
        ];
        let lists = [("target_modules", &self.target_modules), ("modules_to_save", &self.modules_to_save)];
        let flags =
            [("fan_in_fan_out", self.fan_in_fan_out), ("ensure_weight_tying", self.ensure_weight_tying)];
        let mut said: Map<String, Value> = Map::new();
        said.extend(texts.iter().filter(|(_, t)| !t.is_empty()).map(|(k, t)| (k.to_string(), (*t).into())));
        said.extend(
            lists
                .iter()
                .filter(|(_, list)| !list.is_empty())
                .map(|(k, l)| (k.to_string(), l.as_slice().into())),
        );
        said.extend(flags.iter().filter(|(_, flag)| *flag).map(|(k, flag)| (k.to_string(), (*flag).into())));
        if let (Some(r), Some(alpha)) = (self.r, self.alpha) {
            said.insert("r".into(), r.into());
            // Many readers expect a whole number where it is one.
            let whole = alpha.fract() == 0.0 && alpha.abs() < 1e15;
            said.insert("lora_alpha".into(), if whole { (alpha as i64).into() } else { alpha.into() });
            said.insert("use_rslora".into(), self.use_rslora.into());
        }
        let init = match self.init.as_str() {
            "" => None,
            "true" => Some(Value::from(true)),
            "false" => Some(Value::from(false)),
            name => Some(Value::from(name)),
        };
        said.extend(init.map(|init| ("init_lora_weights".to_string(), init)));
        for (name, value) in said {
            self.raw.entry(name).or_insert(value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use lorakit_tensor::DType;

    use super::super::{ModuleKind, Scaling};
    use super::*;

    fn tensor(shape: [usize; 2]) -> TensorRef {
        TensorRef::of_values("w", DType::F32, shape, &vec![0.5; shape[0] * shape[1]]).unwrap()
    }

    fn module(path: &str, a: [usize; 2], b: [usize; 2]) -> Module {
        Module::new(path, ModuleKind::Linear, tensor(a), tensor(b), Scaling::Alpha(4.0))
    }

    fn refused(modules: Vec<Module>) -> String {
        Adapter::in_memory("mine", AdapterConfig::default(), modules, Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_a_product_is_refused() {
        let good = || module("layers.0.q", [2, 3], [4, 2]);
        assert_eq!(refused(vec![good(), good()]), "`mine`: `layers.0.q`: is given twice");
        assert_eq!(
            refused(vec![module("q", [2, 3], [4, 3])]),
            "`mine`: `q`: has A [2, 3] and B [4, 3], which must be (r, in) and (out, r)"
        );
        assert_eq!(
            TensorRef::of_values("w", DType::F32, [2, 3], &[1.0]).unwrap_err().to_string(),
            "`w`: is given 1 values, which do not fill the shape [2, 3]"
        );
    }

    #[test]
    fn tensors_are_those_of_its_parts() {
        let saved = Saved { name: "norm.weight".into(), tensor: tensor([1, 3]) };
        let mut biased = module("layers.2.q", [2, 3], [4, 2]);
        biased.bias = Some(tensor([1, 4]));
        let modules = vec![module("layers.10.q", [2, 3], [4, 2]), biased];
        let adapter = Adapter::in_memory("mine", AdapterConfig::default(), modules, vec![saved]).unwrap();
        assert_eq!(adapter.modules[0].path, "layers.2.q");
        assert_eq!((adapter.tensors().len(), adapter.parameters()), (6, 14 + 4 + 14 + 3));
        assert_eq!((adapter.file(), adapter.files().len()), (None, 0));
        adapter.check().unwrap();
    }
}
