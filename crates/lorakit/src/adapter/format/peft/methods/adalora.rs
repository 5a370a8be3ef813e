//! AdaLoRA (Zhang et al. 2023): `B * diag(E) * A * alpha / (init_r + 1e-5)`.
//!
//! PEFT divides by the rank that training began with, not by what pruning left of it, and adds 1e-5 in f32.

use super::super::shapes;
use super::interface::{Layer, Method};
use crate::TensorRef;
use crate::adapter::format::assemble::{Outcome, fault};
use crate::adapter::{Adapter, Module, ModuleKind, Scaling};

pub(super) struct AdaLora;

const DEFAULT_RANK: f64 = 12.0;
const DEFAULT_ALPHA: f64 = 8.0;

impl Method for AdaLora {
    fn peft_type(&self) -> &'static str {
        "ADALORA"
    }

    fn name(&self) -> &'static str {
        "AdaLoRA"
    }

    fn read_as(&self) -> &'static str {
        "the LoRA that it equals, its singular values multiplied into A"
    }

    fn marks(&self) -> &'static [&'static str] {
        &["lora_A", "lora_B", "lora_E", "ranknum"]
    }

    fn prunes(&self) -> bool {
        true
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        let [a, b, e] = [layer.need("lora_A")?, layer.need("lora_B")?, layer.need("lora_E")?];
        let (&[rank, inputs], &[outputs, columns]) = (a.info().shape.as_slice(), b.info().shape.as_slice())
        else {
            return Err(fault("shape", shapes::flat(&a.info().shape, &b.info().shape)));
        };
        if columns != rank || e.info().elements() != rank as u64 {
            let e = &e.info().shape;
            let message = format!(
                "has A [{rank}, {inputs}], B [{outputs}, {columns}] and E {e:?}, which disagree on the rank"
            );
            return Err(fault("shape", message));
        }
        if rank == 0 {
            // Pruning left nothing of this layer.
            return Ok(());
        }
        let started = match layer.get("ranknum") {
            Some(tensor) => tensor.values()?.first().copied().unwrap_or(rank as f32),
            None => layer.settings.number("init_r", DEFAULT_RANK)? as f32,
        };
        let alpha = layer.settings.number("lora_alpha", DEFAULT_ALPHA)?;
        let alpha = if alpha > 0.0 { alpha } else { rank as f64 };
        let scale = alpha / f64::from(started + 1e-5);
        if !scale.is_finite() {
            return Err(fault("alpha", format!("has a scale of {scale}")));
        }
        let a = TensorRef::computed(vec![a, e], vec![rank, inputs], move |given, row, out| {
            let factor = given[1][row];
            out.iter_mut().zip(&given[0][row * inputs..]).for_each(|(out, a)| *out = a * factor);
        })?;
        let module = Module::new(layer.path, ModuleKind::Linear, a, b, Scaling::Fixed(scale));
        adapter.modules.push(Module { expanded: Some(self.name()), ..module });
        Ok(())
    }
}
