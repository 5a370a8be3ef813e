//! An evaluation for people: a table for each kind of figure, then the verdicts.

use std::fmt::Write as _;

use lorakit_train::eval::{
    Candidate, Evaluation, Forgetting, Interval, Kind, Losses, Outcome, Spread, Unit, Verdict,
};

use crate::table::{print_table, table};
use crate::ui::{bad, good};
use crate::{names, units};

/// Names of broken items that are listed without `--verbose`.
const MOST: usize = 10;

/// The report as text.
pub(super) fn render(found: &Evaluation, verbose: bool) -> String {
    let mut text = data(found);
    losses(&mut text, found);
    answers(&mut text, found);
    general(&mut text, found);
    regression(&mut text, found, verbose);
    sweeps(&mut text, found);
    nulls(&mut text, found);
    verdicts(&mut text, found);
    text
}

fn data(found: &Evaluation) -> String {
    let files: Vec<String> = found.data.files.iter().map(|file| format!("`{}`", names::path(file))).collect();
    let base = found.candidates.first().map_or("", |base| base.form.as_str());
    format!(
        "{} of {}, {} tokens count; the base is held in {base}\n",
        units::plural(found.data.judged, "row"),
        files.join(", "),
        found.data.tokens,
    )
}

/// What a candidate is called in a table.
fn name(candidate: &Candidate) -> String {
    let weight = candidate.weight.filter(|weight| *weight != 1.0);
    let weight = weight.map_or(String::new(), |weight| format!("={weight}"));
    format!("{}{weight}", names::shown(&candidate.name))
}

/// What the others are compared with.
fn baseline(found: &Evaluation) -> String {
    found.candidates.get(found.baseline).map_or(String::new(), name)
}

fn losses(text: &mut String, found: &Evaluation) {
    let bytes = found.candidates.iter().any(|candidate| candidate.held_out.unit == Unit::BitsPerByte);
    let mut header = vec!["held-out answers", "loss", "perplexity"];
    if bytes {
        header.push("bits/byte");
    }
    header.extend(["difference", "95 % interval"]);
    let mut rows = table(&header);
    for candidate in &found.candidates {
        let Losses { loss, perplexity, bits_per_byte, difference, .. } = &candidate.held_out;
        let mut row = vec![name(candidate), format!("{loss:.4}"), number(*perplexity)];
        if bytes {
            row.push(bits_per_byte.map_or("-".into(), |bits| format!("{bits:.4}")));
        }
        row.extend(interval(*difference));
        rows.add_row(row);
    }
    let _ = writeln!(text);
    print_table(text, &rows);
    let unit = if bytes { "nats per token, or bits per byte where tokens differ" } else { "nats per token" };
    let _ = writeln!(text, "  difference: to `{}`, in {unit}", baseline(found));
}

/// A mean and its interval, in two cells.
fn interval(difference: Option<Interval>) -> [String; 2] {
    let Some(Interval { mean, low, high }) = difference else { return ["-".into(), "-".into()] };
    let ends = low.zip(high).map_or("-".into(), |(low, high)| format!("{low:+.4} to {high:+.4}"));
    [format!("{mean:+.4}"), ends]
}

fn answers(text: &mut String, found: &Evaluation) {
    let Some(first) = found.candidates.iter().find_map(|candidate| candidate.answers.as_ref()) else {
        return;
    };
    let checks: Vec<String> =
        first.checks.iter().map(|check| names::shown(&check.check).into_owned()).collect();
    let mut header = vec!["answers", "exact", "JSON"];
    header.extend(checks.iter().map(String::as_str));
    header.extend(["stopped", "tokens", "better, worse", "p"]);
    let mut rows = table(&header);
    for candidate in &found.candidates {
        let Some(answers) = &candidate.answers else { continue };
        let of = |count: usize| format!("{count}/{}", answers.rows);
        let mut row = vec![name(candidate), of(answers.exact), of(answers.json)];
        row.extend(answers.checks.iter().map(|check| of(check.passed)));
        row.extend([of(answers.stopped), format!("{:.1}", answers.mean_tokens)]);
        row.extend(match answers.exact_against {
            Some(against) => [format!("{}, {}", against.better, against.worse), probability(against.p)],
            None => ["-".into(), "-".into()],
        });
        rows.add_row(row);
    }
    let _ = writeln!(text);
    print_table(text, &rows);
}

fn probability(p: f64) -> String {
    if p < 1e-4 { "< 1e-4".into() } else { format!("{p:.4}") }
}

fn general(text: &mut String, found: &Evaluation) {
    let Some(about) = &found.general else { return };
    let mut rows = table(&["general text", "loss", "forgetting", "95 % interval", "divergence", ""]);
    for candidate in &found.candidates {
        let Some(Forgetting { loss, forgetting, divergence, flagged, .. }) = &candidate.general else {
            continue;
        };
        let [mean, ends] = interval(*forgetting);
        let divergence = divergence.map_or("-".into(), |nats| format!("{nats:.4}"));
        let flag = if *flagged { "forgets" } else { "" };
        rows.add_row([name(candidate), format!("{loss:.4}"), mean, ends, divergence, flag.into()]);
    }
    let _ = writeln!(text);
    print_table(text, &rows);
    let _ = writeln!(
        text,
        "  {} tokens of {}; flagged above {} nats per token",
        about.tokens,
        about
            .file
            .as_deref()
            .map_or("the text that comes along".into(), |file| format!("`{}`", names::path(file))),
        about.threshold,
    );
}

fn regression(text: &mut String, found: &Evaluation, verbose: bool) {
    let mut lists = String::new();
    let mut rows = table(&["regression items", "pass", "newly broken", "newly fixed", "must, and fail"]);
    for candidate in &found.candidates {
        let Some(regression) = &candidate.regression else { return };
        rows.add_row([
            name(candidate),
            format!("{}/{}", regression.passed, regression.items),
            regression.newly_broken.len().to_string(),
            regression.newly_fixed.len().to_string(),
            regression.must_failed.len().to_string(),
        ]);
        for (what, items) in
            [("broke", &regression.newly_broken), ("must pass, and fail", &regression.must_failed)]
        {
            if items.is_empty() || candidate.kind == Kind::Base {
                continue;
            }
            let most = if verbose { items.len() } else { MOST };
            let shown: Vec<String> =
                items.iter().take(most).map(|item| format!("`{}`", names::shown(item))).collect();
            let more = items.len().saturating_sub(most);
            let more =
                if more > 0 { format!(" and {more} more (all with `--verbose`)") } else { String::new() };
            let _ = writeln!(lists, "  {}: {what}: {}{more}", name(candidate), shown.join(", "));
        }
    }
    let _ = writeln!(text);
    print_table(text, &rows);
    *text += &lists;
}

fn sweeps(text: &mut String, found: &Evaluation) {
    for sweep in &found.sweeps {
        let Some(candidate) = found.candidates.get(sweep.candidate) else { continue };
        let own = name(candidate);
        let title = format!("{own} at");
        let mut rows = table(&[title.as_str(), "held-out loss", "general loss", "divergence"]);
        for point in &sweep.points {
            let optional = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
            let loss = format!("{:.4}", point.loss);
            rows.add_row([
                point.scale.to_string(),
                loss,
                optional(point.general),
                optional(point.divergence),
            ]);
        }
        let _ = writeln!(text);
        print_table(text, &rows);
    }
}

fn nulls(text: &mut String, found: &Evaluation) {
    for null in &found.nulls {
        let Some(candidate) = found.candidates.get(null.candidate) else { continue };
        let title = format!("{} among {} random ones", name(candidate), null.draws);
        let mut rows = table(&[title.as_str(), "its own", "their mean", "deviation", "z"]);
        let general = candidate.general.as_ref();
        for (what, own, spread) in [
            ("held-out loss", Some(candidate.held_out.loss), null.loss),
            ("general loss", general.map(|general| general.loss), null.general),
            ("divergence", general.and_then(|general| general.divergence), null.divergence),
        ] {
            let (Some(own), Some(Spread { mean, deviation, z })) = (own, spread) else { continue };
            let z = z.map_or("-".into(), |z| format!("{z:+.1}"));
            rows.add_row([what.into(), format!("{own:.4}"), format!("{mean:.4}"), number(deviation), z]);
        }
        let _ = writeln!(text);
        print_table(text, &rows);
    }
}

fn verdicts(text: &mut String, found: &Evaluation) {
    let judged: Vec<(&Candidate, &Verdict)> = found
        .candidates
        .iter()
        .filter_map(|candidate| Some((candidate, candidate.verdict.as_ref()?)))
        .collect();
    if judged.is_empty() {
        return;
    }
    let _ = writeln!(text);
    for (candidate, verdict) in judged {
        let word = match verdict.outcome {
            Outcome::Improved => good("improved"),
            Outcome::NoSignificantChange => "no significant change".into(),
            Outcome::Regressed => bad("regressed"),
        };
        let forgets = candidate.general.as_ref().is_some_and(|general| general.flagged);
        let reasons: Vec<&str> = verdict
            .worse
            .iter()
            .chain(&verdict.better)
            .map(String::as_str)
            .chain(forgets.then_some("it forgets"))
            .collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
        let _ = writeln!(text, "`{}` {word}{reasons}", name(candidate));
    }
    let _ = writeln!(text, "rule: {}", found.rule);
}

/// A number of any size.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e5 || (size > 0.0 && size < 1e-3) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}
