//! `lorakit extract`.

use std::fmt::Write as _;
use std::time::Instant;

use lorakit::ops::extract::{self, Became, Changed, Extract, ExtractOptions, Rule};

use super::inspect::text::number;
use super::planned::{self, computed};
use super::reduce::{percent, ranks};
use crate::args::{self, Common, Format};
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::table::{print_first, table};
use crate::ui::Ui;
use crate::units;

/// Changes in the table without `--verbose`.
const WORST: usize = 8;

pub(crate) fn run(args: &args::Extract, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let started = Instant::now();
    let options = options(args, common)?;
    let bar = Bar::new(ui, "extracting");
    let extract = extract::compute(&options, &bar)?;
    bar.finish();
    ui.notes(&extract.notes);
    let summary = || summary(&extract, args, ui);
    planned::write_adapter(&extract, (args.output.dry_run, started), (common, ui), summary)
}

fn options(args: &args::Extract, common: &Common) -> Result<ExtractOptions, Failure> {
    let rule = args.energy.map(Rule::Energy).or(args.auto.then_some(Rule::Auto));
    let chosen = rule.or(args.rank.map(Rule::Rank));
    let own = if args::is_gguf_file(&args.output.output) { Format::GGUF } else { Format::PEFT };
    Ok(ExtractOptions::new(&args.base, &args.tuned, &args.output.output)
        .with_to(args.to.unwrap_or(own).name().into())
        .with_base_name(args.base_name.clone())
        .with_replace(args.output.force)
        .with_dtype(args.dtype)
        .with_rule(chosen.ok_or_else(|| {
            Failure::usage(
                "no rule for choosing ranks was given: use `--rank`, `--energy` or `--auto`",
                "`--auto` keeps what stands out of rounding",
            )
        })?)
        .with_max_rank(args.rank.filter(|_| rule.is_some()))
        .with_embeddings(args.embeddings)
        .with_skip(args.skip.clone())
        .with_threads(common.threads)
        .with_lineage(args.output.lineage)
        .with_card(!args.output.no_card)
        .with_mode(common.read_mode()))
}

/// What was found, and where the factors miss most.
fn summary(extract: &Extract, args: &args::Extract, ui: &Ui) -> String {
    let mut text = String::new();
    let factored: Vec<&Changed> = extract.factored().collect();
    let count = |which: Became| extract.changes.iter().filter(|c| c.became == which).count();
    let mut parts = Vec::new();
    if !factored.is_empty() {
        let modules = units::plural(factored.len(), "module");
        parts.push(format!("{modules} of rank {}", ranks(&factored, |c| c.became.rank())));
    }
    for (number, what) in [
        (count(Became::Saved), "saved whole"),
        (count(Became::Noise), "no more than rounding"),
        (count(Became::LeftOut), "left out"),
        (extract.same, "unchanged"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    let _ = writeln!(
        text,
        "extracted `{}` less `{}`: {}",
        names::path(&args.tuned),
        names::path(&args.base),
        parts.join(", ")
    );
    let (energy, residual) = extract.overall();
    let _ = writeln!(
        text,
        "the adapter holds {} of the energy of all changes; what is missing is {} of their norm",
        percent(energy),
        percent(residual)
    );
    // Rounding swallows small changes, so the residual may be below the norm of rounding.
    match extract.rounding() {
        Some(rounding) if residual > 0.0 && rounding >= residual => {
            text += "rounding to the tuned model's dtype could account for all of that\n";
        }
        Some(rounding) if rounding > 0.01 * residual => {
            let rounding = percent(rounding);
            let _ = writeln!(text, "rounding to the tuned model's dtype accounts for {rounding}");
        }
        _ => {}
    }
    if let Some(identical) = extract.identical() {
        let share = percent(identical);
        let _ = writeln!(text, "merged into the base, {share} of the layers' values are the tuned model's");
    }
    let mut worst: Vec<&Changed> = extract.changes.iter().collect();
    if !ui.verbose {
        worst.sort_by(|a, b| b.residual.total_cmp(&a.residual));
        worst.truncate(WORST);
    }
    let more = extract.changes.len() - worst.len();
    let title = if more > 0 { "change (most missing first)" } else { "change" };
    let mut rows = table(&[title, "is", "norm", "of base", "missing", "identical"]);
    for change in worst {
        rows.add_row([
            change.name.clone(),
            match change.became {
                Became::Factors(rank) => format!("rank {rank}"),
                Became::Saved => "saved".into(),
                Became::Noise => "noise".into(),
                Became::LeftOut => "left out".into(),
            },
            number(change.norm),
            change.relative.map_or("new".into(), percent),
            percent(change.residual),
            change.identical.map_or("-".into(), percent),
        ]);
    }
    text.push('\n');
    print_first(&mut text, &rows, more);
    text.push('\n');
    text
}

computed!(Extract, "lorakit.extract/1");
