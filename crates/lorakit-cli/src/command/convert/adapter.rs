//! Converting adapters.

use std::fmt::Write as _;

use lorakit::ops::convert::adapter::{self, AdapterConvert, AdapterOptions, Approximated, overall_error};

use super::super::planned;
use super::{FORMATS, SCHEMA};
use crate::args::{self, Common, Format};
use crate::error::Failure;
use crate::names::{self, shown};
use crate::progress::Bar;
use crate::ui::Ui;
use crate::units;

pub(super) fn run(args: &args::Convert, common: &Common, ui: &Ui) -> Result<(), Failure> {
    if args.to == Format::HF {
        let message = "is an adapter, and `--to hf` is a format of models; for PEFT it is `--to peft`";
        return Err(Failure::usage_at(&args.source, message, FORMATS));
    }
    if args.pre.is_some() {
        let message = "is an adapter, and `--pre` is an option for models";
        return Err(Failure::usage_at(&args.source, message, "leave it out"));
    }
    let options = AdapterOptions::new(&args.source, &args.output.output, args.to.name())
        .with_replace(args.output.force)
        .with_dtype(args.dtype)
        .with_base(args.base.clone())
        .with_approximate(args.approximate)
        .with_dora_to_lora(args.rank.filter(|_| args.dora_to_lora))
        .with_uniform(args.uniform)
        .with_threads(common.threads)
        .with_lineage(args.output.lineage)
        .with_card(!args.output.no_card)
        .with_mode(common.read_mode());
    let bar = Bar::new(ui, "approximating");
    let convert = adapter::compute(&options, &bar)?;
    bar.finish();
    ui.notes(&convert.notes);
    if !ui.json && !ui.quiet && !convert.approximated.is_empty() {
        ui.result(&approximated(&convert.approximated))?;
    }
    if args.output.dry_run {
        if ui.json {
            return ui.dry_run(SCHEMA, convert.preview(), &convert.output.plan, common.threads);
        }
        return ui.result(&(mapping(&convert) + &planned::describe(&convert.output.plan, common.threads)));
    }
    let bar = Bar::new(ui, "converting");
    let report = convert.run(common.threads, &bar)?;
    bar.finish();
    if ui.json {
        return ui.json(SCHEMA, convert.report(&report));
    }
    let mut text = String::new();
    if !ui.quiet {
        if ui.verbose {
            text += &mapping(&convert);
        }
        let _ = writeln!(text, "{}", summary(&convert, args));
        let _ = writeln!(text, "{}", planned::proof(&report, "the same"));
    }
    ui.result(&(text + &planned::wrote(&convert.output.plan, &report.report)))
}

/// How well modules were approximated.
fn approximated(modules: &[Approximated]) -> String {
    let worst = modules.iter().max_by(|a, b| a.error.total_cmp(&b.error));
    let worst = worst.map_or_else(String::new, |w| {
        format!("; of one module at most {:.2} %, in `{}`", 100.0 * w.error, shown(&w.path))
    });
    let count = units::plural(modules.len(), "module");
    format!("approximated {count}: {:.2} % of the delta is lost{worst}\n", 100.0 * overall_error(modules))
}

/// `converted `a/` from peft to mlx: 28 modules, rank 8`.
fn summary(convert: &AdapterConvert, args: &args::Convert) -> String {
    let modules = units::plural(convert.output.modules().len(), "module");
    format!(
        "converted `{}` from {} to {}: {modules}",
        names::path(&args.source),
        convert.from,
        convert.output.to
    )
}

/// What becomes of each module.
fn mapping(convert: &AdapterConvert) -> String {
    let mut text = String::new();
    for mapped in &convert.output.mapped {
        let how =
            if mapped.how.is_empty() { String::new() } else { format!("  ({})", mapped.how.join(", ")) };
        let _ = writeln!(text, "{} -> {}{how}", shown(&mapped.module), shown(&mapped.name));
    }
    text.push('\n');
    text
}
