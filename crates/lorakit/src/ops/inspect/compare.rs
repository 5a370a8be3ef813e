//! An adapter against its base: does every part have a place, and how large is each change.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use lorakit_tensor::{DType, Reader};

use super::norm::norm_sq;
use super::{FitReport, ModuleReport, go_on};
use crate::adapter::Adapter;
use crate::arch::names::{is_tied_on_request, module_of};
use crate::fit::{self, Change, Edit, FitOptions, Resolver};
use crate::plan::{Progress, Stretch, in_order};
use crate::tensor::first_bad;
use crate::{ErrorKind, Finding, Model, Result, Severity, TensorRef};

/// The norm of a delta relative to its weight above which it is told.
const ABOVE: f64 = 1.0;
/// Matrices with fewer rows or columns are not asked for [`ABOVE`].
const NARROW: usize = 192;

/// The outcome of [`with_base`].
pub(super) struct Compared {
    pub fit: FitReport,
    pub findings: Vec<Finding>,
    /// Depth of the base.
    pub layers: Option<usize>,
}

/// Fits the adapter to the base, and enters targets and relative norms in `reports`.
pub(super) fn with_base(
    adapter: &Adapter,
    path: &Path,
    reader: &Reader,
    reports: &mut [ModuleReport],
    progress: &dyn Progress,
) -> Result<Compared> {
    go_on(progress)?;
    let base = Model::open_as_hf(path, reader, None)?;
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    let depth = |name: &&str| base.config.as_ref()?.number(name);
    let layers = ["num_hidden_layers", "n_layer"].iter().find_map(depth).map(|n| n as usize);
    let mut findings = Vec::new();
    let mut fit = FitReport {
        base: path.to_path_buf(),
        misfit: None,
        changed: 0,
        base_tensors: base.tensors().len(),
        tied: view.tied(),
        checked: 0,
        non_finite: 0,
    };
    let edits = match fit::fit_and_say(&view, adapter, FitOptions::default()) {
        Ok((edits, note)) => {
            findings.extend(note);
            edits
        }
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::Unmatched => "unmatched",
                ErrorKind::Ambiguous => "ambiguous",
                ErrorKind::Shape => "shape",
                _ => "misfit",
            };
            for line in error.detail_lines() {
                let (subject, message) = line.split_once("  ").unwrap_or(("", line));
                findings.push(Finding::new(Severity::Error, code, subject, message));
            }
            let message = error.to_string();
            // The report already names the adapter.
            let prefix = format!("`{}`: ", adapter.path.display());
            fit.misfit = Some(message.strip_prefix(&prefix).unwrap_or(&message).to_string());
            return Ok(Compared { fit, findings, layers });
        }
    };
    let mut changed: Vec<&str> = edits.iter().map(|e| e.target.as_str()).collect();
    changed.sort_unstable();
    changed.dedup();
    fit.changed = changed.len();
    findings.extend(tied(&base, &view, adapter, &edits)?);
    findings.extend(read_targets(&base, adapter, &edits, reports, &mut fit, progress)?);
    Ok(Compared { fit, findings, layers })
}

/// A tensor that a merge decodes, and the modules that add to it.
struct Target<'a> {
    name: &'a str,
    weight: TensorRef,
    /// Whether it is the base's; if not, an adapter replaced it.
    of_base: bool,
    /// Values that a module adds to, and its position among the modules.
    ranges: Vec<(Range<usize>, usize)>,
}

/// The result of one pass over the values of a [`Target`].
enum Looked {
    /// The sum of squares of each range; the first NaN or infinity, and how many there are.
    Values(Vec<f64>, Option<(u64, f32)>, u64),
    /// It is stored in a dtype that has no decoder.
    Opaque(DType),
}

/// The tensors that `edits` add to, each once: those of the base, or their replacements. `places` are the positions of
/// the modules, by path.
fn targets<'a>(base: &Model, places: &HashMap<&str, usize>, edits: &'a [Edit]) -> Vec<Target<'a>> {
    let replaced = edits.iter().filter_map(|e| match &e.change {
        Change::Replace(tensor) => Some((e.target.as_str(), tensor)),
        _ => None,
    });
    let replaced: HashMap<&str, &TensorRef> = replaced.collect();
    let mut targets: Vec<Target<'_>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for edit in edits.iter().filter(|edit| !matches!(edit.change, Change::Replace(_))) {
        let name = edit.target.as_str();
        let place = match known.get(name) {
            Some(place) => *place,
            None => {
                let replacement = replaced.get(name).map(|tensor| (*tensor).clone());
                let of_base = replacement.is_none();
                let weight = replacement.or_else(|| Some(base.tensor(edit.base?)));
                let Some(weight) = weight else { continue };
                targets.push(Target { name, weight, of_base, ranges: Vec::new() });
                *known.entry(name).or_insert(targets.len() - 1)
            }
        };
        let module = places.get(edit.origin.as_str());
        if let (Some((rows, cols)), Some(module)) = (covered(edit), module) {
            targets[place].ranges.push((rows.start * cols..rows.end * cols, *module));
        }
    }
    targets
}

impl Target<'_> {
    /// Looks at every value once.
    fn look(&self, progress: &dyn Progress) -> Result<Looked> {
        go_on(progress)?;
        let (mut at, mut sums) = (0, vec![0.0; self.ranges.len()]);
        let (mut first, mut count) = (None, 0);
        let info = self.weight.info();
        let stretch = Stretch::new(progress, info.byte_len());
        let read = self.weight.for_each_piece(|values| {
            for (sum, (range, _)) in sums.iter_mut().zip(&self.ranges) {
                let from = range.start.saturating_sub(at).min(values.len());
                let to = range.end.saturating_sub(at).min(values.len());
                *sum += values.get(from..to).map_or(0.0, norm_sq);
            }
            if let Some((index, value)) = first_bad(values) {
                first.get_or_insert((at as u64 + index, value));
                count += values.iter().filter(|v| !v.is_finite()).count() as u64;
            }
            at += values.len();
            stretch.advance(info.dtype.byte_len(values.len() as u64).unwrap_or(0));
        });
        stretch.finish();
        match read {
            Ok(()) => Ok(Looked::Values(sums, first, count)),
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(Looked::Opaque(self.weight.info().dtype)),
            Err(e) => Err(e),
        }
    }
}

/// Reads what the adapter adds to. For each module, enters `||scale B A|| / ||W||` in `reports`, `W` being everything
/// it is added to; in `fit`, the number of tensors of the base whose values are known. NaN and infinity are findings.
fn read_targets(
    base: &Model,
    adapter: &Adapter,
    edits: &[Edit],
    reports: &mut [ModuleReport],
    fit: &mut FitReport,
    progress: &dyn Progress,
) -> Result<Vec<Finding>> {
    let places: HashMap<&str, usize> =
        adapter.modules.iter().enumerate().map(|(i, module)| (module.path.as_str(), i)).collect();
    for edit in edits {
        if let Some(place) = places.get(edit.origin.as_str()) {
            reports[*place].targets.push(edit.target.clone());
        }
    }
    reports.iter_mut().for_each(|report| report.targets.dedup());
    let targets = targets(base, &places, edits);
    progress.begin(targets.iter().map(|target| target.weight.info().byte_len()).sum());
    let looked = in_order(&targets, |target| target.look(progress))?;
    let mut findings = Vec::new();
    let mut squares = vec![0.0; reports.len()];
    let mut opaque: BTreeSet<usize> = BTreeSet::new();
    let mut dtype = None;
    for (target, looked) in targets.iter().zip(looked) {
        match looked {
            Looked::Opaque(found) => {
                dtype.get_or_insert(found);
                opaque.extend(target.ranges.iter().map(|(_, module)| *module));
            }
            Looked::Values(sums, first, count) => {
                target.ranges.iter().zip(sums).for_each(|((_, module), sum)| squares[*module] += sum);
                fit.checked += usize::from(target.of_base);
                // The adapter's own values are covered by their audit.
                let Some((element, value)) = first.filter(|_| target.of_base) else { continue };
                let message = format!(
                    "{} in the base, with {count} of its {} values NaN or infinite: a merge refuses it",
                    target.weight.what_it_holds(element, value),
                    target.weight.info().elements(),
                );
                findings.push(Finding::new(Severity::Error, "non-finite", target.name, message));
            }
        }
    }
    for (i, (report, square)) in reports.iter_mut().zip(squares).enumerate() {
        let known = square > 0.0 && square.is_finite() && !opaque.contains(&i);
        report.relative = report.norm.filter(|_| known).map(|norm| norm / square.sqrt());
    }
    findings.extend(above(reports));
    if let Some(dtype) = dtype {
        let message = format!(
            "{} modules change tensors stored as {dtype}, which cannot be decoded: no relative norms for them",
            opaque.len()
        );
        findings.push(Finding::new(Severity::Warning, "base-dtype", "", message));
    }
    Ok(findings)
}

/// Deltas larger than what they are added to. In narrow matrices, a rank of 8 is a large part of all directions, and
/// trained deltas are that large.
fn above(reports: &[ModuleReport]) -> Option<Finding> {
    let narrow = |report: &ModuleReport| {
        let inputs = report.a.iter().skip(1).product::<usize>();
        inputs.min(report.b.first().copied().unwrap_or(0)) < NARROW
    };
    let above = |report: &&ModuleReport| report.relative > Some(ABOVE) && !narrow(report);
    let strongest = reports
        .iter()
        .filter(above)
        .max_by(|x, y| x.relative.unwrap_or_default().total_cmp(&y.relative.unwrap_or_default()))?;
    let more = match reports.iter().filter(above).count() - 1 {
        0 => String::new(),
        n => format!(", as are those of {n} more"),
    };
    let message = format!(
        "its delta is larger than the weight that it is added to, {:.0} % of its norm{more}; a few percent are usual: the \
         scale ({}) may be wrong, or the base is another one",
        strongest.relative.unwrap_or_default() * 100.0,
        strongest.scale
    );
    Some(Finding::new(Severity::Warning, "delta-above-weight", &strongest.path, message))
}

/// The rows of its target that a low-rank edit of a weight reaches, and their width; `None` for biases.
fn covered(edit: &Edit) -> Option<(Range<usize>, usize)> {
    let Change::LowRank { terms, .. } = &edit.change else { return None };
    if edit.target.ends_with("bias") {
        return None;
    }
    let start = terms.iter().map(|t| t.rows.start).min()?;
    let end = terms.iter().map(|t| t.rows.end).max()?;
    Some((start..end, terms.first()?.a.cols))
}

/// What a merge does with the tied embeddings of this base.
fn tied(base: &Model, view: &Resolver<'_>, adapter: &Adapter, edits: &[Edit]) -> Result<Option<Finding>> {
    let Some(embedding) = view.embedding().filter(|_| view.tied()) else { return Ok(None) };
    let embed = view.tensors[embedding].name.as_str();
    let head = view.head_name();
    let on = |name: &str| -> Result<Vec<&Edit>> {
        let edits = edits.iter().filter(|e| e.target == name);
        let changes = edits.map(|e| Ok((e, is_frozen_copy(base, e)?))).collect::<Result<Vec<_>>>()?;
        Ok(changes.into_iter().filter(|(_, frozen)| !frozen).map(|(e, _)| e).collect())
    };
    let (input, output) = (on(embed)?, on(&head)?);
    let grown =
        |e: &Edit| matches!(&e.change, Change::Replace(t) if t.info().shape != view.tensors[embedding].shape);
    let stays = |e: &&Edit| matches!(e.change, Change::Rows(..)) || grown(e);
    let declared = adapter.config.ensure_weight_tying && is_tied_on_request(module_of(embed));
    let untie = format!(
        "a merge writes two (`{embed}`, `{head}`) and sets tie_word_embeddings to false; `--tied share` keeps one, and \
         then the change reaches both sides"
    );
    let what = match (input.is_empty(), output.is_empty()) {
        (true, true) => return Ok(None),
        _ if view.head().is_some() => {
            format!("input and output embedding, and stores both: each keeps its own change, {untie}")
        }
        (false, true) if declared || input.iter().all(stays) => {
            "input and output embedding, and they were trained as one: a merge keeps one tensor".into()
        }
        (false, true) => format!("input and output embedding, and only the input side is adapted: {untie}"),
        (true, false) => format!("input and output embedding, and only the output side is adapted: {untie}"),
        (false, false) => {
            format!(
                "input and output embedding, and both are adapted: if the changes are the same one tensor stays, else {untie}"
            )
        }
    };
    Ok(Some(Finding::new(Severity::Warning, "tied-embeddings", "", format!("the base ties {what}"))))
}

/// Whether an edit replaces a weight by the same values, as PEFT's copies of frozen embeddings do.
fn is_frozen_copy(base: &Model, edit: &Edit) -> Result<bool> {
    match (&edit.change, edit.base) {
        (Change::Replace(new), Some(index)) => base.tensor(index).same_values(new),
        _ => Ok(false),
    }
}
