//! `lorakit generate`.

mod answer;
mod chat;

use std::io::{self, IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use lorakit_train::data::{Asked, Text, asked};
use lorakit_train::generate::{Generated, Heard, Open, Opened};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::answer::{Answer, Speed};
use crate::args::{self, Common};
use crate::error::{Failure, Stopped};
use crate::progress::Bar;
use crate::trace::Report as TraceReport;
use crate::trace::generate::{Times, Traced};
use crate::ui::Ui;
use crate::{interrupt, names};

const SCHEMA: &str = "lorakit.generate/1";

/// All that was answered, as an object.
#[derive(Serialize)]
struct Report<'a> {
    answers: Vec<Answer<'a>>,
    speed: Speed,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceReport>,
}

pub(crate) fn run(args: &args::Generate, common: &Common, ui: &Ui) -> Result<(), Failure> {
    args.sampling().check()?;
    let mut traced = Traced::new(args)?;
    let talked = talk(args, common, ui, &mut traced);
    let failure = talked.as_ref().err();
    let trace = traced.map(|traced| traced.end(failure, ui));
    match talked? {
        Some(talk) => talk.report(trace),
        None => Ok(()),
    }
}

/// Answers what is asked. What is left is an object to print.
fn talk<'u>(
    args: &args::Generate,
    common: &Common,
    ui: &'u Ui,
    traced: &mut Option<Traced>,
) -> Result<Option<Told<'u>>, Failure> {
    if args.chat && ui.json {
        return Err(Failure::Usage {
            message: "`--chat` prints what is said, and no object".into(),
            path: None,
            hint: "`--messages FILE --json` answers a conversation",
        });
    }
    let begun = Instant::now();
    let bar = Bar::new(ui, "opening");
    let how = Open {
        adapters: &args.adapters,
        quant: args.quant.quant(),
        compute: args.compute.compute(),
        threads: Some(common.threads).filter(|threads| *threads > 0),
        template: args.chat_template.as_deref(),
        template_kwargs: args.template_kwargs.iter().cloned().collect(),
        ..Open::new(&args.model)
    };
    let opened = Opened::new(&how, &bar)?;
    bar.finish();
    if let Some(traced) = traced {
        traced.opened(begun, &opened);
    }
    if args.chat {
        return chat::run(args, &opened, ui, traced).map(|()| None);
    }
    let questions = questions(args, &opened)?;
    let stream = args.data.is_none() && !ui.json;
    let mut talk = Talk::new(ui, &questions, stream);
    talk.traced = traced.as_mut().map(|traced| (traced, &opened.text));
    let prompts: Vec<&[u32]> = questions.iter().map(|asked| asked.prompt.as_slice()).collect();
    let generator = opened.generator();
    for asked in &questions {
        let place = |error: lorakit::Error| match &args.data {
            Some(path) => error.at(path).line(asked.line),
            None => error,
        };
        generator.check(&asked.prompt).map_err(place)?;
    }
    generator.generate_each(&prompts, &args.sampling(), &mut |heard| talk.hear(heard))?;
    let (answers, speed) = talk.end()?;
    Ok(ui.json.then_some(Told { ui, questions, answers, speed }))
}

/// What was answered, to be printed as an object.
struct Told<'u> {
    ui: &'u Ui,
    questions: Vec<Asked>,
    answers: Vec<Option<Generated>>,
    speed: Speed,
}

impl Told<'_> {
    fn report(self, trace: Option<TraceReport>) -> Result<(), Failure> {
        let done = self.questions.iter().zip(&self.answers);
        let answers = done.filter_map(|(asked, done)| Some(Answer::new(asked, done.as_ref()?))).collect();
        self.ui.json(SCHEMA, Report { answers, speed: self.speed, trace })
    }
}

/// What is asked.
fn questions(args: &args::Generate, opened: &Opened) -> Result<Vec<Asked>, Failure> {
    let text = &opened.text;
    let one = |prompt: Vec<u32>| vec![Asked { line: 1, prompt, expected: None }];
    if let Some(path) = &args.data {
        return Ok(asked(path, text)?);
    }
    if let Some(path) = &args.messages {
        let (messages, tools) = messages(path)?;
        let prompt = text.prompt(&messages, tools.as_ref()).map_err(|error| error.at(path))?;
        return Ok(one(prompt));
    }
    let prompt = args.prompt.as_deref().unwrap_or_default();
    if args.raw {
        return Ok(one(text.plain(prompt)?));
    }
    let mut messages = system(args);
    messages.push(json!({"role": "user", "content": prompt}));
    Ok(one(text.prompt(&messages, None)?))
}

/// The message of the system, if there is one.
fn system(args: &args::Generate) -> Vec<Value> {
    args.system.iter().map(|text| json!({"role": "system", "content": text})).collect()
}

/// The messages of a file, and tools.
fn messages(path: &Path) -> Result<(Vec<Value>, Option<Value>), Failure> {
    let io = |error| lorakit::Error::from(lorakit_tensor::Error::io("read", path, error));
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(io)?;
        text
    } else {
        lorakit_train::files::read_to_string(path).map_err(io)?
    };
    let wrong = |reason: &str| Failure::Usage {
        message: reason.to_string(),
        path: Some(path.to_path_buf()),
        hint: "[{\"role\": \"user\", \"content\": \"...\"}], or an object with `messages` and `tools`",
    };
    let value: Value =
        serde_json::from_str(&text).map_err(|error| wrong(&format!("is not JSON: {error}")))?;
    let (messages, tools) = match value {
        Value::Array(messages) => (messages, None),
        Value::Object(mut fields) => (take_list(&mut fields), fields.remove("tools")),
        _ => (Vec::new(), None),
    };
    let is_message = |message: &Value| message["role"].is_string();
    if messages.is_empty() || !messages.iter().all(is_message) {
        return Err(wrong("has no messages with a `role`"));
    }
    Ok((messages, tools.filter(|tools| !tools.is_null())))
}

fn take_list(fields: &mut Map<String, Value>) -> Vec<Value> {
    match fields.remove("messages") {
        Some(Value::Array(messages)) => messages,
        _ => Vec::new(),
    }
}

/// Prints answers as they come.
struct Talk<'a> {
    ui: &'a Ui,
    questions: &'a [Asked],
    /// Whether text is printed as it comes.
    stream: bool,
    /// Answers that came before those of earlier rows.
    done: Vec<Option<Generated>>,
    printed: usize,
    speed: Speed,
    begun: Instant,
    failed: Option<Failure>,
    /// The trace of answers, and what makes text of prompts.
    traced: Option<(&'a mut Traced, &'a Text)>,
    /// When the answer to each question was asked for, and when its text began.
    times: Vec<(Instant, Option<Instant>)>,
    /// When something was heard last.
    heard: Instant,
}

impl<'a> Talk<'a> {
    fn new(ui: &'a Ui, questions: &'a [Asked], stream: bool) -> Self {
        let done = questions.iter().map(|_| None).collect();
        let (speed, begun) = (Speed::default(), Instant::now());
        let times = vec![(begun, None); questions.len()];
        Talk {
            ui,
            questions,
            stream,
            done,
            printed: 0,
            speed,
            begun,
            failed: None,
            traced: None,
            times,
            heard: begun,
        }
    }

    fn hear(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Begins(at) => {
                // Its prompt was read since then.
                self.times[at].0 = self.heard;
                self.speed.prompt_tokens += self.questions[at].prompt.len();
                if self.questions.len() == 1 {
                    self.speed.prompt_seconds = Some(self.begun.elapsed().as_secs_f64());
                }
            }
            Heard::Text(at, text) => {
                self.times[at].1.get_or_insert_with(Instant::now);
                if self.stream {
                    self.print(printable(text).as_bytes());
                }
            }
            Heard::Done(at, generated) => {
                self.speed.tokens += generated.tokens.len();
                self.trace(at, &generated);
                self.done[at] = Some(generated);
                self.print_lines();
            }
        }
        self.heard = Instant::now();
        match self.failed.is_some() || interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn trace(&mut self, at: usize, generated: &Generated) {
        let Some((traced, text)) = &mut self.traced else { return };
        let (asked, first) = self.times[at];
        let prompt = || text.decoded(&self.questions[at].prompt, false).ok();
        traced.answered(Times { asked, first, done: Instant::now() }, generated, &prompt);
    }

    fn print(&mut self, bytes: &[u8]) {
        if let Err(failure) = self.ui.raw(bytes) {
            self.failed.get_or_insert(failure);
        }
    }

    /// Prints the rows that have their turn.
    fn print_lines(&mut self) {
        while !self.stream
            && !self.ui.json
            && let Some(Some(generated)) = self.done.get(self.printed)
        {
            let line = serde_json::to_string(&Answer::new(&self.questions[self.printed], generated));
            match line {
                Ok(line) => self.print(format!("{line}\n").as_bytes()),
                Err(error) => self.failed = Some(Failure::Output(error.into())),
            }
            self.printed += 1;
        }
    }

    /// The answers, and how fast they came, which is said unless it is printed as an object.
    fn end(mut self) -> Result<(Vec<Option<Generated>>, Speed), Failure> {
        self.speed.seconds = self.begun.elapsed().as_secs_f64();
        if self.stream {
            self.print(b"\n");
        }
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        if interrupt::asked() {
            return Err(Stopped::Clean.into());
        }
        self.speed.say(self.ui);
        Ok((self.done, self.speed))
    }
}

/// What a model says moves no cursor.
fn printable(text: &str) -> String {
    if io::stdout().is_terminal() { names::shown_lines(text) } else { text.to_string() }
}
