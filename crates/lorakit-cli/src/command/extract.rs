//! `lorakit extract`.

use std::fmt::Write as _;
use std::time::Instant;

use lorakit::ops::extract::{self, Became, Changed, Embeddings, Extract, ExtractOptions, Rule};
use lorakit_tensor::DType;
use serde_json::{Value, json};

use super::inspect::text::{number, print_table, table};
use super::planned;
use super::reduce::{percent, ranks};
use crate::args::{self, Common, EmbeddingsChoice, FactorDtype, Format};
use crate::error::Failure;
use crate::progress::Bar;
use crate::ui::{Ui, finding_json};
use crate::units;

/// Changes in the table without `--verbose`.
const WORST: usize = 8;

pub(crate) fn run(args: &args::Extract, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let started = Instant::now();
    let options = options(args, common)?;
    let bar = Bar::new(ui, "extracting", planned::bytes_at(&args.tuned));
    let extract = extract::plan(&options, &bar)?;
    bar.finish();
    ui.notes(&extract.notes);
    let (object, summary) = (|| object(&extract), || summary(&extract, args, ui));
    planned::write_adapter(&extract.output, (args.output.dry_run, started), (common, ui), object, summary)
}

fn options(args: &args::Extract, common: &Common) -> Result<ExtractOptions, Failure> {
    let rule = args.energy.map(Rule::Energy).or(args.auto.then_some(Rule::Auto));
    let chosen = rule.or(args.rank.map(Rule::Rank));
    let is_gguf = args.output.output.extension().is_some_and(|extension| extension == "gguf");
    let own = if is_gguf { Format::GGUF } else { Format::PEFT };
    Ok(ExtractOptions::new(&args.base, &args.tuned, &args.output.output)
        .with_to(args.to.unwrap_or(own).name().into())
        .with_base_name(args.base_name.clone())
        .with_replace(args.output.force)
        .with_dtype(match args.dtype {
            FactorDtype::F32 => DType::F32,
            FactorDtype::F16 => DType::F16,
            FactorDtype::Bf16 => DType::BF16,
        })
        .with_rule(chosen.ok_or_else(|| {
            Failure::usage(
                "no rule for choosing ranks was given: use `--rank`, `--energy` or `--auto`",
                "`--auto` keeps what stands out of rounding",
            )
        })?)
        .with_max_rank(args.rank.filter(|_| rule.is_some()))
        .with_embeddings(match args.embeddings {
            EmbeddingsChoice::Whole => Embeddings::Whole,
            EmbeddingsChoice::Factors => Embeddings::Factors,
            EmbeddingsChoice::Skip => Embeddings::Skip,
        })
        .with_skip(args.skip.clone())
        .with_threads(common.threads)
        .with_lineage(args.output.lineage.lineage())
        .with_mode(common.read_mode()))
}

/// What was found, and where factors miss most.
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
        args.tuned.display(),
        args.base.display(),
        parts.join(", ")
    );
    let (energy, residual) = extract.overall();
    let _ = writeln!(
        text,
        "the adapter holds {} of the energy of all changes; what is missing is {} of their norm",
        percent(energy),
        percent(residual)
    );
    // Rounding swallows small changes, which leaves less than its own norm.
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
    print_table(&mut text, &rows);
    if more > 0 {
        let _ = writeln!(text, "  ... {more} more (all with `--verbose` or `--json`)");
    }
    text.push('\n');
    text
}

fn object(extract: &Extract) -> Value {
    let changes = extract.changes.iter().map(|c| {
        json!({
            "name": c.name, "became": c.became.name(), "rank": c.became.rank(), "shape": [c.shape.0, c.shape.1],
            "norm": c.norm, "relative": c.relative, "residual": c.residual, "rounding": c.rounding,
            "identical": c.identical,
        })
    });
    let (energy, residual) = extract.overall();
    json!({
        "schema": "lorakit.extract/1",
        "to": extract.output.to,
        "changes": changes.collect::<Vec<_>>(),
        "unchanged": extract.same,
        "energy": energy,
        "residual": residual,
        "rounding": extract.rounding(),
        "identical": extract.identical(),
        "findings": extract.notes.iter().map(finding_json).collect::<Vec<_>>(),
    })
}
