//! Weights that are chosen by measuring: the search, what it found, and how to repeat it by hand.

use std::fmt::Write as _;
use std::path::Path;

use lorakit::ops::combine::{Combine, CombineOptions, MajoritySign, Style};
use lorakit::ops::convert::adapter::{AdapterOutput, AdapterReport};
use lorakit::{Choice, DType, Finding, Severity};
use lorakit_train::eval::{self, Interval, Measured, Metric, Role, Stage, Trial, TuneOptions, Tuned};
use serde::Serialize;

use crate::args::{self, Common};
use crate::command::passes::Passes;
use crate::command::planned::Computed;
use crate::error::Failure;
use crate::table::{print_table, table};
use crate::ui::Ui;
use crate::{names, units};

/// Columns of the longest bar of a curve.
const BAR: f64 = 40.0;
/// The least difference that is not printed as 0.
const TOLD: f64 = 5e-5;

/// Chooses weights if they are to be chosen, and puts them into `options`. Returns what was found, and the command that
/// writes the same by hand.
pub(super) fn chosen(
    args: &args::Combine,
    common: &Common,
    ui: &Ui,
    options: &mut CombineOptions,
) -> Result<Option<(Tuned, String)>, Failure> {
    let tuning = &args.tuning;
    let (Some(model), [_, ..]) = (&tuning.model, tuning.tune.as_slice()) else { return Ok(None) };
    let mut how = TuneOptions::new(model, Path::new(""));
    how.data.clone_from(&tuning.tune);
    how.metric = tuning.tune_metric;
    how.share = tuning.tune_share;
    how.trials = tuning.tune_trials;
    how.quant = tuning.quant;
    how.context = tuning.context;
    how.chat_template.clone_from(&tuning.chat_template);
    how.most_tokens = tuning.max_tokens;
    if common.threads > 0 {
        how.threads = common.threads;
    }
    let mut watch = Passes::new(ui, true);
    let found = eval::tune(options, &how, &mut watch)?;
    drop(watch);
    options.adapters.iter_mut().zip(&found.weights).for_each(|((_, weight), chosen)| *weight = *chosen);
    options.density = found.density.or(options.density);
    options.chosen = Some(found.recorded());
    let by_hand = by_hand(options, args);
    let note = |text: &String| Finding::new(Severity::Note, "tuning", "", text.clone());
    if !ui.json && !ui.quiet {
        ui.result(&render(&found, options, &by_hand, ui.verbose))?;
        ui.notes(&found.notes.iter().map(note).collect::<Vec<_>>());
    }
    Ok(Some((found, by_hand)))
}

/// A combination whose weights were chosen.
pub(super) struct Both<'b> {
    pub(super) combine: &'b Combine,
    pub(super) found: &'b Tuned,
    pub(super) by_hand: &'b str,
}

impl Computed for Both<'_> {
    const SCHEMA: &'static str = <Combine as Computed>::SCHEMA;

    fn output(&self) -> &AdapterOutput {
        &self.combine.output
    }

    fn report<'r>(&'r self, run: Option<&'r AdapterReport>) -> impl Serialize {
        Report {
            combined: Computed::report(self.combine, run),
            tuned: TunedReport { found: self.found, by_hand: self.by_hand },
        }
    }
}

#[derive(Serialize)]
struct Report<'r, C> {
    #[serde(flatten)]
    combined: C,
    tuned: TunedReport<'r>,
}

#[derive(Serialize)]
struct TunedReport<'r> {
    #[serde(flatten)]
    found: &'r Tuned,
    by_hand: &'r str,
}

/// The command that writes the same without measuring.
fn by_hand(options: &CombineOptions, args: &args::Combine) -> String {
    let mut words = vec!["lorakit".to_string(), "combine".into()];
    words.extend(options.adapters.iter().map(|(path, weight)| format!("{}={weight}", path.display())));
    let mut add = |option: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [format!("--{option}"), value]));
    };
    add("output", Some(options.output.display().to_string()));
    add("method", Some(options.method.name().into()));
    add("rank", options.rank.map(|rank| rank.to_string()));
    add("density", options.density.map(|density| density.to_string()));
    add(
        "majority-sign",
        Some(options.majority.name().into()).filter(|_| options.majority != MajoritySign::default()),
    );
    add("seed", options.seed.map(|seed| seed.to_string()));
    add("style", Some(options.style.name().into()).filter(|_| options.style != Style::default()));
    options.strengths.only.iter().for_each(|pattern| add("only", Some(pattern.to_string())));
    options.strengths.skip.iter().for_each(|pattern| add("skip", Some(pattern.to_string())));
    options.strengths.weights.iter().for_each(|weight| add("weight", Some(weight.to_string())));
    add("to", args.written.format.to.map(|to| to.name().into()));
    add("base", options.base.as_ref().map(|base| base.display().to_string()));
    add("dtype", options.dtype.map(DType::name).map(|name| name.to_ascii_lowercase()));
    words.iter().map(|word| names::in_a_shell(word)).collect::<Vec<_>>().join(" ")
}

/// What was found, for people.
fn render(found: &Tuned, options: &CombineOptions, by_hand: &str, verbose: bool) -> String {
    let data = &found.data;
    let files: Vec<String> = data.files.iter().map(|file| format!("`{}`", names::path(file))).collect();
    let goal = match found.metric {
        Metric::Loss => "the least loss",
        Metric::Exact => "the most exact answers",
    };
    let figures =
        if data.held_back { format!("; figures are of {} others", data.measured_on) } else { String::new() };
    let mut text = format!(
        "weights for {goal} on {} of {}, in {}{figures}\n\n",
        units::plural(data.chosen_on, "row"),
        files.join(", "),
        units::plural(found.trials.len(), "trial"),
    );
    measured(&mut text, found, options);
    if verbose {
        trials(&mut text, found);
    }
    curve(&mut text, found);
    verdict(&mut text, found, options);
    let _ = writeln!(text, "the same by hand: {}\n", names::shown(by_hand));
    text
}

/// What something measured is called.
fn name(measured: &Measured, options: &CombineOptions) -> String {
    match measured.role {
        Role::Base => "base".into(),
        Role::Given => format!("given {}", listed(&measured.weights, measured.density)),
        Role::Chosen => format!("chosen {}", listed(&measured.weights, measured.density)),
        Role::Alone => {
            let own = measured.weights.iter().position(|weight| *weight != 0.0);
            let path = own.and_then(|at| options.adapters.get(at));
            path.map_or(String::new(), |(path, _)| format!("{} alone", names::path(path)))
        }
    }
}

/// `0.7, 0.35`, and the density.
fn listed(weights: &[f64], density: Option<f64>) -> String {
    let weights: Vec<String> = weights.iter().map(f64::to_string).collect();
    weights.join(", ") + &density.map_or(String::new(), |density| format!(" (density {density})"))
}

fn measured(text: &mut String, found: &Tuned, options: &CombineOptions) {
    let exact = found.metric == Metric::Exact;
    let mut header = vec!["weights", "chosen on", "loss", "difference", "95 % interval"];
    if !found.data.held_back {
        header.remove(1);
    }
    if exact {
        header.push("exact");
    }
    let mut rows = table(&header);
    for one in &found.measured {
        let mut row = vec![name(one, options)];
        if found.data.held_back {
            row.push(format!("{:.4}", one.chosen_on));
        }
        row.push(format!("{:.4}", one.loss));
        row.extend(interval(one.difference));
        row.extend(one.exact.map(|exact| format!("{exact}/{}", found.data.measured_on)));
        rows.add_row(row);
    }
    print_table(text, &rows);
    let best = found.measured.get(found.best_alone).map_or(String::new(), |best| name(best, options));
    let _ = writeln!(text, "  difference: to `{best}`, in nats per token\n");
}

/// A mean and its interval, in two cells.
fn interval(difference: Option<Interval>) -> [String; 2] {
    let Some(Interval { mean, low, high }) = difference else { return ["-".into(), "-".into()] };
    let ends = low.zip(high).map_or("-".into(), |(low, high)| format!("{low:+.4} to {high:+.4}"));
    [format!("{mean:+.4}"), ends]
}

fn trials(text: &mut String, found: &Tuned) {
    let exact = found.metric == Metric::Exact;
    let mut rows = table(if exact { &["trial", "loss", "exact"] } else { &["trial", "loss"] });
    for trial in found.trials.iter().filter(|trial| trial.stage != Stage::Scale) {
        let mut row = vec![listed(&trial.weights, trial.density), format!("{:.4}", trial.loss)];
        row.extend(trial.exact.map(|exact| exact.to_string()));
        rows.add_row(row);
    }
    print_table(text, &rows);
    let _ = writeln!(text);
}

/// All weights multiplied, as bars: the base has 0.
fn curve(text: &mut String, found: &Tuned) {
    let Some(base) = found.measured.first() else { return };
    let of_scale =
        |trial: &Trial| trial.scale.map(|scale| (scale, trial.loss, trial.weights == found.weights));
    let mut points = vec![(0.0, base.chosen_on, false)];
    points.extend(found.trials.iter().filter_map(of_scale));
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let most = points.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    let _ = writeln!(text, "  all weights    loss, on the rows that they are chosen on");
    for (scale, loss, chosen) in points {
        let bar = "#".repeat((loss / most * BAR).round().max(0.0) as usize);
        let mark = if chosen { " <- chosen" } else { "" };
        let _ = writeln!(text, "  x {scale:<8}  {loss:>8.4}  {bar}{mark}");
    }
    let _ = writeln!(text);
}

/// Whether the chosen weights are better than the best adapter alone.
fn verdict(text: &mut String, found: &Tuned, options: &CombineOptions) {
    let (Some(best), Some(chosen)) = (found.measured.get(found.best_alone), found.measured.last()) else {
        return;
    };
    let Some(difference) = chosen.difference else { return };
    let than = name(best, options);
    let rows = if found.data.held_back { "on rows that had no part in the choice" } else { "on these rows" };
    let by = format!("{:.4} nats per token", difference.mean.abs());
    let told = difference.mean.abs() >= TOLD;
    let _ = if told && difference.is_below(0.0) {
        writeln!(text, "the chosen weights are better than `{than}`, by {by}, {rows}")
    } else if told && difference.is_above(0.0) {
        writeln!(text, "the chosen weights are worse than `{than}`, by {by}, {rows}")
    } else {
        writeln!(text, "no significant change from `{than}`, {rows}")
    };
}
