//! Formats to write, from the library's table.

use clap::builder::{PossibleValue, TypedValueParser};
use lorakit::ops::convert::adapter::{FormatInfo, formats};

use super::values::one_of;

/// A format of adapters, or `hf`, which is only for models. GGUF is for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format(&'static str);

impl Format {
    pub(crate) const HF: Format = Format("hf");
    pub(crate) const GGUF: Format = Format("gguf");
    pub(crate) const PEFT: Format = Format("peft");

    pub(crate) fn name(self) -> &'static str {
        self.0
    }
}

/// A format of adapters.
pub(super) fn of_adapters() -> impl TypedValueParser<Value = Format> {
    parser(formats())
}

/// A format of adapters or models.
pub(super) fn any() -> impl TypedValueParser<Value = Format> {
    let mut all = vec![FormatInfo { name: Format::HF.name(), title: "a model as a Hugging Face folder" }];
    all.extend(formats());
    parser(all)
}

fn parser(formats: Vec<FormatInfo>) -> impl TypedValueParser<Value = Format> {
    let value = |format: &FormatInfo| PossibleValue::new(format.name).help(format.title);
    one_of(formats.iter().map(|format| (value(format), Format(format.name))).collect())
}
