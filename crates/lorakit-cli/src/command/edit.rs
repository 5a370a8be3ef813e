//! `lorakit edit`.

use std::fmt::Write as _;

use lorakit::ops::edit::{self, Alpha, Edit, EditOptions, Edits, Rounding};

use super::inspect::text::number;
use super::planned;
use crate::args::{self, Common};
use crate::error::Failure;
use crate::progress::Bar;
use crate::ui::Ui;
use crate::units;

const SCHEMA: &str = "lorakit.edit/1";

/// Lines about changes without `--verbose`.
const FIRST: usize = 12;

/// The longest value that is shown whole.
const LONG: usize = 64;

/// The longest line.
const WIDTH: usize = 80;

pub(crate) fn run(args: &args::Edit, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let options = EditOptions::new(&args.adapter, &args.output.output, edits(args)?)
        .with_replace(args.output.force)
        .with_base(args.base.clone())
        .with_threads(common.threads)
        .with_lineage(args.output.lineage)
        .with_mode(common.read_mode());
    let bar = Bar::new(ui, "multiplying");
    let edit = edit::compute(&options, &bar)?;
    bar.finish();
    ui.notes(&edit.notes);
    let plan = &edit.output.plan;
    if args.output.dry_run {
        if ui.json {
            return ui.dry_run(SCHEMA, edit.preview(), plan, common.threads);
        }
        let plan =
            if ui.verbose { planned::describe(plan, common.threads) } else { planned::would_write(plan) };
        return ui.result(&(summary(&edit, args, ui) + &plan));
    }
    let bar = Bar::new(ui, "writing");
    let report = edit.run(common.threads, &bar)?;
    bar.finish();
    if ui.json {
        return ui.json(SCHEMA, edit.report(&report));
    }
    let mut text = String::new();
    if !ui.quiet {
        text += &summary(&edit, args, ui);
        let _ = writeln!(text, "{}", planned::proof(&report, "the same"));
    }
    ui.result(&(text + &planned::wrote(plan, &report.report)))
}

fn edits(args: &args::Edit) -> Result<Edits, Failure> {
    if let Some(tag) = args.tag.iter().find(|tag| args.remove_tag.contains(tag)) {
        let message = format!("the tag `{tag}` cannot be added and removed at once");
        return Err(Failure::usage(&message, "name it in `--tag` or in `--remove-tag`"));
    }
    let folded = args.fold_alpha.then_some(Alpha::Folded);
    let edits = Edits::default()
        .with_base_model(args.base_model.clone())
        .with_revision(args.revision.clone())
        .with_license(args.license.clone())
        .with_tags(args.tag.clone())
        .with_removed_tags(args.remove_tag.clone())
        .with_alpha(folded.or(args.alpha.map(Alpha::Is)))
        .with_dtype(args.dtype)
        .with_prefixes(args.rename_prefix.clone());
    if edits.is_empty() {
        return Err(Failure::usage(
            "no option says what to edit: `--base-model`, `--revision`, `--license`, `--tag`, `--remove-tag`, \
             `--fold-alpha`, `--alpha`, `--dtype` or `--rename-prefix` is needed",
            "`lorakit edit ADAPTER -o OUT --base-model OWNER/NAME` names another base",
        ));
    }
    Ok(edits)
}

/// What is edited, and what is not.
fn summary(edit: &Edit, args: &args::Edit, ui: &Ui) -> String {
    let mut text = format!(
        "edited `{}` ({}): {}\n",
        args.adapter.display(),
        edit.format,
        units::plural(edit.output.modules().len(), "module"),
    );
    let shown = if ui.verbose { edit.changes.len() } else { FIRST };
    for change in edit.changes.iter().take(shown) {
        let said =
            |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".into(), |v| short(v, ui));
        let (before, after) = (said(&change.before), said(&change.after));
        let line = format!("  {}: {before} -> {after}", change.place);
        if line.chars().count() <= WIDTH {
            text += &(line + "\n");
        } else {
            let _ = writeln!(text, "  {}:\n    {before}\n    -> {after}", change.place);
        }
    }
    if edit.changes.len() > shown {
        let more = edit.changes.len() - shown;
        let _ = writeln!(text, "  ... {more} more (all with `--verbose` or `--json`)");
    }
    for renamed in &edit.renamed {
        let said = |prefix: &str| if prefix.is_empty() { "no prefix".into() } else { format!("`{prefix}`") };
        let (before, after) = (said(&renamed.prefix_before), said(&renamed.prefix));
        let _ = writeln!(text, "  {}: {before} -> {after}", units::plural(renamed.paths, "path"));
    }
    if let Some(rounding) = &edit.rounding {
        let _ = writeln!(text, "{}", rounded(rounding));
    }
    if edit.copied > 0 {
        let _ = writeln!(text, "copied byte for byte: {}", units::plural(edit.copied, "tensor"));
    }
    text
}

/// What rounding did to the values that were computed.
fn rounded(rounding: &Rounding) -> String {
    let Rounding { tensors, exact_tensors, values, changed, max_relative_error } = *rounding;
    let computed = format!("computed: {}, {} values", units::plural(tensors, "tensor"), units::count(values));
    if changed == 0 {
        return format!("{computed}, every one exact");
    }
    format!(
        "{computed}\n  {} values are rounded, by at most {} of the value; {} exact",
        units::count(changed),
        number(max_relative_error),
        units::plural(exact_tensors, "tensor") + if exact_tensors == 1 { " is" } else { " are" },
    )
}

/// A value in quotes, cut if it is long.
fn short(value: &str, ui: &Ui) -> String {
    if ui.verbose || value.chars().count() <= LONG {
        return format!("`{value}`");
    }
    format!("`{}...`", value.chars().take(LONG).collect::<String>().replace('\n', " "))
}
