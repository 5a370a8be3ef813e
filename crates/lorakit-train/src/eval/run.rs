//! An evaluation from beginning to end.

use std::path::{Path, PathBuf};

use super::measure::{Loss, Subject};
use super::options::{Options, Watch};
use super::problem::Problem;
use super::regression::{self, Item};
use super::report::{Evaluation, Kind, Null, Point, Sweep};
use super::statistics::z_score;
use super::task::{Figures, Pace, Task};
use super::variants::{noise, scaled};
use crate::Result;
use crate::adapter;
use crate::base::Base;
use crate::kernel::{Compute, Products};
use crate::model::Adapter;

/// A candidate that was measured.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) model: PathBuf,
    pub(super) adapter: Option<(PathBuf, f64)>,
    pub(super) form: String,
    /// Whose task it did: the base's, or that of so many-th other model.
    pub(super) task: usize,
    pub(super) figures: Figures,
}

/// Judges a base, the base with adapters, and other models, all on the same rows, and says which changes are more than
/// chance.
///
/// The base stays in memory for as long as it takes, with one of the other models at a time.
///
/// # Errors
/// What models, adapters, rows and checks may be refused for; losses that are not finite;
/// [`Interrupted`](lorakit::ErrorKind::Interrupted).
pub fn evaluate(options: &Options, watch: &mut dyn Watch) -> Result<Evaluation> {
    let [first, others @ ..] = options.models.as_slice() else { return Err(Problem::NoModel.into()) };
    check(options)?;
    let items = options.regression.as_deref().map(regression::read).transpose()?.unwrap_or_default();
    // Everything that can be refused without weights comes first.
    let told = options.told()?;
    let files = Base::files(first)?;
    let mut tasks = vec![Task::new(options, &told, &files, &items)?];
    let mut opened = Vec::new();
    for path in others {
        let mut own = told.clone();
        own.chat_template.clone_from(&options.chat_template);
        let files = Base::files(path)?;
        tasks.push(Task::new(options, &own, &files, &items)?);
        opened.push(files);
    }
    let products = Products { compute: Compute::F32, threads: options.threads };
    let base = Base::of(files, options.quant, options.threads, watch.progress())?;
    let mut adapters = Vec::new();
    for (path, weight) in options.against.iter().chain(&options.adapters) {
        adapters.push(scaled(&adapter::read(path, &base)?.1, *weight));
    }
    let mut run =
        Run { options, items, tasks, products, entries: Vec::new(), sweeps: Vec::new(), nulls: Vec::new() };
    let mut pace = Pace { watch, done: 0, of: run.passes(adapters.len()), what: String::new() };
    run.base(&base, &adapters, &mut pace)?;
    for (at, adapter) in adapters.iter().enumerate() {
        run.variants(&base, adapter, at + 1, &mut pace)?;
    }
    for (at, (path, files)) in others.iter().zip(opened).enumerate() {
        let other = Base::of(files, options.quant, options.threads, pace.watch.progress())?;
        run.other(path, &other, &base, at + 1, &mut pace)?;
    }
    run.report()
}

/// What can be refused at once.
fn check(options: &Options) -> Result<()> {
    if let Some(found) = options.scales.iter().find(|scale| !scale.is_finite()) {
        return Err(Problem::Scale { found: *found }.into());
    }
    let none = options.adapters.is_empty() && options.against.is_none();
    for (what, asked) in [
        ("scales are those of an adapter", !options.scales.is_empty()),
        ("random adapters take the place of one", options.null > 0),
    ] {
        if asked && none {
            return Err(Problem::NoAdapter { what }.into());
        }
    }
    Ok(())
}

/// An evaluation that is under way.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) items: Vec<Item>,
    /// The base's, then those of the other models.
    pub(super) tasks: Vec<Task>,
    pub(super) products: Products,
    pub(super) entries: Vec<Entry>,
    pub(super) sweeps: Vec<Sweep>,
    pub(super) nulls: Vec<Null>,
}

impl Run<'_> {
    fn subject<'s>(&self, base: &'s Base, adapter: &'s Adapter<f32>) -> Subject<'s> {
        Subject { model: &base.model, adapter, products: self.products }
    }

    /// Passes in all.
    fn passes(&self, adapters: usize) -> u64 {
        let (options, first) = (self.options, &self.tasks[0]);
        let text = first.paragraphs.len();
        let variants = (options.scales.len() + options.null) * first.held.rows.len()
            + (usize::from(!options.scales.is_empty()) + options.null) * text;
        let own = first.passes(options) * (adapters + 1) + text + adapters * variants;
        let others: usize =
            self.tasks[1..].iter().map(|task| task.passes(options) + task.paragraphs.len()).sum();
        (own + others) as u64
    }

    /// The base, and its adapters.
    fn base(&mut self, base: &Base, adapters: &[Adapter<f32>], pace: &mut Pace<'_>) -> Result<()> {
        let none = Adapter::none(&base.model.shape);
        let alone = self.subject(base, &none);
        let tuned: Vec<_> = adapters.iter().map(|adapter| self.subject(base, adapter)).collect();
        let model = self.options.models[0].clone();
        let named = self.options.against.iter().chain(&self.options.adapters);
        let named: Vec<_> = named.map(|(path, weight)| Some((path.clone(), *weight))).collect();
        for (adapter, subject) in [None].into_iter().chain(named).zip([&alone].into_iter().chain(&tuned)) {
            let (name, kind) = match &adapter {
                None => ("base".to_string(), Kind::Base),
                Some((path, _)) => (path.display().to_string(), Kind::Adapter),
            };
            pace.begin(&name);
            let figures = self.tasks[0].figures(self.options, subject, pace)?;
            let (model, form) = (model.clone(), base.form());
            self.entries.push(Entry { name, kind, model, adapter, form, task: 0, figures });
        }
        pace.begin("general text");
        let general = self.tasks[0].general(Some(&alone), &tuned, pace)?;
        self.entries.iter_mut().zip(general).for_each(|(entry, general)| entry.figures.general = general);
        Ok(())
    }

    /// An adapter at other strengths, and noise in its place.
    fn variants(
        &mut self,
        base: &Base,
        adapter: &Adapter<f32>,
        candidate: usize,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let none = Adapter::none(&base.model.shape);
        let alone = self.subject(base, &none);
        let task = &self.tasks[0];
        let point = |scale: f64, losses: &[Loss], general: Loss| Point {
            scale,
            loss: Loss::sum(losses).mean(),
            general: (general.tokens > 0).then(|| general.mean()),
            divergence: general.mean_divergence(),
        };
        if !self.options.scales.is_empty() {
            pace.begin("strengths");
            let scales = &self.options.scales;
            let each: Vec<_> = scales.iter().map(|scale| scaled(adapter, *scale)).collect();
            let each: Vec<_> = each.iter().map(|adapter| self.subject(base, adapter)).collect();
            let general = task.general(Some(&alone), &each, pace)?;
            let mut points = Vec::with_capacity(scales.len());
            for ((scale, subject), general) in scales.iter().zip(&each).zip(general.iter().skip(1)) {
                points.push(point(*scale, &task.losses(subject, pace)?, Loss::sum(general.values())));
            }
            self.sweeps.push(Sweep { candidate, points });
        }
        if self.options.null > 0 {
            pace.begin("random adapters");
            let (mut losses, mut general, mut divergences) = (Vec::new(), Vec::new(), Vec::new());
            for draw in 0..self.options.null {
                let noise = noise(adapter, &base.model.shape, self.options.seed, draw);
                let subject = self.subject(base, &noise);
                let text = task.general(Some(&alone), &[subject], pace)?;
                let found = point(1.0, &task.losses(&subject, pace)?, Loss::sum(text[1].values()));
                losses.push(found.loss);
                general.extend(found.general);
                divergences.extend(found.divergence);
            }
            let figures = &self.entries[candidate].figures;
            let (own, text) = (Loss::sum(&figures.losses), Loss::sum(figures.general.values()));
            self.nulls.push(Null {
                candidate,
                draws: self.options.null,
                loss: z_score(own.mean(), &losses),
                general: z_score(text.mean(), &general),
                divergence: text.mean_divergence().and_then(|own| z_score(own, &divergences)),
            });
        }
        Ok(())
    }

    /// Another model.
    fn other(
        &mut self,
        path: &Path,
        other: &Base,
        base: &Base,
        task: usize,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let (none, own) = (Adapter::none(&base.model.shape), Adapter::none(&other.model.shape));
        let alone = self.subject(base, &none);
        let subject = self.subject(other, &own);
        let name = path.display().to_string();
        pace.begin(&name);
        let own = &self.tasks[task];
        let mut figures = own.figures(self.options, &subject, pace)?;
        let alike =
            own.reads_as(&self.tasks[0]) && other.model.shape.vocabulary == base.model.shape.vocabulary;
        let mut general = own.general(alike.then_some(&alone), &[subject], pace)?;
        figures.general = general.pop().unwrap_or_default();
        let (model, form) = (path.to_path_buf(), other.form());
        self.entries.push(Entry { name, kind: Kind::Model, model, adapter: None, form, task, figures });
        Ok(())
    }
}
