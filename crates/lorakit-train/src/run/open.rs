//! From settings to a run: base, rows and factors are opened, and adapters are written.

use std::path::Path;

use lorakit::DType;
use lorakit::adapter::Adapter as Parent;
use lorakit::lineage::{Lineage, Step};
use lorakit::plan::{Content, Progress, SideFile};

use super::estimate::Estimate;
use super::machine;
use super::observe::{Observer, Part, Summary};
use super::output::{self, Writes};
use super::problem::Problem;
use super::ready::{Job, Ready, digest};
use super::sample::{Answering, Answers, Prompts};
use super::state;
use crate::adapter::{self, Fresh, Targets, Written};
use crate::base::{self, Base, TextFiles};
use crate::data::{self, Data, Day, Report, Template, Text};
use crate::error::{Error, Result};
use crate::kernel::{Compute, Products};
use crate::model::Adapter;
use crate::settings::{Held, KEYS, Quant, Settings, Stored};

/// Tokens of the row with which a saved adapter is tested.
const TESTED: usize = 64;

/// Trains as the settings say.
///
/// # Errors
/// Everything that base, rows, adapter and output may be refused for; loss or gradients that are not finite;
/// [`Interrupted`](lorakit::ErrorKind::Interrupted) if the observer's progress is cancelled while files are read. A run that
/// is interrupted later is no error: its state is saved, and the summary says so.
pub fn train(settings: &Settings, observer: &mut dyn Observer) -> Result<Summary> {
    let (opened, adapter) = Opened::new(settings, observer.progress(), &|part| observer.opened(part))?;
    opened.with_job(adapter, |job| Ready::new(job)?.run(observer))
}

/// What [`train`] would take. Nothing is written.
///
/// # Errors
/// As [`train`], as far as it can be told before the first step.
pub fn estimate(settings: &Settings, progress: &dyn Progress) -> Result<Estimate> {
    let (opened, adapter) = Opened::new(settings, progress, &|_| ())?;
    opened.with_job(adapter, |job| Ok(Ready::new(job)?.estimate))
}

/// What becomes of rows.
#[derive(Debug)]
pub struct Checked {
    /// Of the data.
    pub training: Report,
    /// Of the rows for validation.
    pub validation: Option<Report>,
    refusal: Option<Error>,
}

impl Checked {
    /// Whether a run would take the rows.
    ///
    /// # Errors
    /// What it would refuse them for.
    pub fn verdict(self) -> Result<()> {
        self.refusal.map_or(Ok(()), Err)
    }
}

/// What becomes of the rows: of the data, and of those for validation. The base's weights are not read, and what a run
/// would refuse is in the result.
///
/// # Errors
/// If a file cannot be read, or a row cannot be understood.
pub fn check_data(settings: &Settings) -> Result<Checked> {
    let text = text(settings, &Base::files(&settings.model)?)?;
    let (mut rows, held, refusal) = read_rows(settings, &text)?;
    if let Some(held) = &held {
        rows.report.leaked = Some(rows.leaked(held));
    }
    Ok(Checked { training: rows.report, validation: held.map(|held| held.report), refusal })
}

/// The tokenizer and the template of a model, with what the settings say of them.
///
/// # Errors
/// If the model has no tokenizer, or a file is damaged.
pub fn text(settings: &Settings, files: &lorakit::Model) -> Result<Text> {
    let of_model = TextFiles::of(files)?;
    let mut text = Text::of(files.folder(), &|name| of_model.read(name))?;
    if let Some(path) = &settings.chat_template {
        let source =
            crate::files::read_to_string(path).map_err(|e| lorakit_tensor::Error::io("read", path, e))?;
        text.template = Some(Template::new(&source).map_err(|error| error.at(path))?);
    }
    if let (Some(template), Some(day)) = (&mut text.template, settings.template_day) {
        template.set_day(day);
    }
    for (name, value) in &settings.template_kwargs.0 {
        text.variables.insert(name.clone(), value.json());
    }
    Ok(text)
}

/// How rows become documents; a folder means its file of that part.
fn options(settings: &Settings, part: &str) -> data::Options {
    data::Options {
        seq_len: settings.seq_len,
        too_long: settings.too_long,
        train_on: settings.train_on,
        format: settings.format,
        allow_unmasked_eot: settings.allow_unmasked_eot,
        part: part.to_string(),
        inspect: true,
    }
}

/// The rows, those for validation, and what a run refuses them for.
fn read_rows(settings: &Settings, text: &Text) -> Result<(Data, Option<Data>, Option<Error>)> {
    let (options, of_held) = (options(settings, "train"), options(settings, "valid"));
    let refusal = |data: &Data| data.report.verdict(&data.sources, &options).err();
    let mut rows = data::read(&settings.data, text, &options)?;
    // The whole is judged: of what is held out, something is trained in every row.
    let refused = refusal(&rows);
    let held = match &settings.val {
        None => None,
        Some(Held::Share(_)) if rows.documents.is_empty() => None,
        Some(Held::Share(share)) => Some(data::hold_out(&mut rows, text, *share, settings.seed)?),
        Some(Held::Files(paths)) => {
            let sources: Vec<_> = paths.iter().cloned().map(data::Source::new).collect();
            Some(data::read(&sources, text, &of_held)?)
        }
    };
    let refused = refused.or_else(|| refusal(held.as_ref()?));
    Ok((rows, held, refused))
}

/// Everything that a run reads.
struct Opened {
    /// With the day on which the run began, if the template writes the date.
    settings: Settings,
    base: Base,
    rows: Data,
    held: Option<Data>,
    step: Step,
    /// Of the rows, and of those for validation.
    digests: [String; 2],
    /// What is asked for samples.
    prompts: Option<Prompts>,
    /// Files for every folder that is written, instead of the base's own or beside them.
    beside: Vec<SideFile>,
    threads: usize,
}

impl Opened {
    /// What is soon refused comes first; the base's weights come last. The factors are those of the first step.
    /// `tell` hears of each part that is open.
    fn new(
        told: &Settings,
        progress: &dyn Progress,
        tell: &dyn Fn(Part<'_>),
    ) -> Result<(Self, Adapter<f32>)> {
        let began = output::checkpoint(told)?.as_deref().map(state::day).transpose()?.flatten();
        let mut settings = told.clone();
        settings.template_day = told.template_day.or(began).or_else(|| Some(Day::today()));
        let files = Base::files(&settings.model)?;
        let text = text(&settings, &files)?;
        let (rows, held, refusal) = read_rows(&settings, &text)?;
        refusal.map_or(Ok(()), Err)?;
        if [&rows].into_iter().chain(&held).all(|data| data.report.dated.count == 0) {
            settings.template_day = told.template_day;
        }
        let documents = held.as_ref().map_or(&[][..], |held| &held.documents);
        let digests = [digest(&rows.documents), digest(documents)];
        tell(Part::Rows { documents: rows.documents.len(), held: documents.len(), digest: &digests[0] });
        let quant = match settings.quant {
            Quant::Auto => match base::Quant::usual(&files) {
                base::Quant::Nf4 { .. } => base::Quant::Nf4 { double: settings.double_quant },
                usual => usual,
            },
            Quant::Nf4 => base::Quant::Nf4 { double: settings.double_quant },
            Quant::Keep => base::Quant::Keep,
            Quant::F32 => base::Quant::F32,
            Quant::F16 => base::Quant::F16,
            Quant::Bf16 => base::Quant::Bf16,
        };
        let threads = settings.threads.unwrap_or_else(machine::usual_threads);
        let context = Base::context(&files);
        let base = Base::of(files, quant, threads, progress)?;
        tell(Part::Base { form: &base.form(), digest: &base.trained_on });
        let (parent, adapter) = match &settings.adapter {
            Some(path) => adapter::read(path, &base).map(|(parent, adapter)| (Some(parent), adapter))?,
            None => (None, fresh(&settings, &base)?),
        };
        let prompts = match &settings.sample_prompts {
            Some(path) => Some(Prompts::read(path, settings.sample_tokens, text, &base.model, context)?),
            None => None,
        };
        let step = step(&settings, &base, parent.as_ref(), progress)?;
        let mut beside = vec![file("run.yaml", settings.print().into_bytes())];
        if let Some(path) = &settings.chat_template {
            beside.push(SideFile {
                name: "chat_template.jinja".into(),
                content: Content::CopyOf(path.clone()),
            });
        }
        Ok((Self { settings, base, rows, held, step, digests, prompts, beside, threads }, adapter))
    }

    fn with_job<T>(&self, adapter: Adapter<f32>, work: impl FnOnce(Job) -> Result<T>) -> Result<T> {
        let held = self.held.as_ref().map_or(&[][..], |held| &held.documents);
        let order = |epoch: u64| data::epoch(&self.rows, self.settings.seed, epoch);
        let answering = self.prompts.as_ref().map(|prompts| Answering { model: &self.base.model, prompts });
        let job = Job {
            settings: &self.settings,
            model: &self.base.model,
            adapter,
            rows: &self.rows.documents,
            held,
            order: &order,
            digests: vec![
                ("base", self.base.trained_on.clone()),
                ("data", self.digests[0].clone()),
                ("validation data", self.digests[1].clone()),
            ],
            writes: self,
            answers: answering.as_ref().map(|answering| answering as &dyn Answers),
        };
        work(job)
    }

    fn dtype(&self) -> DType {
        match self.settings.dtype {
            Stored::F32 => DType::F32,
            Stored::Bf16 => DType::BF16,
        }
    }
}

fn file(name: &str, bytes: Vec<u8>) -> SideFile {
    SideFile { name: name.into(), content: Content::bytes(bytes) }
}

fn fresh(settings: &Settings, base: &Base) -> Result<Adapter<f32>> {
    let lora = &settings.lora;
    let wanted = Fresh {
        targets: Targets::of(&lora.target),
        layers: lora.layers.clone(),
        rank: lora.r,
        alpha: lora.alpha.unwrap_or(2.0 * lora.r as f64),
        rslora: lora.rslora,
        seed: settings.seed,
    };
    adapter::fresh(&base.model.shape, &wanted)
}

/// What the record of every adapter of the run says.
fn step(settings: &Settings, base: &Base, parent: Option<&Parent>, progress: &dyn Progress) -> Result<Step> {
    let mut step = adapter::step(base, parent, Lineage::Auto, progress)?;
    let settings = settings.json();
    let told = KEYS.iter().filter(|key| key.fixed || ["double_quant", "compute"].contains(&key.name));
    for key in told {
        step = step.with(key.name, settings[key.name].clone());
    }
    Ok(step)
}

impl Writes for Opened {
    fn write(
        &self,
        folder: &Path,
        adapter: &Adapter<f32>,
        replace: bool,
        beside: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<()> {
        let lora = &self.settings.lora;
        let written = Written {
            output: folder.to_path_buf(),
            replace,
            dtype: self.dtype(),
            rslora: lora.rslora && self.settings.adapter.is_none(),
            dropout: lora.dropout,
            step: self.step.clone(),
            beside: self
                .beside
                .iter()
                .cloned()
                .chain(beside.into_iter().map(|(name, bytes)| file(name, bytes)))
                .collect(),
        };
        // A signal to stop must not keep the state from being saved.
        adapter::write(adapter, &self.base, &written, self.threads, &lorakit::plan::Silent)?;
        Ok(())
    }

    fn check(&self, folder: &Path, adapter: &Adapter<f32>) -> Result<()> {
        let tokens = &self.rows.documents[0].tokens;
        let tokens = &tokens[..tokens.len().min(TESTED)];
        let products = Products { compute: Compute::F32, threads: self.threads };
        let found = adapter::reload(folder, adapter, self.dtype(), &self.base, tokens, products)?;
        if found.off != 0.0 {
            return Err(Error::from(Problem::Reloaded { off: found.off }).at(folder));
        }
        if found.effect == 0.0 {
            return Err(Error::from(Problem::NoEffect).at(folder));
        }
        Ok(())
    }
}
