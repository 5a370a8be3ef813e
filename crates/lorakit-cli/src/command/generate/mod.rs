//! `lorakit generate`.

mod answer;
mod chat;

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use lorakit_train::data::{Asked, asked};
use lorakit_train::generate::{Generated, Heard, Open, Opened};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::answer::{Answer, Speed};
use crate::args::{self, Common};
use crate::error::{Failure, Stopped};
use crate::progress::Bar;
use crate::ui::Ui;
use crate::{interrupt, names};

const SCHEMA: &str = "lorakit.generate/1";

/// All that was answered, as an object.
#[derive(Serialize)]
struct Report<'a> {
    answers: Vec<Answer<'a>>,
    speed: Speed,
}

pub(crate) fn run(args: &args::Generate, common: &Common, ui: &Ui) -> Result<(), Failure> {
    args.sampling().check()?;
    if args.chat && ui.json {
        return Err(Failure::Usage {
            message: "`--chat` prints what is said, and no object".into(),
            path: None,
            hint: "`--messages FILE --json` answers a conversation",
        });
    }
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
    if args.chat {
        return chat::run(args, &opened, ui);
    }
    let questions = questions(args, &opened)?;
    let stream = args.data.is_none() && !ui.json;
    let mut talk = Talk::new(ui, &questions, stream);
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
    talk.end()
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
        return Ok(one(text.plain_prompt(prompt)?));
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
        fs::read_to_string(path).map_err(io)?
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
}

impl<'a> Talk<'a> {
    fn new(ui: &'a Ui, questions: &'a [Asked], stream: bool) -> Self {
        let done = questions.iter().map(|_| None).collect();
        let (speed, begun) = (Speed::default(), Instant::now());
        Talk { ui, questions, stream, done, printed: 0, speed, begun, failed: None }
    }

    fn hear(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Begins(at) => {
                self.speed.prompt_tokens += self.questions[at].prompt.len();
                if self.questions.len() == 1 {
                    self.speed.prompt_seconds = Some(self.begun.elapsed().as_secs_f64());
                }
            }
            Heard::Text(_, text) => {
                if self.stream {
                    self.print(printable(text).as_bytes());
                }
            }
            Heard::Done(at, generated) => {
                self.speed.tokens += generated.tokens.len();
                self.done[at] = Some(generated);
                self.print_lines();
            }
        }
        match self.failed.is_some() || interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
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

    fn end(mut self) -> Result<(), Failure> {
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
        if !self.ui.json {
            self.speed.say(self.ui);
            return Ok(());
        }
        let done = self.questions.iter().zip(&self.done);
        let answers = done.filter_map(|(asked, done)| Some(Answer::new(asked, done.as_ref()?))).collect();
        self.ui.json(SCHEMA, Report { answers, speed: self.speed })
    }
}

/// What a model says moves no cursor.
fn printable(text: &str) -> String {
    if io::stdout().is_terminal() { names::shown_lines(text) } else { text.to_string() }
}
