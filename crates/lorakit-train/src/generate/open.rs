//! Base and adapters from their files.

use std::path::{Path, PathBuf};

use lorakit::plan::Progress;
use serde_json::{Map, Value};

use super::Generator;
use super::problem::Problem;
use crate::adapter;
use crate::base::{Base, Quant};
use crate::data::Text;
use crate::error::{Error, Result};
use crate::kernel::{Compute, Products};
use crate::model::{Adapter, Lora, Shape, Slot};
use crate::run;

/// What answers, and how.
#[derive(Debug, Clone)]
pub struct Open<'a> {
    /// A folder or a GGUF file.
    pub model: &'a Path,
    /// Adapters of any format that `lorakit` reads, each with its weight.
    pub adapters: &'a [(PathBuf, f64)],
    /// How the linears of the base are stored in memory.
    pub quant: Quant,
    /// The type of operands for prompts.
    pub compute: Compute,
    /// Number of threads; as many as there are, if none is given.
    pub threads: Option<usize>,
    /// A chat template instead of the model's, and of that beside an adapter.
    pub template: Option<&'a Path>,
    /// What the template is given, besides what adapters were trained with.
    pub template_kwargs: Map<String, Value>,
}

impl<'a> Open<'a> {
    /// The base as its file holds it, in f32.
    pub fn new(model: &'a Path) -> Self {
        Self {
            model,
            adapters: &[],
            quant: Quant::Keep,
            compute: Compute::F32,
            threads: None,
            template: None,
            template_kwargs: Map::new(),
        }
    }
}

/// A base with its adapters.
pub struct Opened {
    /// The base.
    pub base: Base,
    /// All adapters with their weights, as one.
    pub adapter: Adapter<f32>,
    /// Tokenizer and template.
    pub text: Text,
    /// Tokens that the base sees at most.
    pub context: Option<usize>,
    /// Types of operands for prompts, and threads.
    pub products: Products,
}

impl Opened {
    /// Reads the base and its adapters.
    ///
    /// # Errors
    /// As [`Base::open`] and [`adapter::read`]; if the model has no tokenizer, or a template is none;
    /// [`Usage`](lorakit::ErrorKind::Usage) for a weight that is not finite.
    pub fn new(how: &Open<'_>, progress: &dyn Progress) -> Result<Self> {
        if let Some((path, found)) = how.adapters.iter().find(|(_, weight)| !weight.is_finite()) {
            return Err(Error::from(Problem::Weight { found: *found }).at(path));
        }
        let files = Base::files(how.model)?;
        let text = text(how, &files)?;
        let context = Base::context(&files);
        let threads = how.threads.unwrap_or_else(run::usual_threads);
        let base = Base::of(files, how.quant, threads, progress)?;
        let read = |(path, weight): &(PathBuf, f64)| Ok((adapter::read(path, &base)?.1, *weight));
        let adapters = how.adapters.iter().map(read).collect::<Result<Vec<_>>>()?;
        let adapter = together(&base.model.shape, adapters);
        Ok(Self { base, adapter, text, context, products: Products { compute: how.compute, threads } })
    }

    /// What answers with all adapters.
    pub fn generator(&self) -> Generator<'_> {
        self.generator_with(&self.adapter)
    }

    /// What answers with another adapter, [`Adapter::none`] for example.
    pub fn generator_with<'a>(&'a self, adapter: &'a Adapter<f32>) -> Generator<'a> {
        Generator {
            model: &self.base.model,
            adapter,
            text: &self.text,
            context: self.context,
            products: self.products,
        }
    }
}

/// Several adapters with weights as one, whose products are the sums of theirs: factors side by side. One alone keeps its
/// factors as they are.
pub(crate) fn together(shape: &Shape, adapters: Vec<(Adapter<f32>, f64)>) -> Adapter<f32> {
    let mut all = Adapter::none(shape);
    for (adapter, weight) in adapters {
        for (all, loras) in all.layers.iter_mut().zip(adapter.layers) {
            for ((slot, all), lora) in Slot::ALL.into_iter().zip(all).zip(loras) {
                let Some(mut lora) = lora else { continue };
                lora.scale *= weight;
                *all = Some(match all.take() {
                    None => lora,
                    Some(before) => beside(before, lora, shape.size(slot)),
                });
            }
        }
    }
    all
}

/// The factors of two products whose sum theirs is.
fn beside(one: Lora<f32>, other: Lora<f32>, (out, inputs): (usize, usize)) -> Lora<f32> {
    let mut b = Vec::with_capacity(one.b.len() + other.b.len());
    for row in 0..out {
        for lora in [&one, &other] {
            let rank = lora.a.len() / inputs;
            b.extend(
                lora.b[row * rank..][..rank].iter().map(|value| (f64::from(*value) * lora.scale) as f32),
            );
        }
    }
    Lora { scale: 1.0, a: [one.a, other.a].concat(), b }
}

/// The tokenizer of the base; its template, unless one is named or lies beside an adapter; and what that is given.
fn text(how: &Open<'_>, files: &lorakit::Model) -> Result<Text> {
    let mut settings = run::told(how.adapters.iter().map(|(path, _)| path.as_path()))?;
    if let Some(template) = how.template {
        settings.chat_template = Some(template.to_path_buf());
    }
    let mut text = run::text(&settings, files)?;
    text.variables.extend(how.template_kwargs.clone());
    Ok(text)
}
