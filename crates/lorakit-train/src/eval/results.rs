//! What an evaluation found, of what it measured.

use std::path::Path;

use super::compare::{self, Judged};
use super::regression::Item;
use super::report::{Candidate, DataReport, Evaluation, GeneralText, ItemReport, Made, RowReport, Unit};
use super::run::{Entry, Run};
use super::statistics::FEWEST;
use super::task::Task;
use super::verdict::{RULE, Verdict};
use crate::Result;

impl Run<'_> {
    fn judged<'e>(&'e self, entry: &'e Entry) -> Judged<'e> {
        Judged { task: &self.tasks[entry.task], figures: &entry.figures }
    }

    /// The report of all that was measured.
    ///
    /// # Errors
    /// If the tokenizer cannot make text of prompts.
    pub(super) fn report(self) -> Result<Evaluation> {
        let baseline = usize::from(self.options.against.is_some());
        let candidates: Vec<Candidate> =
            (0..self.entries.len()).map(|at| self.candidate(at, baseline)).collect();
        let first = &self.tasks[0];
        let tokens = first.paragraphs.iter().map(|paragraph| paragraph.tokens.len() - 1).sum();
        let general = self.options.general().map(|file| GeneralText {
            file: file.map(Path::to_path_buf),
            paragraphs: first.paragraphs.last().map_or(0, |last| last.number),
            tokens,
            threshold: self.options.threshold,
        });
        let held = &first.held;
        let data = DataReport {
            files: held.files.clone(),
            rows: held.all,
            judged: held.rows.len(),
            answered: first.answered(self.options.answers),
            tokens: held.rows.iter().map(|row| row.supervised).sum(),
            context: first.context,
            too_long: held.too_long.count,
            first_too_long: held.too_long.first.map(|place| place.line),
        };
        let notes = self.notes(&candidates);
        let (rows, items) = (self.rows()?, self.items()?);
        Ok(Evaluation {
            data,
            general,
            baseline,
            candidates,
            rows,
            items,
            sweeps: self.sweeps,
            nulls: self.nulls,
            rule: RULE.to_string(),
            notes,
        })
    }

    fn candidate(&self, at: usize, baseline: usize) -> Candidate {
        let (entry, seed) = (&self.entries[at], self.options.seed);
        let own = self.judged(entry);
        let reference = (at != baseline).then(|| self.judged(&self.entries[baseline]));
        let base = (at > 0).then(|| self.judged(&self.entries[0]));
        let held_out = compare::losses(own, reference, seed);
        let answers = compare::answered(own, reference, &self.options.checks);
        let regression =
            compare::regression(own.figures, reference.map(|judged| judged.figures), &self.items);
        let judged = at > baseline;
        let verdict = judged.then(|| Verdict::of(&held_out, answers.as_ref(), regression.as_ref()));
        Candidate {
            name: entry.name.clone(),
            kind: entry.kind,
            model: entry.model.clone(),
            adapter: entry.adapter.as_ref().map(|(path, _)| path.clone()),
            weight: entry.adapter.as_ref().map(|(_, weight)| *weight),
            form: entry.form.clone(),
            held_out,
            answers,
            general: compare::forgetting(own, base, self.options.threshold, seed),
            regression,
            verdict,
        }
    }

    fn rows(&self) -> Result<Vec<RowReport>> {
        let first = &self.tasks[0];
        let places: Vec<Vec<Option<usize>>> = self.tasks.iter().map(|task| places(first, task)).collect();
        let mut rows = Vec::with_capacity(first.held.rows.len());
        for (at, row) in first.held.rows.iter().enumerate() {
            let made = |entry: &Entry| {
                let place = places[entry.task][at]?;
                let expected = self.tasks[entry.task].held.rows[place].question.as_ref();
                let expected = expected.map(|question| question.expected.as_str());
                let answer = entry.figures.answers[place].as_ref();
                Some(Made {
                    loss: entry.figures.losses[place].mean(),
                    answer: answer.map(|answer| compare::given(answer, expected, &self.options.checks)),
                })
            };
            let question = row.question.as_ref();
            rows.push(RowReport {
                file: row.document.source,
                line: row.document.line,
                prompt: question.map(|asked| first.text.decoded(&asked.prompt, false)).transpose()?,
                expected: question.map(|asked| asked.expected.clone()),
                made: self.entries.iter().map(made).collect(),
            });
        }
        Ok(rows)
    }

    fn items(&self) -> Result<Vec<ItemReport>> {
        let first = &self.tasks[0];
        let item = |(at, item): (usize, &Item)| {
            let answer = |entry: &Entry| compare::given(&entry.figures.items[at], None, &item.checks);
            Ok(ItemReport {
                name: item.name.clone(),
                line: item.line,
                must: item.must,
                prompt: first.text.decoded(&first.prompts[at], false)?,
                answers: self.entries.iter().map(answer).collect(),
            })
        };
        self.items.iter().enumerate().map(item).collect()
    }

    /// What should be known about the figures.
    fn notes(&self, candidates: &[Candidate]) -> Vec<String> {
        let mut notes = Vec::new();
        for (task, path) in self.tasks.iter().zip(&self.options.models) {
            let held = &task.held;
            if held.too_long.count > 0 {
                let first = held.too_long.first.map_or(0, |place| place.line);
                notes.push(format!(
                    "rows with more tokens than the context of `{}`, {}, are left out: {} of {}, the first on line {first}",
                    path.display(),
                    task.context.unwrap_or(0),
                    held.too_long.count,
                    held.all,
                ));
            }
        }
        let without = &self.tasks[0].held.without_answer;
        if without.count > 0 {
            let first = without.first.map_or(0, |place| place.line);
            notes.push(format!(
                "rows without an answer are left out: {}, the first on line {first}",
                without.count
            ));
        }
        for candidate in candidates {
            if candidate.held_out.unit == Unit::BitsPerByte {
                notes.push(format!(
                    "`{}` has other tokens than the baseline, so perplexities are not compared; the difference is in bits per byte",
                    candidate.name
                ));
            }
            if candidate.held_out.difference.is_some_and(|difference| difference.low.is_none()) {
                notes.push(format!(
                    "`{}` and the baseline share fewer than {FEWEST} rows, too few for an interval",
                    candidate.name
                ));
            }
        }
        notes
    }
}

/// Where each row of the first task is in another.
fn places(first: &Task, other: &Task) -> Vec<Option<usize>> {
    let mut places = vec![None; first.held.rows.len()];
    for (at, place) in compare::pairs(&first.held.rows, &other.held.rows) {
        places[at] = Some(place);
    }
    places
}
