//! Converting adapters.

use std::fmt::Write as _;

use lorakit::ops::convert::adapter::{
    self, AdapterConvert, AdapterOptions, AdapterReport, Approximated, overall_error,
};
use serde_json::{Value, json};

use super::super::planned;
use super::{FORMATS, KEEP_DTYPE};
use crate::args::{self, Common, ConvertDtype, Format};
use crate::error::Failure;
use crate::progress::Bar;
use crate::ui::{Ui, finding_json};
use crate::units;

pub(super) fn run(args: &args::Convert, common: &Common, ui: &Ui) -> Result<(), Failure> {
    if args.to == Format::HF {
        let message = "is an adapter, and `--to hf` is a format of models; for PEFT it is `--to peft`";
        return Err(Failure::usage_at(&args.source, message, FORMATS));
    }
    if args.dtype == ConvertDtype::Q8_0 && args.to != Format::GGUF {
        return Err(Failure::usage(
            "Q8_0 is a type of GGUF files; adapters hold f32, f16 or bf16",
            KEEP_DTYPE,
        ));
    }
    let options = AdapterOptions::new(&args.source, &args.output.output, args.to.name())
        .with_replace(args.output.force)
        .with_dtype(args.dtype.dtype())
        .with_base(args.base.clone())
        .with_approximate(args.approximate)
        .with_dora_to_lora(args.rank.filter(|_| args.dora_to_lora))
        .with_uniform(args.uniform)
        .with_threads(common.threads)
        .with_lineage(args.output.lineage.lineage())
        .with_mode(common.read_mode());
    // Nothing else that is planned takes time.
    let weights = args.base.as_deref().filter(|_| args.dora_to_lora).unwrap_or(&args.source);
    let bar = Bar::new(ui, "approximating", planned::bytes_at(weights));
    let convert = adapter::plan(&options, &bar)?;
    bar.finish();
    ui.notes(&convert.notes);
    if !ui.json && !ui.quiet && !convert.approximated.is_empty() {
        ui.result(&approximated(&convert.approximated))?;
    }
    if args.output.dry_run {
        if ui.json {
            let mut object = object(&convert, None);
            object["dry_run"] = true.into();
            object["plan"] = planned::plan_json(&convert.output.plan, common.threads);
            return ui.json(&object);
        }
        return ui.result(&(mapping(&convert) + &planned::describe(&convert.output.plan, common.threads)));
    }
    let bar = Bar::new(ui, "converting", convert.output.plan.output_bytes());
    let report = convert.run(common.threads, &bar)?;
    bar.finish();
    if ui.json {
        let object = object(&convert, Some(&report));
        return ui.json(&planned::with_report(object, &convert.output.plan, &report.report));
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
        format!("; of one module at most {:.2} %, in `{}`", 100.0 * w.error, w.path)
    });
    let count = units::plural(modules.len(), "module");
    format!("approximated {count}: {:.2} % of the delta is lost{worst}\n", 100.0 * overall_error(modules))
}

/// `converted `a/` from peft to mlx: 28 modules, rank 8`.
fn summary(convert: &AdapterConvert, args: &args::Convert) -> String {
    let modules = units::plural(convert.output.modules().len(), "module");
    format!("converted `{}` from {} to {}: {modules}", args.source.display(), convert.from, convert.output.to)
}

/// What becomes of each module.
fn mapping(convert: &AdapterConvert) -> String {
    let mut text = String::new();
    for mapped in &convert.output.mapped {
        let how =
            if mapped.how.is_empty() { String::new() } else { format!("  ({})", mapped.how.join(", ")) };
        let _ = writeln!(text, "{} -> {}{how}", mapped.module, mapped.name);
    }
    text.push('\n');
    text
}

fn object(convert: &AdapterConvert, report: Option<&AdapterReport>) -> Value {
    let modules: Vec<Value> = convert
        .output
        .mapped
        .iter()
        .map(|mapped| json!({ "module": mapped.module, "name": mapped.name, "how": mapped.how }))
        .collect();
    let notes: Vec<Value> = convert.notes.iter().map(finding_json).collect();
    let mut object = json!({
        "schema": "lorakit.convert/1", "from": convert.from, "to": convert.output.to, "modules": modules, "notes": notes,
    });
    if !convert.approximated.is_empty() {
        let each = convert.approximated.iter();
        let each = each.map(|m| json!({ "module": m.path, "rank": m.from, "to": m.to, "error": m.error }));
        object["approximated"] = each.collect::<Vec<_>>().into();
    }
    if let Some(report) = report {
        let errors = report.errors.iter().map(|e| json!({ "module": e.path, "error": e.error }));
        object["errors"] = errors.collect::<Vec<_>>().into();
        object["max_error"] = report.errors.iter().map(|e| e.error).fold(0.0, f64::max).into();
    }
    object
}
