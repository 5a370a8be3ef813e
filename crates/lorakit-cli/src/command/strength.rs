//! Which modules take part in a sum and how strongly, as text.

use std::fmt::Write as _;
use std::path::Path;

use lorakit::adapter::Strength;

/// `, 4 left out, 2 with a weight of their own`: the end of an adapter's description, or nothing.
pub(super) fn counts(strength: &Strength) -> String {
    let mut text = String::new();
    if !strength.left_out.is_empty() {
        let _ = write!(text, ", {} left out", strength.left_out.len());
    }
    if !strength.weighted.is_empty() {
        let _ = write!(text, ", {} with a weight of their own", strength.weighted.len());
    }
    text
}

/// A line for each module that is left out or has a weight of its own, in an adapter of weight `weight`.
pub(super) fn modules(weight: f64, strength: &Strength) -> String {
    let mut text = String::new();
    for (path, own) in &strength.weighted {
        let _ = writeln!(text, "  {path}  weight {}", weight * own);
    }
    for path in &strength.left_out {
        let _ = writeln!(text, "  {path}  left out");
    }
    text
}

/// The same under a line that names the adapter; nothing if all of its modules take part as they are.
pub(super) fn lines(adapter: &Path, weight: f64, strength: &Strength, verbose: bool) -> String {
    let counts = counts(strength);
    let Some(counts) = counts.strip_prefix(", ") else { return String::new() };
    let modules = if verbose { modules(weight, strength) } else { String::new() };
    format!("`{}` (weight {weight}): {counts}\n{modules}\n", adapter.display())
}
