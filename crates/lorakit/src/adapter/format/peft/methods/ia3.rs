//! IA3 (Liu et al. 2022): a factor for each output of a layer, or for each input of a feed-forward layer.

use fancy_regex::Regex;
use serde_json::Value;

use super::interface::{Layer, Method, Settings};
use crate::adapter::format::assemble::{Outcome, fault};
use crate::adapter::{Adapter, Multiplied, Multiplier};

pub(super) struct Ia3;

const MARK: &str = "ia3_l";

impl Method for Ia3 {
    fn peft_type(&self) -> &'static str {
        "IA3"
    }

    fn name(&self) -> &'static str {
        "IA3"
    }

    fn read_as(&self) -> &'static str {
        "factors for rows and columns of weights, which only a merge can apply"
    }

    fn marks(&self) -> &'static [&'static str] {
        &[MARK]
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        let tensor = layer.need(MARK)?;
        let shape = tensor.info().shape.clone();
        let by = match shape.as_slice() {
            [_, 1] => Multiplier::Outputs(tensor),
            [1, _] => Multiplier::Inputs(tensor),
            // Factors of convolutions have the same shape on both sides.
            [1, _, kernel @ ..] if kernel.iter().all(|size| *size == 1) => {
                if feeds_forward(layer.settings, layer.path)? {
                    Multiplier::Inputs(tensor)
                } else {
                    Multiplier::Outputs(tensor)
                }
            }
            shape => {
                return Err(fault(
                    "shape",
                    format!("has factors of shape {shape:?}, which are not a vector"),
                ));
            }
        };
        adapter.multiplied.push(Multiplied { path: layer.path.to_string(), method: self.name(), by });
        Ok(())
    }

    fn is_low_rank(&self) -> bool {
        false
    }
}

/// Whether `feedforward_modules` names the module: by the end of its path, or by an expression for all of it.
fn feeds_forward(settings: &Settings<'_>, path: &str) -> Outcome<bool> {
    match settings.get("feedforward_modules") {
        Some(Value::String(expression)) => {
            let whole = format!("^(?:{expression})$");
            let found = Regex::new(&whole).and_then(|regex| regex.is_match(path));
            found.map_err(|_| {
                let message = format!(
                    "`feedforward_modules` is `{expression}`, a regular expression that cannot be matched"
                );
                fault("foreign-method", message)
            })
        }
        Some(Value::Array(names)) => {
            Ok(names.iter().filter_map(Value::as_str).any(|name| path.ends_with(name)))
        }
        _ => {
            let message = "has factors for a convolution, and no `feedforward_modules` says whether they are for its \
                           inputs or its outputs";
            Err(fault("shape", message))
        }
    }
}
