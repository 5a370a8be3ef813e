//! Converting models.

use std::fmt::Write as _;

use lorakit::ops::convert::{self, Convert, ConvertOptions, ToGgufOptions};
use lorakit_tensor::DType;

use super::super::planned;
use super::{FORMATS, KEEP_DTYPE, SCHEMA};
use crate::args::{self, Common, Format};
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::ui::Ui;
use crate::units;

pub(super) fn run(args: &args::Convert, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let of_adapters = [
        (args.base.is_some(), "--base"),
        (args.uniform, "--uniform"),
        (args.approximate.is_some(), "--approximate"),
    ];
    if let Some((_, option)) = of_adapters.iter().find(|(given, _)| *given) {
        let message = format!("is a model, and `{option}` is an option for adapters");
        return Err(Failure::usage_at(&args.source, &message, "leave it out"));
    }
    let dtype = args.dtype;
    if dtype == Some(DType::Q4_0) {
        let message = "is a model, and `--dtype q4_0` is for the factors of adapters";
        return Err(Failure::usage_at(
            &args.source,
            message,
            "`lorakit quantize MODEL -o OUT.gguf --type Q4_0`",
        ));
    }
    let planning = Bar::new(ui, "planning");
    let convert = match args.to {
        Format::HF if dtype == Some(DType::Q8_0) => {
            return Err(Failure::usage(
                "Q8_0 is a type of GGUF files; folders hold f32, f16 or bf16",
                KEEP_DTYPE,
            ));
        }
        Format::HF => convert::gguf_to_hf(
            &ConvertOptions::new(&args.source, &args.output.output)
                .with_replace(args.output.force)
                .with_dtype(dtype)
                .with_max_shard(args.max_shard_size)
                .with_check_finite(args.output.check_finite)
                .with_lineage(args.output.lineage)
                .with_card(!args.output.no_card)
                .with_mode(common.read_mode()),
            &planning,
        )?,
        Format::GGUF => {
            let options = ToGgufOptions::new(&args.source, &args.output.output)
                .with_replace(args.output.force)
                .with_dtype(dtype)
                .with_pre(args.pre.clone())
                .with_check_finite(args.output.check_finite)
                .with_lineage(args.output.lineage)
                .with_card(!args.output.no_card)
                .with_mode(common.read_mode());
            convert::hf_to_gguf(&options, &planning)?
        }
        adapter => {
            let message = format!("is a model, and `--to {}` is a format of adapters", adapter.name());
            return Err(Failure::usage_at(&args.source, &message, FORMATS));
        }
    };
    planning.finish();
    ui.notes(&convert.notes);
    if args.output.dry_run {
        if ui.json {
            return ui.dry_run(SCHEMA, convert.preview(), &convert.plan, common.threads);
        }
        return ui.result(&planned::describe(&convert.plan, common.threads));
    }
    let bar = Bar::new(ui, "converting");
    let report = convert.plan.run(common.threads, &bar)?;
    bar.finish();
    if ui.json {
        return ui.json(SCHEMA, convert.report(&report));
    }
    let mut text = String::new();
    if !ui.quiet {
        let _ = writeln!(text, "converted `{}`: {}", names::path(&args.source), decoded(&convert));
        text.push_str(&planned::unchecked(&report, args.output.check_finite));
    }
    ui.result(&(text + &planned::wrote(&convert.plan, &report)))
}

/// `211 tensors Q4_1 and 61 tensors F32 to BF16`.
fn decoded(convert: &Convert) -> String {
    let parts: Vec<String> =
        convert.from.iter().map(|(dtype, n)| format!("{} {dtype}", units::plural(*n, "tensor"))).collect();
    format!("{} to {}", parts.join(" and "), convert.dtype)
}
