//! `lorakit combine`.

mod tune;

use std::fmt::Write as _;
use std::time::Instant;

use lorakit::Choice;
use lorakit::ops::combine::{self, Against, Combine, CombineOptions, Combined, Interference};

use crate::args::{self, Common};
use crate::command::inspect::text::number;
use crate::command::planned::{self, computed};
use crate::command::reduce::{percent, ranks};
use crate::command::strength;
use crate::error::Failure;
use crate::names::{self, shown};
use crate::progress::Bar;
use crate::table::{print_first, print_table, table};
use crate::ui::Ui;
use crate::units;

/// Modules in the table without `--verbose`.
const WORST: usize = 8;

pub(crate) fn run(args: &args::Combine, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let started = Instant::now();
    let mut options = options(args, common);
    let tuned = tune::chosen(args, common, ui, &mut options)?;
    let bar = Bar::new(ui, "combining");
    let combine = combine::compute(&options, &bar)?;
    bar.finish();
    ui.notes(&combine.notes);
    if !ui.json && (args.output.dry_run || !ui.quiet) {
        ui.result(&interference(&combine, ui))?;
    }
    let summary = || summary(&combine, &options, ui);
    let run = (args.output.dry_run, started);
    match &tuned {
        None => planned::write_adapter(&combine, run, (common, ui), summary),
        Some((found, by_hand)) => {
            let both = tune::Both { combine: &combine, found, by_hand };
            planned::write_adapter(&both, run, (common, ui), summary)
        }
    }
}

fn options(args: &args::Combine, common: &Common) -> CombineOptions {
    CombineOptions::new(args.adapters.clone(), args.output.output.clone())
        .with_to(args.written.format.name(&args.output.output))
        .with_replace(args.output.force)
        .with_dtype(args.written.dtype)
        .with_base(args.written.format.base.clone())
        .with_method(args.method)
        .with_style(args.style)
        .with_rank(args.rank)
        .with_density(args.density)
        .with_majority(args.majority_sign)
        .with_seed(args.seed)
        .with_strengths(args.strength.strengths())
        .with_threads(common.threads)
        .with_lineage(args.output.lineage)
        .with_card(!args.output.no_card)
        .with_mode(common.read_mode())
}

/// The adapters, and how much they interfere: one line for each pair.
fn interference(combine: &Combine, ui: &Ui) -> String {
    let mut text = String::new();
    for (i, part) in combine.adapters.iter().enumerate() {
        let modules = units::plural(part.modules, "module") + &strength::counts(&part.strength);
        let (number, path) = (i + 1, names::path(&part.path));
        let _ = writeln!(text, "{number}  `{path}` (weight {}, {}, {modules})", part.weight, part.format);
        if ui.verbose {
            text += &strength::modules(part.weight, &part.strength);
        }
    }
    text.push('\n');
    if combine.interference.is_empty() {
        return text;
    }
    text += "interference of the weighted deltas, in the mean over the modules that both have\n\n";
    let mut rows =
        table(&["pair", "modules", "cosine", "signs against", "outputs shared", "inputs shared", "norms"]);
    let mut pairs: Vec<(usize, usize)> = combine.interference.iter().map(|i| i.pair).collect();
    pairs.sort_unstable();
    pairs.dedup();
    for pair in pairs {
        let of_pair: Vec<&Interference> = combine.interference.iter().filter(|i| i.pair == pair).collect();
        let mean = |value: &dyn Fn(&Interference) -> f64| {
            of_pair.iter().map(|i| value(i)).sum::<f64>() / of_pair.len() as f64
        };
        let ratio = mean(&|i| i.norm_ratio.ln()).exp();
        rows.add_row([
            format!("{} and {}", pair.0 + 1, pair.1 + 1),
            of_pair.len().to_string(),
            format!("{:.3}", mean(&|i| i.cosine)),
            percent(mean(&|i| i.sign_conflict)),
            percent(mean(&|i| i.overlap().0)),
            percent(mean(&|i| i.overlap().1)),
            format!("1 : {}", if ratio.is_finite() { number(ratio) } else { "-".into() }),
        ]);
    }
    print_table(&mut text, &rows);
    let closest = combine.interference.iter().max_by(|a, b| a.cosine.abs().total_cmp(&b.cosine.abs()));
    if let Some(closest) = closest.filter(|_| !ui.quiet) {
        let (one, two) = (closest.pair.0 + 1, closest.pair.1 + 1);
        let _ = writeln!(
            text,
            "  furthest from independent: {one} and {two} in `{}`, cosine {:.3}",
            shown(&closest.path),
            closest.cosine
        );
    }
    text.push('\n');
    text
}

/// What was done, and where it is furthest from what was intended.
fn summary(combine: &Combine, options: &CombineOptions, ui: &Ui) -> String {
    let mut text = String::new();
    if combine.modules.is_empty() {
        let left_out = combine.adapters.iter().any(|part| part.left_out > 0);
        text += if combine.adapters.len() > 1 {
            "no modules to combine: what is saved whole is taken over as it is\n"
        } else if left_out {
            "one adapter at weight 1: the modules that are left stay as they are\n"
        } else {
            "one adapter at weight 1: it stays as it is\n"
        };
        return text;
    }
    let method = options.method.name();
    let modules = units::plural(combine.modules.len(), "module");
    let rank = ranks(&combine.modules, |m| m.rank);
    let _ = writeln!(text, "combined by `{method}`: {modules}, rank {rank}");
    let error = combine.overall();
    let _ = match (combine.against, error) {
        (_, 0.0) => writeln!(text, "the result is the weighted sum, exactly"),
        (Against::Sum, e) if e < 1e-6 => writeln!(text, "the result is the weighted sum within rounding"),
        (Against::Sum, e) => writeln!(
            text,
            "the result is {} off the weighted sum, relative to its norm{}",
            percent(e),
            if method_mixes(options) { ": it combines factors, not deltas" } else { "" }
        ),
        (Against::Mixture, e) => {
            writeln!(text, "the rank leaves out {} of the mixture, relative to its norm", percent(e))
        }
    };
    if error >= 1e-6 {
        text += &modules_table(combine, ui);
    }
    text
}

/// Whether the method combines factors instead of deltas.
fn method_mixes(options: &CombineOptions) -> bool {
    matches!(options.method.in_style(options.style), combine::Method::Factors(_))
}

fn modules_table(combine: &Combine, ui: &Ui) -> String {
    let mut worst: Vec<&Combined> = combine.modules.iter().collect();
    if !ui.verbose {
        worst.sort_by(|a, b| b.error.total_cmp(&a.error));
        worst.truncate(WORST);
    }
    let more = combine.modules.len() - worst.len();
    let title = if more > 0 { "module (worst first)" } else { "module" };
    let mut rows = table(&[title, "ranks", "to", "error", "norm"]);
    for m in worst {
        let from = m.ranks_before.iter().map(|rank| rank.map_or("-".into(), |rank| rank.to_string()));
        let from = from.collect::<Vec<_>>().join(" ");
        rows.add_row([m.path.clone(), from, m.rank.to_string(), percent(m.error), number(m.norm)]);
    }
    let mut text = String::from("\n");
    print_first(&mut text, &rows, more);
    text.push('\n');
    text
}

computed!(Combine, "lorakit.combine/1");
