//! `lorakit merge`.

use std::fmt::Write as _;

use lorakit::ops::merge::{self, Merge, MergeOptions, ResidueReport, Sum};
use lorakit::ops::quantize::Quantization;
use lorakit::plan::{Report, Retention, by_type};

use super::{planned, strength};
use crate::args::{self, Common, MergeFormat, MergeQuantize};
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::ui::Ui;
use crate::units;

const SCHEMA: &str = "lorakit.merge/1";

/// Below this share, rounding has taken enough of an adapter to be reported.
const LOW_RETENTION: f64 = 0.9;

/// What to type where `--format` contradicts the type.
const NO_FORMAT: &str = "leave `--format` out: the type says what is written";

pub(crate) fn run(args: &args::Merge, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let merge = merge::plan(&options(args, common)?, &Bar::new(ui, "planning"))?;
    if args.output.dry_run {
        if ui.json {
            return ui.dry_run(SCHEMA, merge.preview(), &merge.plan, common.threads);
        }
        ui.notes(&merge.notes);
        let strengths: String = merge
            .adapters
            .iter()
            .map(|adapter| strength::lines(&adapter.path, adapter.weight, &adapter.strength, ui.verbose))
            .collect();
        return ui.result(&(strengths + &planned::describe(&merge.plan, common.threads)));
    }
    ui.notes(&merge.notes);
    let bar = Bar::new(ui, "merging");
    let report = merge.run(common.threads, &bar)?;
    bar.finish();
    if ui.json {
        return ui.json(SCHEMA, merge.report(&report));
    }
    ui.notes(&merge.doubts(&report));
    ui.result(&summary(&merge, &report, args, ui))
}

fn options(args: &args::Merge, common: &Common) -> Result<MergeOptions, Failure> {
    let sum = Sum::new(&args.base, args.adapters.clone())
        .with_tied(args.tied)
        .with_moe_layout(args.moe_b_layout)
        .with_rounding(args.rounding)
        .with_residual_base(args.residual_base)
        .with_strengths(args.strength.strengths());
    let options = MergeOptions::new(sum, &args.output.output)
        .with_replace(args.output.force)
        .with_dtype(args.dtype)
        .with_quantization(quantization(args)?)
        .with_pre(args.mixing.pre.clone())
        .with_min_retention(if args.output.force { 0.0 } else { merge::MIN_RETENTION })
        .with_max_shard(args.max_shard_size)
        .with_check_finite(args.output.check_finite)
        .with_lineage(args.output.lineage)
        .with_card(!args.output.no_card)
        .with_mode(common.read_mode());
    Ok(options)
}

/// What the sum is quantised to, from the type, the format and the name of the output.
fn quantization(args: &args::Merge) -> Result<Option<Quantization>, Failure> {
    let mixed = |file_type| Quantization::Gguf {
        mix: super::quantize::mix(file_type, &args.mixing, args.promote),
        imatrix: args.mixing.imatrix.clone(),
    };
    let to_gguf = match args.quantize {
        None if args.is_to_gguf() => return Ok(Some(mixed(args.float_type()))),
        None => return Ok(None),
        Some(MergeQuantize::Keep) => return Ok(Some(mixed(None))),
        Some(MergeQuantize::To(kind)) => super::quantize::quantization(kind, &args.mixing, args.promote),
    };
    match (&to_gguf, args.format) {
        (Quantization::Gguf { .. }, Some(MergeFormat::Safetensors)) => Err(Failure::usage(
            "this type is a GGUF type, and `--format safetensors` cannot hold it",
            NO_FORMAT,
        )),
        (Quantization::Packed { .. }, Some(MergeFormat::Gguf)) => Err(Failure::usage(
            "this type is written as a Hugging Face folder, not as `--format gguf`",
            NO_FORMAT,
        )),
        _ => Ok(Some(to_gguf)),
    }
}

fn summary(merge: &Merge, report: &Report, args: &args::Merge, ui: &Ui) -> String {
    let mut text = String::new();
    if !ui.quiet {
        let total = if merge.chosen.is_empty() { merge.plan.tensors().count() } else { merge.chosen.len() };
        for adapter in &merge.adapters {
            let mut parts = units::plural(adapter.modules, "module");
            if adapter.saved > 0 {
                let _ = write!(parts, ", {}", units::plural(adapter.saved, "saved tensor"));
            }
            if adapter.deltas > 0 {
                let _ = write!(parts, ", {}", units::plural(adapter.deltas, "full delta"));
            }
            parts += &strength::counts(&adapter.strength);
            let _ = writeln!(
                text,
                "merged `{}` (weight {}, {parts})",
                names::path(&adapter.path),
                adapter.weight
            );
            if ui.verbose {
                text += &strength::modules(adapter.weight, &adapter.strength);
            }
        }
        let _ = writeln!(
            text,
            "into   `{}`: {} of {total} tensors changed",
            names::path(&args.base),
            merge.changed(report)
        );
        for (stored_as, retention) in by_type(&report.retention) {
            text.push_str(&retention_line(stored_as, &retention));
        }
        if let Some(residue) = merge.residue(report) {
            text.push_str(&residue_line(merge, &residue));
        }
        text.push_str(&planned::unchecked(report, args.output.check_finite));
        if ui.verbose {
            for tensor in merge.plan.tensors() {
                let _ = writeln!(text, "{}", planned::line(tensor));
            }
        }
    }
    text + &planned::wrote(&merge.plan, report)
}

/// What rounding leaves of adapters that are taken out. Without a record, that they are in the model is the user's word.
fn residue_line(merge: &Merge, residue: &ResidueReport) -> String {
    let known = merge.adapters.iter().all(|adapter| adapter.held.is_some());
    let relative = residue
        .relative
        .map_or_else(String::new, |relative| format!(", {relative:.1e} of their norm in all"));
    format!(
        "rounding leaves: {}about {:.2} % of the touched weights differ from what they were before the merge{relative}; \
         none by more than {:.1e}\n",
        if known { "" } else { "if the model holds this much of it, " },
        residue.differing_share * 100.0,
        residue.largest
    )
}

fn retention_line(stored_as: &str, retention: &Retention) -> String {
    let Some(ratio) = retention.ratio() else {
        return format!("retention {stored_as}: the deltas are all zero\n");
    };
    let unchanged = retention.unchanged_share() * 100.0;
    let mut line = format!(
        "retention {stored_as}: {:.2} % of the adapter is in the output; rounding left {unchanged:.1} % of the \
         touched weights as they were\n",
        ratio * 100.0
    );
    if ratio < LOW_RETENTION {
        let way_out = match stored_as {
            "BF16" | "F16" => "`--dtype f32` keeps them whole",
            _ => "`--promote` gives the touched tensors a finer type",
        };
        let _ = writeln!(line, "          the deltas are small against the steps of this type: {way_out}");
    }
    line
}
