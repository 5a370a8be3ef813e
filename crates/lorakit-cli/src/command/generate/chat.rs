//! A conversation: lines in, answers out.

use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::Instant;

use lorakit_train::generate::Opened;
use serde_json::json;

use super::answer::Speed;
use super::{printable, system};
use crate::args;
use crate::error::{Failure, Stopped};
use crate::interrupt;
use crate::trace::generate::{Times, Traced};
use crate::ui::{self, Ui};

/// What a line may say instead of a question.
const END: &str = "/exit";
const ANEW: &str = "/reset";

pub(super) fn run(
    args: &args::Generate,
    opened: &Opened,
    ui: &Ui,
    traced: &mut Option<Traced>,
) -> Result<(), Failure> {
    let talks = io::stdin().is_terminal() && !ui.quiet;
    if talks {
        ui::note(&format!("`{END}` or Ctrl-D ends, `{ANEW}` begins anew"));
    }
    let mut messages = system(args);
    let mut lines = io::stdin().lock().lines();
    loop {
        if talks {
            let _ = io::stderr().write_all(b"> ");
        }
        let Some(line) = lines.next() else { break };
        let line = line
            .map_err(|error| lorakit::Error::from(lorakit_tensor::Error::io("read", "-".as_ref(), error)))?;
        match line.trim() {
            "" => continue,
            END => break,
            ANEW => {
                messages = system(args);
                continue;
            }
            _ => messages.push(json!({"role": "user", "content": line})),
        }
        let prompt = opened.text.prompt(&messages, None)?;
        let begun = Instant::now();
        let mut failed = None;
        let mut first = None;
        let generated = opened.generator().generate(&prompt, &args.sampling(), &mut |text| {
            first.get_or_insert_with(Instant::now);
            if let Err(failure) = ui.raw(printable(text).as_bytes()) {
                failed.get_or_insert(failure);
            }
            match failed.is_some() || interrupt::asked() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if let Some(failure) = failed {
            return Err(failure);
        }
        if let Some(traced) = traced {
            let times = Times { asked: begun, first, done: Instant::now() };
            traced.answered(times, &generated, &|| opened.text.decoded(&prompt, false).ok());
        }
        ui.raw(b"\n")?;
        if interrupt::asked() {
            return Err(Stopped::Clean.into());
        }
        if talks {
            let (prompt_tokens, tokens) = (generated.prompt, generated.tokens.len());
            let first = first.map(|first| first.duration_since(begun).as_secs_f64());
            Speed { prompt_tokens, prompt_seconds: first, tokens, seconds: begun.elapsed().as_secs_f64() }
                .say(ui);
        }
        messages.push(json!({"role": "assistant", "content": generated.text}));
    }
    Ok(())
}
