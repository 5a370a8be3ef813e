//! What a model is asked, as its own tokenizer and template make it; and what it did.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::Answer;
use super::general::{self, Paragraph};
use super::measure::{self, Loss, Moment, Subject};
use super::options::{Options, Watch};
use super::problem::Problem;
use super::regression::Item;
use super::rows::{self, Held};
use crate::base::Base;
use crate::data::Text;
use crate::settings::Settings;
use crate::{Error, Result, run};

/// What a model is asked.
pub(super) struct Task {
    pub(super) text: Text,
    pub(super) held: Held,
    pub(super) paragraphs: Vec<Paragraph>,
    /// Those of the items.
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) context: Option<usize>,
}

/// What a model did.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Of each row.
    pub(super) losses: Vec<Loss>,
    /// Of each row; none where it was not asked.
    pub(super) answers: Vec<Option<Answer>>,
    /// Of each paragraph, by its number.
    pub(super) general: BTreeMap<usize, Loss>,
    /// Of each item.
    pub(super) items: Vec<Answer>,
}

impl Task {
    /// # Errors
    /// What rows, general text and items may be refused for.
    pub(super) fn new(
        options: &Options,
        settings: &Settings,
        files: &lorakit::Model,
        items: &[Item],
    ) -> Result<Self> {
        let text = run::text(settings, files)?;
        let context = options.context.or_else(|| Base::context(files));
        let limit = context.unwrap_or(usize::MAX);
        let held = rows::read(&options.data, &text, limit, settings.train_on)?;
        if !options.checks.is_empty() && held.rows.iter().all(|row| row.question.is_none()) {
            return Err(Problem::NoAnswers { path: held.files[0].clone() }.into());
        }
        let paragraphs = match options.general() {
            Some(path) => general::read(path, &text, limit)?,
            None => Vec::new(),
        };
        let place = options.regression.as_deref().unwrap_or_else(|| Path::new(""));
        let prompt = |item: &Item| item.prompt(&text, limit).map_err(|error| error.at(place).line(item.line));
        let prompts = items.iter().map(prompt).collect::<Result<_>>()?;
        Ok(Task { text, held, paragraphs, prompts, context })
    }

    /// How many rows are answered.
    pub(super) fn answered(&self, most: usize) -> usize {
        self.held.rows.iter().filter(|row| row.question.is_some()).take(most).count()
    }

    /// Passes that a candidate takes, general text left out.
    pub(super) fn passes(&self, options: &Options) -> usize {
        self.held.rows.len() + self.answered(options.answers) + self.prompts.len()
    }

    /// Whether another model is asked the same, token for token.
    pub(super) fn is_as(&self, other: &Task) -> bool {
        let pairs = self.held.rows.iter().zip(&other.held.rows);
        self.held.rows.len() == other.held.rows.len()
            && pairs.into_iter().all(|(a, b)| a.document == b.document)
    }

    /// Whether general text is the same for another model, token for token.
    pub(super) fn reads_as(&self, other: &Task) -> bool {
        self.paragraphs == other.paragraphs
    }

    /// The losses on all rows.
    ///
    /// # Errors
    /// `NonFinite`; `Interrupted`.
    pub(super) fn losses(&self, subject: &Subject<'_>, pace: &mut Pace<'_>) -> Result<Vec<Loss>> {
        let files = &self.held.files;
        let mut losses = Vec::with_capacity(self.held.rows.len());
        for row in &self.held.rows {
            pace.pass()?;
            losses.push(subject.loss(row).map_err(|error| error.at(&files[row.document.source]))?);
        }
        Ok(losses)
    }

    /// Losses on rows, and answers to rows and items.
    ///
    /// # Errors
    /// `NonFinite`; `Interrupted`.
    pub(super) fn figures(
        &self,
        options: &Options,
        subject: &Subject<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<Figures> {
        let losses = self.losses(subject, pace)?;
        pace.watch.asks();
        let mut left = options.answers;
        let questions = self.held.rows.iter().map(|row| {
            let question = row.question.as_ref().filter(|_| left > 0);
            left -= usize::from(question.is_some());
            question.map(|question| question.prompt.as_slice())
        });
        let questions: Vec<Option<&[u32]>> = questions.collect();
        let prompts = questions.iter().flatten().copied().chain(self.prompts.iter().map(Vec::as_slice));
        let prompts: Vec<&[u32]> = prompts.collect();
        let (most, context) = (options.most_tokens, self.context);
        let made =
            measure::answers(subject, &self.text, &prompts, most, context, &mut |moment| match moment {
                Moment::Asked(question) => {
                    pace.watch.asked(question);
                    Ok(())
                }
                Moment::Answered(question) => {
                    pace.watch.answered(question);
                    pace.pass()
                }
            })?;
        let mut made = made.into_iter();
        let answers = questions.iter().map(|question| question.and_then(|_| made.next())).collect();
        let items = made.collect();
        Ok(Figures { losses, answers, general: BTreeMap::new(), items })
    }

    /// The losses of each of `subjects` on general text, and their divergences from `base`, each paragraph after another,
    /// so that the base computes it once. The base's own come first, if it reads the same tokens.
    ///
    /// # Errors
    /// `NonFinite`; `Interrupted`.
    pub(super) fn general(
        &self,
        base: Option<&Subject<'_>>,
        subjects: &[Subject<'_>],
        pace: &mut Pace<'_>,
    ) -> Result<Vec<BTreeMap<usize, Loss>>> {
        let mut found = vec![BTreeMap::new(); subjects.len() + usize::from(base.is_some())];
        for paragraph in &self.paragraphs {
            pace.pass()?;
            let mut sums = found.iter_mut();
            let mut add = |loss: Loss| {
                if let Some(sums) = sums.next() {
                    sums.entry(paragraph.number).or_insert_with(Loss::default).add(&loss);
                }
            };
            let logits = base.map(|base| base.logits(paragraph));
            if let Some(logits) = &logits {
                add(measure::general(paragraph, logits, None)?);
            }
            for subject in subjects {
                add(measure::general(paragraph, &subject.logits(paragraph), logits.as_deref())?);
            }
        }
        Ok(found)
    }
}

/// Counts passes, and stops them.
pub(super) struct Pace<'a> {
    pub(super) watch: &'a mut dyn Watch,
    pub(super) done: u64,
    pub(super) of: u64,
    pub(super) what: String,
}

impl Pace<'_> {
    /// Passes of something else begin.
    pub(super) fn begin(&mut self, what: &str) {
        self.what = what.to_string();
        self.watch.begins(what);
    }

    /// A pass begins.
    ///
    /// # Errors
    /// `Interrupted`.
    pub(super) fn pass(&mut self) -> Result<()> {
        if self.watch.progress().cancelled() {
            return Err(Error::from(Problem::Stopped));
        }
        self.watch.passes(self.done, self.of, &self.what);
        self.done += 1;
        Ok(())
    }
}
