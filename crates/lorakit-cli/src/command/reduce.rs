//! `lorakit reduce`.

use std::fmt::Write as _;
use std::time::Instant;

use lorakit::ops::reduce::{self, Alternative, Reduce, ReduceOptions, Reduced, Rule};

use super::inspect::text::number;
use super::planned::{self, computed};
use crate::args::{self, Common, Stored};
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::table::{print_first, table};
use crate::ui::Ui;
use crate::units;

/// Modules in the table without `--verbose`.
const WORST: usize = 8;

pub(crate) fn run(args: &args::Reduce, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let started = Instant::now();
    let options = options(args, common)?;
    let bar = Bar::new(ui, "decomposing");
    let reduce = reduce::compute(&options, &bar)?;
    bar.finish();
    ui.notes(&reduce.notes);
    let summary = || summary(&reduce, args, ui);
    planned::write_adapter(&reduce, (args.output.dry_run, started), (common, ui), summary)
}

fn options(args: &args::Reduce, common: &Common) -> Result<ReduceOptions, Failure> {
    let rules = [
        args.energy.map(Rule::Energy),
        args.max_error.map(Rule::MaxError),
        args.kohya.map(|rule| Rule::Kohya(rule, args.kohya_edition)),
        args.budget.map(Rule::Parameters),
        args.target_size.map(Rule::Size),
    ];
    let rule = rules.into_iter().flatten().next();
    let fixed = args.rank.map(Rule::Rank);
    let chosen = rule.or(fixed).ok_or_else(|| {
        Failure::usage(
            "no rule says which ranks to choose: give `--rank`, `--energy`, `--max-error`, `--budget`, `--target-size` or \
             `--kohya`",
            "`lorakit reduce ADAPTER -o OUT --energy 0.99` keeps that share of each module's energy",
        )
    })?;
    let dtype = match args.dtype {
        Stored::As(dtype) => Some(dtype),
        Stored::Auto | Stored::Keep => None,
    };
    Ok(ReduceOptions::new(&args.adapter, &args.output.output, chosen)
        .with_to(args.format.name(&args.output.output))
        .with_replace(args.output.force)
        .with_dtype(dtype)
        .with_trade_dtypes(args.dtype == Stored::Auto)
        .with_base(args.format.base.clone())
        .with_max_rank(args.rank.filter(|_| rule.is_some()))
        .with_threads(common.threads)
        .with_lineage(args.output.lineage)
        .with_card(!args.output.no_card)
        .with_mode(common.read_mode()))
}

/// What was done, and which modules lost most.
fn summary(reduce: &Reduce, args: &args::Reduce, ui: &Ui) -> String {
    let mut text = String::new();
    let (before, after) = reduce.parameters();
    let (energy, error) = reduce.overall();
    let _ = writeln!(
        text,
        "reduced `{}` ({}): {} from rank {} to {}",
        names::path(&args.adapter),
        reduce.from,
        units::plural(reduce.modules.len(), "module"),
        ranks(&reduce.modules, |m| m.rank_before),
        ranks(&reduce.modules, |m| m.rank),
    );
    let _ = writeln!(
        text,
        "{} of {} parameters keep {} of the energy; the error is {} of the norm",
        units::count(after),
        units::count(before),
        percent(energy),
        percent(error)
    );
    text += &alternatives(&reduce.alternatives);
    let mut worst: Vec<&Reduced> = reduce.modules.iter().collect();
    if !ui.verbose {
        worst.sort_by(|a, b| b.error.total_cmp(&a.error));
        worst.truncate(WORST);
    }
    let more = reduce.modules.len() - worst.len();
    let title = if more > 0 { "module (worst first)" } else { "module" };
    let mut rows = table(&[title, "rank", "to", "energy", "error", "norm"]);
    for m in worst {
        rows.add_row([
            m.path.clone(),
            m.rank_before.to_string(),
            m.rank.to_string(),
            percent(m.energy),
            percent(m.error),
            number(m.norm),
        ]);
    }
    text.push('\n');
    print_first(&mut text, &rows, more);
    text.push('\n');
    text
}

/// What the dtypes could do with the size: a line for what was taken, a row for each.
fn alternatives(alternatives: &[Alternative]) -> String {
    let mut text = String::new();
    let Some(chosen) = alternatives.iter().find(|alternative| alternative.chosen) else { return text };
    let taken = match chosen.dtype {
        "keep" => "the present dtypes".into(),
        "mixed" => "mixed dtypes".into(),
        dtype => dtype.to_string(),
    };
    let _ = writeln!(text, "at this size, least is lost with {taken}:\n");
    let mut rows = table(&["dtype", "rank", "error", "size"]);
    let cells = |alternative: &Alternative| {
        let ranks = span(alternative.ranks.0, alternative.ranks.1);
        [ranks, percent(alternative.error), units::size(alternative.bytes)]
    };
    let mut known = vec![cells(chosen)];
    for alternative in alternatives {
        let cells = cells(alternative);
        // One that comes to the same is no alternative, such as the present dtype beside its own name.
        if !alternative.chosen {
            if known.contains(&cells) {
                continue;
            }
            known.push(cells.clone());
        }
        let [ranks, error, size] = cells;
        rows.add_row([alternative.dtype.into(), ranks, error, size]);
    }
    print_first(&mut text, &rows, 0);
    text
}

/// `16`, or `1-16`.
pub(super) fn ranks<T>(modules: &[T], rank: impl Fn(&T) -> usize) -> String {
    let least = modules.iter().map(&rank).min().unwrap_or(0);
    let most = modules.iter().map(&rank).max().unwrap_or(0);
    span(least, most)
}

fn span(least: usize, most: usize) -> String {
    if least == most { most.to_string() } else { format!("{least}-{most}") }
}

/// `99.87 %`; shares just above nothing or below all are not rounded to it.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".into(),
        p if p < 0.01 => format!("{p:.0e} %"),
        p if p > 99.99 && p < 100.0 => "> 99.99 %".into(),
        p if p < 10.0 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

computed!(Reduce, "lorakit.reduce/1");
