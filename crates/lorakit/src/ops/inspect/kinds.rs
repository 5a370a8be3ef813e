//! Modules against their kind: the same layer type over all layers. A fault of one module, or of a few, shows against
//! the median of the others; a fault of all of them does not.
//!
//! The thresholds are far from what trained adapters do; `docs/how-to/audit.md` has the measurements.

use std::collections::HashMap;

use super::traits::Traits;
use super::{ModuleReport, grid};
use crate::adapter::{Adapter, Module, ModuleKind};
use crate::arch::names::is_head;
use crate::{Finding, Severity};

/// The fewest modules that make a kind: the median of three is not moved by one.
const KIND: usize = 3;
/// How many times the median norm is too strong.
const STRONGER: f64 = 10.0;
/// The energy beyond the first direction of a module that has collapsed, and the least that its kind then has.
const COLLAPSED: (f64, f64) = (1e-3, 1e-2);
/// How much fewer rows than its kind carry the energy of a module, and the share of rows below which they are few
/// whatever the kind does.
const FEW_ROWS: (f64, f64) = (0.25, 0.05);
/// Matrices with fewer rows are not asked for [`FEW_ROWS`] without a kind.
const ROWS: usize = 64;
/// Slopes of spectra, in units of the slope of noise: of a module that is noise, and the least that its kind then has.
const FLAT: (f64, f64) = (1.5, 3.0);
/// Ranks below this have too few values for a slope.
const FLAT_RANK: usize = 4;
/// How far apart the magnitudes of `A` and `B` may be, and how much further than those of their kind.
const BALANCE: (f64, f64) = (1e6, 1e3);
/// More findings of one sort are told as one.
const EACH: usize = 8;

/// The findings that compare modules. `traits` are those of the modules, in their order.
pub(super) fn findings(
    adapter: &Adapter,
    reports: &[ModuleReport],
    traits: &[Option<Traits>],
) -> Vec<Finding> {
    let kinds = Kinds::of(adapter, reports, traits);
    let each = |find: fn(&Kinds<'_>, usize) -> Option<Finding>| {
        gathered((0..reports.len()).filter_map(|module| find(&kinds, module)).collect())
    };
    let mut findings = each(stronger);
    findings.extend(each(collapsed));
    findings.extend(each(few_rows));
    findings.extend(flat(&kinds));
    findings.extend(each(unbalanced));
    findings
}

/// What modules of a kind have in common.
#[derive(Clone, Copy)]
enum Value {
    Norm,
    First,
    Rows,
    Slope,
    Balance,
}

impl Value {
    const ALL: [Self; 5] = [Self::Norm, Self::First, Self::Rows, Self::Slope, Self::Balance];

    fn of(self, traits: &Traits) -> f64 {
        match self {
            Self::Norm => traits.norm,
            Self::First => traits.first(),
            Self::Rows => traits.rows / traits.shape.0 as f64,
            Self::Slope => traits.slope() / traits.slope_of_noise(),
            Self::Balance => traits.balance,
        }
    }
}

struct Kinds<'a> {
    modules: &'a [Module],
    reports: &'a [ModuleReport],
    traits: &'a [Option<Traits>],
    /// The kind of each module.
    of: Vec<usize>,
    kinds: Vec<Kind>,
}

/// The modules of a kind whose delta is not zero.
#[derive(Default)]
struct Kind {
    members: Vec<usize>,
    /// Of each [`Value`]; none if there are too few members.
    medians: [Option<f64>; Value::ALL.len()],
}

impl<'a> Kinds<'a> {
    fn of(adapter: &'a Adapter, reports: &'a [ModuleReport], traits: &'a [Option<Traits>]) -> Self {
        let mut places = HashMap::new();
        let mut kinds: Vec<Kind> = Vec::new();
        let mut of = Vec::with_capacity(reports.len());
        for (module, report) in reports.iter().enumerate() {
            let place = *places.entry(kind(&report.path)).or_insert(kinds.len());
            if place == kinds.len() {
                kinds.push(Kind::default());
            }
            if report.norm > Some(0.0) {
                kinds[place].members.push(module);
            }
            of.push(place);
        }
        let mut all = Kinds { modules: &adapter.modules, reports, traits, of, kinds };
        for place in 0..all.kinds.len() {
            all.kinds[place].medians = Value::ALL.map(|value| all.median(&all.kinds[place].members, value));
        }
        all
    }

    fn traits(&self, module: usize) -> Option<&Traits> {
        self.traits[module].as_ref().filter(|traits| traits.norm > 0.0)
    }

    fn median(&self, members: &[usize], value: Value) -> Option<f64> {
        let of_member = |member: &usize| match value {
            // That of what has no traits is known too.
            Value::Norm => self.reports[*member].norm,
            _ => self.traits(*member).map(|traits| value.of(traits)),
        };
        let mut values: Vec<f64> = members.iter().filter_map(of_member).collect();
        values.sort_by(f64::total_cmp);
        if values.len() < KIND { None } else { Some(values[values.len() / 2]) }
    }

    /// The median of `value` over the kind of a module, if there are enough of it.
    fn usual(&self, module: usize, value: Value) -> Option<f64> {
        self.kinds[self.of[module]].medians[value as usize]
    }

    fn path(&self, module: usize) -> &'a str {
        &self.reports[module].path
    }

    /// What a message calls the kind.
    fn name(&self, module: usize) -> String {
        let count = self.kinds[self.of[module]].members.len();
        format!("the {count} `{}`", self.reports[module].leaf)
    }
}

/// What comes before the number of the layer, and after it.
fn kind(path: &str) -> (String, String) {
    grid::place(path).map_or_else(|| (path.to_string(), String::new()), |p| (p.stem.to_string(), p.suffix))
}

/// Many modules with one fault are one finding, about the first of them.
fn gathered(mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() > EACH {
        let more = findings.len() - 1;
        findings.truncate(1);
        findings[0].message += &format!(" (and {more} more modules)");
    }
    findings
}

fn stronger(kinds: &Kinds<'_>, module: usize) -> Option<Finding> {
    let norm = kinds.reports[module].norm?;
    let usual = kinds.usual(module, Value::Norm)?;
    if norm < STRONGER * usual {
        return None;
    }
    let message = format!(
        "its delta has {:.0} times the norm that is usual for its kind ({norm:.3}; the median of {} is {usual:.3}): \
         it may have been scaled, or put in",
        norm / usual,
        kinds.name(module)
    );
    Some(Finding::new(Severity::Warning, "stronger-than-kind", kinds.path(module), message))
}

fn collapsed(kinds: &Kinds<'_>, module: usize) -> Option<Finding> {
    let traits = kinds.traits(module).filter(|traits| traits.directions() > 1)?;
    let usual = kinds.usual(module, Value::First)?;
    if 1.0 - traits.first() >= COLLAPSED.0 || 1.0 - usual < COLLAPSED.1 {
        return None;
    }
    let message = format!(
        "one of its {} directions has all the energy; the strongest has {:.0} % in the median of {}: training may have \
         diverged, or a direction was put in",
        traits.directions(),
        usual * 100.0,
        kinds.name(module)
    );
    Some(Finding::new(Severity::Warning, "collapsed-rank", kinds.path(module), message))
}

fn few_rows(kinds: &Kinds<'_>, module: usize) -> Option<Finding> {
    let traits = kinds.traits(module)?;
    // The rows of these are tokens, of which training sees some more often than others.
    if kinds.modules[module].kind == ModuleKind::Embedding || is_head(kinds.path(module)) {
        return None;
    }
    let all = traits.shape.0;
    let share = Value::Rows.of(traits);
    let usual = kinds.usual(module, Value::Rows);
    let few = usual.is_some_and(|usual| share < FEW_ROWS.0 * usual);
    let fewest = all >= ROWS && share < FEW_ROWS.1;
    if !few && !fewest {
        return None;
    }
    let (half, verb) = (traits.half, if traits.half == 1 { "has" } else { "have" });
    let expected = match usual {
        Some(usual) if few => {
            format!("of {}, the energy is spread over {:.0} rows", kinds.name(module), usual * all as f64)
        }
        _ => "training spreads the energy over most rows".to_string(),
    };
    let message = format!(
        "{half} of its {all} output rows {verb} half the energy; {expected}: single outputs may have been changed on purpose"
    );
    Some(Finding::new(Severity::Warning, "few-rows", kinds.path(module), message))
}

/// Modules that are as flat as noise, those of a layer together.
fn flat(kinds: &Kinds<'_>) -> Vec<Finding> {
    let is_flat = |module: &usize| {
        let traits = kinds.traits(*module).filter(|traits| traits.directions() >= FLAT_RANK)?;
        let usual = kinds.usual(*module, Value::Slope)?;
        (Value::Slope.of(traits) < FLAT.0 && usual > FLAT.1).then_some(())
    };
    let flat: Vec<usize> = (0..kinds.reports.len()).filter(|module| is_flat(module).is_some()).collect();
    let mut layers: Vec<(String, Vec<usize>)> = Vec::new();
    for module in flat {
        let place = grid::place(kinds.path(module));
        let subject = place.map_or(kinds.path(module).to_string(), |p| format!("{}.{}", p.stem, p.layer));
        match layers.last_mut().filter(|(last, _)| *last == subject) {
            Some((_, modules)) => modules.push(module),
            None => layers.push((subject, vec![module])),
        }
    }
    let findings = layers.into_iter().map(|(layer, modules)| {
        let subject = if modules.len() == 1 { kinds.path(modules[0]) } else { &layer };
        let what = match modules.len() {
            1 => "its directions are".to_string(),
            n => format!("in {n} of its modules the directions are"),
        };
        let message = format!(
            "{what} as equally strong as those of noise, and in other layers they are not: it may have been replaced or \
             never trained"
        );
        Finding::new(Severity::Warning, "flat-spectrum", subject, message)
    });
    gathered(findings.collect())
}

fn unbalanced(kinds: &Kinds<'_>, module: usize) -> Option<Finding> {
    let balance = kinds.traits(module)?.balance;
    let usual = kinds.usual(module, Value::Balance);
    let off = |ratio: f64, most: f64| ratio > most || ratio < 1.0 / most;
    if !off(balance, BALANCE.0) && !usual.is_some_and(|usual| off(balance / usual, BALANCE.1)) {
        return None;
    }
    let expected = match usual {
        Some(usual) if off(balance / usual, BALANCE.1) => {
            format!("{usual:.1e} in the median of {}", kinds.name(module))
        }
        _ => "1e-3 to 1e3 is usual".to_string(),
    };
    let message = format!(
        "the values of A are {balance:.1e} times those of B ({expected}): their product is as it would be, but one of \
         them may be lost in 16 bits, and norms of factors mislead"
    );
    Some(Finding::new(Severity::Warning, "unbalanced-factors", kinds.path(module), message))
}
