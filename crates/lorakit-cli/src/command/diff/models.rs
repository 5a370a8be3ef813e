//! Two models.

use std::fmt::Write as _;

use lorakit::Finding;
use lorakit::Severity;
use lorakit::ops::diff::{FieldDiff, KindDiff, ModelDiff, ModelSide, State, TensorDiff};
use lorakit_tensor::Format;

use super::{and_more, cell, differ, fields, four, holds_non_finite, non_finite, relative, tally, tensors};
use crate::command::inspect::text::number;
use crate::command::reduce::percent;
use crate::names;
use crate::table::{print_table, table};
use crate::ui::Ui;
use crate::units;

/// Kinds of layers without `--verbose`.
const KINDS: usize = 12;

/// The result in one line.
pub(super) fn headline(found: &ModelDiff) -> String {
    let (n, all) = (found.tensors.len(), units::plural(found.tensors.len(), "tensor"));
    let states = || found.tensors.iter().map(|t| t.state);
    let differing = states().filter(|s| s.differs()).count();
    let of_config = found.config.iter().filter(|f| !f.record).count();
    let config = match of_config {
        0 => String::new(),
        n => format!("{} of the configuration {}; ", units::plural(n, "field"), differ(n)),
    };
    if states().all(|s| s == State::Same) {
        return format!("{config}the same: {n} of {all}, byte for byte");
    }
    if differing == 0 {
        return format!("{config}the same values in {n} of {all}, stored otherwise");
    }
    if states().all(|s| !s.differs() || s == State::Recast) {
        let dtypes = dtypes(found.tensors.iter().filter(|t| t.state == State::Recast));
        return format!("{config}the same values but for the rounding between {dtypes}, in {n} of {all}");
    }
    if found.kinds.is_empty() {
        return format!("no tensor in common: {}", tally(states()));
    }
    let share = match found.changed.tensors {
        0 => String::new(),
        _ => format!(" ({} of all values)", percent(found.changed.differing)),
    };
    let by = found.changed.mean.map_or(String::new(), |mean| {
        let whose = if found.changed.tensors == 1 { "by" } else { "on average by" };
        format!(", {whose} {} of ||A||", relative(mean))
    });
    let added = found.deltas.map_or(String::new(), |deltas| {
        let (cosine, ratio) = (cell(deltas.cosine(), four), cell(deltas.ratio(), number));
        format!("; cosine of A - W and B - W {cosine}, norms 1 : {ratio}")
    });
    let non_finite = found.tensors.iter().filter(|t| t.state.differs() && holds_non_finite(t)).count();
    let without = match non_finite {
        0 => String::new(),
        n => format!(", not counting NaN or infinite values in {n} of them"),
    };
    format!("{differing} of {all} {}{share}{by}{without}{added}", differ(differing))
}

/// The dtypes of these tensors, as words of a sentence.
fn dtypes<'a>(tensors: impl Iterator<Item = &'a TensorDiff>) -> String {
    let mut known: Vec<&str> = tensors.flat_map(|t| [&t.a, &t.b]).flatten().map(|s| s.dtype.name()).collect();
    known.sort_unstable();
    known.dedup();
    known.join(" and ")
}

/// Notes about tensors that the base lacks.
pub(super) fn notes(found: &ModelDiff) -> Vec<Finding> {
    if found.lacking == 0 {
        return Vec::new();
    }
    let tensors = units::plural(found.lacking, "tensor");
    let message = format!(
        "{tensors} of A and B without one of the same name and shape in W: `A - W` and `B - W` are of the others"
    );
    vec![Finding::new(Severity::Note, "base-lacks", "", message)]
}

/// Everything below the first line.
pub(super) fn report(found: &ModelDiff, ui: &Ui) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "  A  {}", side(&found.a));
    let _ = writeln!(text, "  B  {}", side(&found.b));
    if let Some(base) = &found.base {
        let _ = writeln!(text, "  W  `{}`", names::path(base));
    }
    let _ = writeln!(text, "  tensors: {}", tally(found.tensors.iter().map(|t| t.state)));
    text += &non_finite(&found.tensors);
    let (records, matter): (Vec<FieldDiff>, Vec<FieldDiff>) =
        found.config.iter().cloned().partition(|f| f.record);
    text += &fields(&matter, "configuration", ui);
    text += &fields(&records, "configuration (no difference)", ui);
    if found.tensors.iter().any(|t| t.state.differs()) {
        text += &kinds(&found.kinds, ui);
    }
    text + &tensors(&found.tensors, "tensor", ui)
}

fn side(side: &ModelSide) -> String {
    let format = match side.format {
        Format::Gguf => "GGUF",
        Format::Safetensors => "safetensors",
        Format::Torch => "Torch",
    };
    let packing = side.packing.as_ref().map_or(String::new(), |packing| format!(", {packing}"));
    let (tensors, values) = (units::plural(side.tensors, "tensor"), units::count(side.parameters));
    format!("`{}` ({format}{packing}, {tensors}, {values} parameters)", names::path(&side.path))
}

fn kinds(kinds: &[KindDiff], ui: &Ui) -> String {
    let (changed, unchanged): (Vec<&KindDiff>, Vec<&KindDiff>) = kinds.iter().partition(|k| k.differing > 0);
    let shown = if ui.verbose { changed.len() } else { changed.len().min(KINDS) };
    let deltas = kinds.iter().any(|k| k.deltas.is_some());
    let mut header = vec!["kind of layer", "tensors", "differ", "mean change", "max change"];
    header.extend(if deltas { &["|A-W|", "|B-W|", "cos"][..] } else { &[] });
    let mut lines = table(&header);
    for kind in &changed[..shown] {
        let mut row = vec![
            kind.kind.clone(),
            kind.tensors.to_string(),
            kind.differing.to_string(),
            cell(Some(kind.mean).filter(|v| v.is_finite()), relative),
            cell(Some(kind.max).filter(|v| v.is_finite()), relative),
        ];
        if deltas {
            row.push(cell(kind.deltas.map(|d| d.norms().0), number));
            row.push(cell(kind.deltas.map(|d| d.norms().1), number));
            row.push(cell(kind.deltas.and_then(|d| d.cosine()), four));
        }
        lines.add_row(row);
    }
    let mut text = String::new();
    if shown > 0 {
        text.push('\n');
        print_table(&mut text, &lines);
        text += &and_more(changed.len() - shown, " kinds");
    }
    let names: Vec<&str> = unchanged.iter().map(|k| k.kind.as_str()).collect();
    if !names.is_empty() {
        let _ = writeln!(text, "  unchanged:  {}", names::shown(&names.join(", ")));
    }
    text
}
