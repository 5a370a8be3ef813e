//! Whether entries keep a policy.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::entry::{Entry, EntryKind, place};
use super::policy::Policy;
use super::rules::{Forbidden, Rules};
use crate::choice::choices;
use crate::{Finding, Severity, units};

/// The severity of findings from which on an audit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailOn {
    /// Warnings and errors.
    Warning,
    /// Errors.
    Error,
}

choices! { FailOn {
    Warning = "warning", "warnings and errors";
    Error = "error", "errors";
} }

impl FailOn {
    fn severity(self) -> Severity {
        match self {
            FailOn::Warning => Severity::Warning,
            FailOn::Error => Severity::Error,
        }
    }
}

/// A rule that an entry does not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where the entry is, as in [`Entry`].
    #[serde(serialize_with = "crate::report::path")]
    pub root: PathBuf,
    /// The path in it.
    #[serde(serialize_with = "crate::report::path")]
    pub path: PathBuf,
    /// The key of the policy, e.g. `rank.max`; `fail-on` for a limit that was given without a policy.
    pub rule: &'static str,
    /// What was found, for people.
    pub found: String,
    /// What is allowed, for people.
    pub allowed: String,
}

impl Violation {
    /// Where the entry is: the root and the path in it.
    pub fn place(&self) -> PathBuf {
        place(&self.root, &self.path)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, allowed {}", self.rule, self.found, self.allowed)
    }
}

/// The rules that `entries` do not keep, in the order of the entries.
pub fn judge(entries: &[Entry], policy: Option<&Policy>, fail_on: Option<FailOn>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for entry in entries {
        let mut add = |rule, found: String, allowed: String| {
            let (root, path) = (entry.root.clone(), entry.path.clone());
            violations.push(Violation { root, path, rule, found, allowed });
        };
        if let Some(policy) = policy {
            of_entry(entry, &policy.0, &mut add);
        }
        if let Some(fail_on) = fail_on {
            let forbidden = [Forbidden::Severity(fail_on.severity())];
            for finding in first_of_each(entry) {
                if let Some(allowed) = refused(finding, &forbidden, &[]) {
                    add("fail-on", show(finding), allowed);
                }
            }
        }
    }
    violations
}

fn of_entry(entry: &Entry, rules: &Rules, add: &mut dyn FnMut(&'static str, String, String)) {
    // What cannot be read has no format, no base and no rank: the finding says why.
    let is_read = entry.format.is_some();
    let is_adapter = entry.kind == EntryKind::Adapter && is_read;
    if let Some(bases) = rules.bases.as_ref().filter(|_| is_adapter) {
        match &entry.base {
            Some(base) if bases.iter().any(|glob| glob.matches(base)) => {}
            Some(base) => add("bases", format!("`{base}`"), list(bases)),
            None => add("bases", "none named".into(), list(bases)),
        }
    }
    if let (Some(formats), Some(format)) = (&rules.formats, &entry.format)
        && !formats.contains(format)
    {
        add("formats", format!("`{format}`"), list(formats));
    }
    if let Some(licenses) = rules.licenses.as_ref().filter(|_| is_read) {
        let refused = |license: &&String| !licenses.iter().any(|glob| glob.matches(license));
        if entry.licenses.is_empty() {
            add("licenses", "none stated".into(), list(licenses));
        }
        for license in entry.licenses.iter().filter(refused) {
            add("licenses", format!("`{license}`"), list(licenses));
        }
    }
    if let Some(most) = rules.max_size.filter(|most| entry.bytes > *most) {
        add("max-size", units::size(entry.bytes), format!("at most {}", units::size(most)));
    }
    // An adapter without modules has no rank to limit.
    if let Some(rank) = entry.rank {
        if let Some(min) = rules.rank_min.filter(|min| rank.min < *min) {
            add("rank.min", rank.min.to_string(), format!("at least {min}"));
        }
        if let Some(max) = rules.rank_max.filter(|max| rank.max > *max) {
            add("rank.max", rank.max.to_string(), format!("at most {max}"));
        }
    }
    // Errors say that it cannot be used, so no policy allows them unless it names them.
    let errors = [Forbidden::Severity(Severity::Error)];
    for finding in first_of_each(entry) {
        let refused = refused(finding, &rules.forbidden, &rules.allowed)
            .or_else(|| refused(finding, &errors, &rules.allowed));
        if let Some(allowed) = refused {
            add("findings", show(finding), allowed);
        }
    }
}

/// One finding of each name.
fn first_of_each(entry: &Entry) -> impl Iterator<Item = &Finding> {
    let mut seen = BTreeSet::new();
    entry.findings.iter().filter(move |finding| seen.insert(finding.code))
}

/// What would be allowed instead of `finding`, if it is forbidden.
fn refused(finding: &Finding, forbidden: &[Forbidden], allowed: &[&'static str]) -> Option<String> {
    if forbidden.contains(&Forbidden::Name(finding.code)) {
        return Some(format!("anything but `{}`", finding.code));
    }
    let limit = forbidden.iter().filter_map(|one| match one {
        Forbidden::Severity(severity) => Some(*severity),
        Forbidden::Name(_) => None,
    });
    let limit = limit.min().filter(|limit| finding.severity >= *limit && !allowed.contains(&finding.code))?;
    let below = match limit {
        Severity::Note => "no findings",
        Severity::Warning => "notes",
        Severity::Error => "notes and warnings",
    };
    match allowed {
        [] => Some(below.into()),
        names => Some(format!("{below}, and {}", list(names))),
    }
}

fn show(finding: &Finding) -> String {
    match finding.code {
        // Its name says little.
        "unreadable" => format!("`{}` ({}): {}", finding.code, finding.severity, finding.message),
        _ => format!("`{}` ({})", finding.code, finding.severity),
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}
