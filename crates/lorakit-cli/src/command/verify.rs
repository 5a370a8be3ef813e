//! `lorakit verify`.

use std::fmt::Write as _;

use lorakit::ops::merge::Sum;
use lorakit::ops::verify::{self, Outcome, State, Verification, Verified, VerifyOptions};

use super::inspect::text::number;
use super::reduce::percent;
use crate::args::{self, Common};
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::table::{print_first, table};
use crate::ui::{self, Ui};
use crate::units;

/// Tensors in the table without `--verbose`.
const WORST: usize = 8;
/// Tensors whose faults are told in words.
const TOLD: usize = 3;

pub(crate) fn run(args: &args::Verify, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let sum = Sum::new(&args.base, args.adapters.clone())
        .with_moe_layout(args.moe_b_layout)
        .with_residual_base(args.residual_base)
        .with_strengths(args.strength.strengths());
    let options =
        VerifyOptions::new(&args.merged, sum).with_threads(common.threads).with_mode(common.read_mode());
    let bar = Bar::new(ui, "comparing");
    let found = verify::verify(&options, &bar)?;
    bar.finish();
    if ui.json {
        ui.json("lorakit.verify/1", found.report())?;
    } else {
        ui.notes(&found.notes);
        ui.result(&summary(&found, args, ui))?;
    }
    match found.verdict.outcome() {
        Outcome::Holds => Ok(()),
        Outcome::Differs => Err(Failure::Differs("the model is not the base plus the adapters")),
        Outcome::Unjudged => {
            Err(Failure::Unjudged("whether the model is the base plus the adapters cannot be judged"))
        }
    }
}

fn summary(found: &Verification, args: &args::Verify, ui: &Ui) -> String {
    let mut text = String::new();
    let verdict = found.message();
    let (word, rest) = verdict.split_once(':').unwrap_or((&verdict, ""));
    let word = if found.verdict.holds() { ui::good(word) } else { word.to_string() };
    let colon = if rest.is_empty() { "" } else { ":" };
    let _ = writeln!(text, "{word}{colon}{rest}");
    if ui.quiet {
        return text;
    }
    let adapters = args.adapters.iter().map(|(path, weight)| match *weight {
        1.0 => format!("`{}`", names::path(path)),
        weight => format!("{weight} times `{}`", names::path(path)),
    });
    let adapters = adapters.collect::<Vec<_>>().join(" + ");
    let _ = writeln!(
        text,
        "  `{}` against `{}` + {adapters}",
        names::path(&args.merged),
        names::path(&args.base)
    );
    if found.left_out + found.weighted > 0 {
        let _ = writeln!(
            text,
            "  {} left out, {} with a weight of their own",
            units::plural(found.left_out, "module"),
            found.weighted
        );
    }
    let count = |touched: bool, held: bool| {
        found.tensors.iter().filter(|t| t.touched == touched && (!held || t.state.holds())).count()
    };
    let _ = writeln!(
        text,
        "  {} of {} that adapters touch hold the sum; {} of {} others are the base's",
        count(true, true),
        units::plural(count(true, false), "tensor"),
        count(false, true),
        count(false, false)
    );
    let mut worst: Vec<&Verified> =
        found.tensors.iter().filter(|t| ui.verbose || t.touched || !t.state.holds()).collect();
    if !ui.verbose {
        worst.sort_by(|a, b| a.state.holds().cmp(&b.state.holds()).then(b.error.total_cmp(&a.error)));
    }
    let more = if ui.verbose { 0 } else { worst.len().saturating_sub(WORST) };
    worst.truncate(worst.len() - more);
    let told = worst.iter().filter(|tensor| !matches!(tensor.state, State::Missing | State::Scaled(_)));
    for Verified { name, fault, .. } in told.take(TOLD) {
        if let Some(fault) = fault {
            let _ = writeln!(text, "  `{name}` {fault}");
        }
    }
    let mut rows =
        table(&[if more > 0 { "tensor (worst first)" } else { "tensor" }, "is", "scale", "off", "error"]);
    for tensor in worst {
        let unmeasured = [State::Absent, State::Extra, State::Reshaped, State::Unjudged];
        let measured = !unmeasured.contains(&tensor.state);
        let cell = |text: String| if measured { text } else { "-".into() };
        rows.add_row([
            tensor.name.clone(),
            describe(tensor.state).into(),
            tensor.scale.map_or("-".into(), |scale| format!("{scale:.4}")),
            cell(percent(tensor.off)),
            cell(number(tensor.error)),
        ]);
    }
    text.push('\n');
    print_first(&mut text, &rows, more);
    text
}

fn describe(state: State) -> &'static str {
    match state {
        State::Kept => "base",
        State::Exact { once: true, .. } => "exact",
        State::Exact { .. } => "exact, two roundings",
        State::Near => "within rounding",
        State::Quantised => "within quantisation",
        State::Scaled(_) => "wrong scale",
        State::Missing => "base: delta missing",
        State::Other => "something else",
        State::Changed => "not the base's",
        State::NonFinite => "not finite",
        State::Unjudged => "cannot be judged",
        State::Reshaped => "of another shape",
        State::Absent => "not there",
        State::Extra => "not in the base",
    }
}
