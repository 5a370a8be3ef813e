//! Answers of the adapter while it is trained: `sample_prompts`.

use std::ops::ControlFlow;
use std::path::Path;

use super::log::Log;
use super::observe::{Observer, Sample, Sampled};
use super::output::SAMPLES;
use crate::data::{self, Asked, Text};
use crate::error::Result;
use crate::generate::{Generated, Generator, Heard, Sampling};
use crate::kernel::{Compute, Products};
use crate::model::{Adapter, Model};
use crate::settings::Settings;

/// Answers prompts with the adapter that it is given.
pub(crate) trait Answers {
    /// An answer for each prompt; as many at a time as have `room` tokens together. None if `stops` says so before all are
    /// complete.
    fn answers(
        &self,
        adapter: &Adapter<f32>,
        products: Products,
        room: usize,
        stops: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Sample>>>;
}

/// What is asked, and how it is answered: by the likeliest tokens.
pub(crate) struct Prompts {
    text: Text,
    asked: Vec<Asked>,
    context: Option<usize>,
    sampling: Sampling,
}

impl Prompts {
    /// Those of the file at `path`, whose answers may have `most` tokens.
    ///
    /// # Errors
    /// As [`data::asked`]; with its line, a prompt that the model cannot answer.
    pub(crate) fn read(
        path: &Path,
        most: usize,
        text: Text,
        model: &Model,
        context: Option<usize>,
    ) -> Result<Self> {
        let asked = data::asked(path, &text)?;
        let prompts =
            Self { text, asked, context, sampling: Sampling { max_tokens: most, ..Sampling::default() } };
        let none = Adapter::none(&model.shape);
        let generator = prompts.generator(model, &none, Products { compute: Compute::F32, threads: 1 });
        for asked in &prompts.asked {
            generator.check(&asked.prompt).map_err(|error| error.at(path).line(asked.line))?;
        }
        Ok(prompts)
    }

    fn generator<'a>(
        &'a self,
        model: &'a Model,
        adapter: &'a Adapter<f32>,
        products: Products,
    ) -> Generator<'a> {
        Generator { model, adapter, text: &self.text, context: self.context, products }
    }

    /// Prompts that are answered together: with their answers they have at most `room` tokens, or are one.
    fn groups(&self, room: usize) -> Vec<&[Asked]> {
        let (mut groups, mut begin, mut tokens) = (Vec::new(), 0, 0);
        for (at, asked) in self.asked.iter().enumerate() {
            let own = asked.prompt.len() + self.sampling.max_tokens;
            if at > begin && tokens + own > room {
                groups.push(&self.asked[begin..at]);
                (begin, tokens) = (at, 0);
            }
            tokens += own;
        }
        groups.push(&self.asked[begin..]);
        groups
    }
}

/// The prompts, and the model that answers them.
pub(crate) struct Answering<'a> {
    pub(crate) model: &'a Model,
    pub(crate) prompts: &'a Prompts,
}

impl Answers for Answering<'_> {
    fn answers(
        &self,
        adapter: &Adapter<f32>,
        products: Products,
        room: usize,
        stops: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Sample>>> {
        let generator = self.prompts.generator(self.model, adapter, products);
        let text = &self.prompts.text;
        let mut samples = Vec::new();
        for group in self.prompts.groups(room) {
            let tokens: Vec<&[u32]> = group.iter().map(|asked| asked.prompt.as_slice()).collect();
            let mut found: Vec<Option<Generated>> = group.iter().map(|_| None).collect();
            let mut ends = false;
            generator.generate_each(&tokens, &self.prompts.sampling, &mut |heard| {
                if let Heard::Done(at, generated) = heard {
                    found[at] = Some(generated);
                }
                ends |= stops();
                if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if ends {
                return Ok(None);
            }
            for (asked, found) in group.iter().zip(found) {
                let Some(found) = found else { continue };
                samples.push(Sample {
                    prompt: text.decoded(&asked.prompt, false)?,
                    expected: asked.expected.clone(),
                    answer: found.text,
                    tokens: found.tokens.len(),
                    stop: found.stop,
                });
            }
        }
        Ok(Some(samples))
    }
}

/// Samples of a run: those of a step are taken once, also when the run goes on there.
pub(crate) struct Samples<'a> {
    answers: &'a dyn Answers,
    log: Log,
    /// The last step that has samples.
    latest: Option<u64>,
}

impl<'a> Samples<'a> {
    /// Opens the file of samples, with those up to the step after which the run goes on. If nothing is asked any more, later
    /// ones go all the same.
    pub(crate) fn open(
        settings: &Settings,
        answers: Option<&'a dyn Answers>,
        resumed: Option<u64>,
    ) -> Result<Option<Self>> {
        let path = settings.output.join(SAMPLES);
        if answers.is_none() && !path.exists() {
            return Ok(None);
        }
        let (log, latest) = Log::open(&path, resumed)?;
        Ok(answers.map(|answers| Self { answers, log, latest }))
    }

    /// Takes samples after a step. False if the run shall end, which it does before they are complete.
    pub(crate) fn take(
        &mut self,
        step: u64,
        adapter: &Adapter<f32>,
        products: Products,
        room: usize,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        if self.latest == Some(step) {
            return Ok(true);
        }
        let Some(samples) = self.answers.answers(adapter, products, room, &|| observer.stops())? else {
            return Ok(false);
        };
        let sampled = Sampled { step, samples };
        self.log.sampled(&sampled)?;
        self.latest = Some(step);
        observer.sampled(&sampled)?;
        Ok(true)
    }
}
