//! `lorakit quantize`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lorakit::ops::quantize::{
    self, Chosen, Mix, QuantType, Quantization, Quantize, QuantizeOptions, TypeList,
};
use lorakit::plan::Report;
use lorakit_quant::mix::{FileType, MixOptions};
use lorakit_tensor::DType;

use super::planned;
use crate::args::{self, Common, Mixing};
use crate::error::Failure;
use crate::names::{self, shown};
use crate::progress::Bar;
use crate::ui::Ui;
use crate::width;

const SCHEMA: &str = "lorakit.quantize/1";

pub(crate) fn run(args: &args::Quantize, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let (Some(source), Some(output), Some(kind)) = (&args.model, &args.output, args.kind) else {
        return list(ui);
    };
    let options =
        QuantizeOptions::new(source.clone(), output.output.clone(), quantization(kind, &args.mixing, None))
            .with_replace(output.force)
            .with_requantize(args.requantize)
            .with_max_shard(args.max_shard_size)
            .with_pre(args.mixing.pre.clone())
            .with_check_finite(output.check_finite)
            .with_lineage(output.lineage)
            .with_mode(common.read_mode());
    let quantize = quantize::plan(&options, &Bar::new(ui, "planning"))?;
    let Quantize { plan, chosen, notes } = &quantize;
    if output.dry_run {
        if ui.json {
            return ui.dry_run(SCHEMA, quantize.preview(), plan, common.threads);
        }
        ui.notes(notes);
        let text = table(chosen) + "\n" + &planned::standing(plan) + &planned::totals(plan, common.threads);
        return ui.result(&text);
    }
    ui.notes(notes);
    let bar = Bar::new(ui, "quantising");
    let report = plan.run(common.threads, &bar)?;
    bar.finish();
    if ui.json {
        return ui.json(SCHEMA, quantize.report(&report));
    }
    ui.result(&summary(&quantize, &report, args, ui))
}

/// The quantisation that the options ask for; `promote` is the least type of tensors that adapters change.
pub(super) fn quantization(kind: QuantType, mixing: &Mixing, promote: Option<DType>) -> Quantization {
    match kind.packing(mixing.block_size, mixing.double_quant) {
        Some(packing) => Quantization::Packed { packing, promote: promote.is_some() },
        None => {
            let file_type = match kind {
                QuantType::Mix(file_type) => Some(file_type),
                _ => None,
            };
            Quantization::Gguf { mix: mix(file_type, mixing, promote), imatrix: mixing.imatrix.clone() }
        }
    }
}

pub(super) fn mix(file_type: Option<FileType>, mixing: &Mixing, promote: Option<DType>) -> Mix {
    let options = MixOptions {
        overrides: mixing.tensor_type.clone(),
        output: mixing.output_tensor_type,
        token_embedding: mixing.token_embedding_type,
        pure: mixing.pure,
        no_fallback: mixing.no_fallback,
        importance: mixing.imatrix.is_some(),
        ..MixOptions::default()
    };
    Mix { file_type, options, promote }
}

fn summary(quantize: &Quantize, report: &Report, args: &args::Quantize, ui: &Ui) -> String {
    let mut text = String::new();
    if !ui.quiet {
        if let Some(source) = &args.model {
            let _ = writeln!(text, "quantised `{}`: {}", names::path(source), counts(&quantize.chosen));
        }
        text.push_str(&planned::unchecked(
            report,
            args.output.as_ref().is_some_and(|output| output.check_finite),
        ));
        if ui.verbose {
            text.push_str(&table(&quantize.chosen));
        }
    }
    text + &planned::wrote(&quantize.plan, report)
}

/// `61 tensors F32, 30 Q6_K and 181 Q4_K`.
pub(super) fn counts(chosen: &[Chosen]) -> String {
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in chosen {
        *types.entry(tensor.to).or_default() += 1;
    }
    let mut types: Vec<(&str, usize)> = types.into_iter().collect();
    types.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let parts: Vec<String> = types.iter().map(|(name, n)| format!("{n} {name}")).collect();
    match parts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last} tensors", rest.join(", ")),
        _ => format!("{} tensors", parts.join("")),
    }
}

/// One line for each tensor.
pub(super) fn table(chosen: &[Chosen]) -> String {
    let names: Vec<_> = chosen.iter().map(|tensor| shown(&tensor.name)).collect();
    let types = chosen.iter().map(|t| t.to.len()).max().unwrap_or(0).max(7);
    // Room for both types and a reason of a few words, or the names are not aligned.
    let room = width::of_results().map_or(48, |columns| columns.saturating_sub(types + 24).min(48));
    let most = names.iter().map(|name| width::columns(name)).max().unwrap_or(0).min(room);
    let mut text = String::new();
    for (Chosen { from, to, why, .. }, name) in chosen.iter().zip(names) {
        let padding = most.saturating_sub(width::columns(&name));
        let line = format!("{name}{:padding$}  {from:>6} -> {to:<types$}  {why}", "");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Prints the known types.
fn list(ui: &Ui) -> Result<(), Failure> {
    if ui.json {
        return ui.json("lorakit.quantize.list/1", TypeList::all());
    }
    let mut text =
        String::from("GGUF files (llama.cpp, Ollama): bits for each weight of an 8-billion Llama\n");
    for mix in FileType::ALL {
        let needs = if mix.needs_importance() { " (needs --imatrix)" } else { "" };
        let _ = writeln!(text, "  {:<10} {:>6.2}  {}{needs}", mix.name(), mix.bits(), mix.about());
    }
    text.push_str("\nHugging Face folders (transformers, vLLM): bits for each weight of a linear layer\n");
    for packed in QuantType::PACKED {
        let _ = writeln!(text, "  {:<11} {:>5.2}  {}", packed.name, packed.bits, packed.about);
    }
    ui.result(&text)
}
