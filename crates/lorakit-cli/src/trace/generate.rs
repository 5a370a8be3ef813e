//! The trace of answers.
//!
//! ```text
//!   lorakit.run
//!     model.load
//!     generate            each answer
//! ```

use std::time::Instant;

use lorakit_trace::{Attributes, Destination, Observation, SpanId, Trace};
use lorakit_train::generate::{Generated, Opened, Sampling};
use serde_json::json;

use super::{Report, session_of, short, weighted};
use crate::args;
use crate::error::Failure;
use crate::ui::Ui;

/// Traces answers.
pub(crate) struct Traced {
    trace: Trace,
    model: String,
    sampling: Sampling,
    /// Whether prompts are conversations.
    chat: bool,
}

/// When an answer was asked for, began and ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) asked: Instant,
    /// When the first of its text came.
    pub(crate) first: Option<Instant>,
    pub(crate) done: Instant,
}

impl Traced {
    /// One for a command that was told to trace, before it opens anything.
    ///
    /// # Errors
    /// What variables may be refused for.
    pub(crate) fn new(args: &args::Generate) -> Result<Option<Self>, Failure> {
        if args.reported.report.is_none() {
            return Ok(None);
        }
        let destination: Destination = super::destination()?;
        let (content, folder) = (args.reported.trace_content, super::state_folder()?);
        let session = session_of(args.adapters.first().map(|(path, _)| path));
        let mut trace = super::begin("generate", session, folder, content, destination);
        let (base, adapters) = (short(&args.model), args.adapters.iter().map(weighted));
        let adapters = adapters.collect::<Vec<_>>().join(", ");
        let model = if adapters.is_empty() { base.clone() } else { format!("{base} + {adapters}") };
        trace.say("langfuse.trace.metadata.base", base);
        if !adapters.is_empty() {
            trace.say("langfuse.trace.metadata.adapters", adapters);
        }
        Ok(Some(Traced { trace, model, sampling: args.sampling(), chat: !args.raw }))
    }

    /// The model is in memory, since `begun` was being read.
    pub(crate) fn opened(&mut self, begun: Instant, opened: &Opened) {
        let times = (self.trace.at(begun), self.trace.now());
        let attributes = Attributes::of(Observation::Span).metadata("form", opened.base.form());
        self.trace.record(self.trace.root(), "model.load", times, attributes);
    }

    /// An answer is complete. `prompt` makes text of what was asked, and is not called unless that is recorded.
    pub(crate) fn answered(
        &mut self,
        times: Times,
        generated: &Generated,
        prompt: &dyn Fn() -> Option<String>,
    ) -> SpanId {
        let Sampling { max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, .. } =
            self.sampling;
        let parameters = json!({
            "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
            "repetition_penalty": repetition_penalty, "seed": seed,
        });
        let (input, output) = (generated.prompt, generated.tokens.len());
        let trace = &self.trace;
        let content = |text: Option<String>| text.and_then(|text| trace.content(&text));
        let asked = trace.content("").and_then(|_| content(prompt()));
        let seconds = times.done.duration_since(times.asked).as_secs_f64();
        let attributes = Attributes::of(Observation::Generation)
            .with("langfuse.observation.model.name", self.model.clone())
            .with("langfuse.observation.model.parameters", parameters.to_string())
            .with("langfuse.observation.usage_details", json!({"input": input, "output": output}).to_string())
            .maybe("langfuse.observation.completion_start_time", times.first.map(|first| trace.date(first)))
            .maybe("langfuse.observation.input", asked)
            .maybe("langfuse.observation.output", trace.content(&generated.text))
            .metadata("stop", generated.stop.name())
            .metadata("tok_s", output as f64 / seconds.max(1e-9))
            .with("gen_ai.operation.name", if self.chat { "chat" } else { "text_completion" })
            .with("gen_ai.request.model", self.model.clone())
            .with("gen_ai.request.temperature", temperature)
            .with("gen_ai.request.max_tokens", max_tokens)
            .with("gen_ai.usage.input_tokens", input)
            .with("gen_ai.usage.output_tokens", output);
        let span = (trace.at(times.asked), trace.at(times.done));
        self.trace.record(self.trace.root(), "generate", span, attributes)
    }

    pub(crate) fn end(self, failure: Option<&Failure>, ui: &Ui) -> Report {
        super::end(self.trace, Attributes::of(Observation::Span), failure, ui)
    }
}
