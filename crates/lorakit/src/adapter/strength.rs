//! Which modules of adapters take part in a sum, and how strongly: block weights.
//!
//! Expressions match some part of a module's path, such as `model.layers.3.self_attn.q_proj`. A tensor that is saved
//! whole belongs to the module of its name: `model.norm.weight` to `model.norm`. Experts that share one module are one.

mod nearest;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use super::{Adapter, NamePattern, Problem, TokenRows};
use crate::arch::names::module_of;
use crate::{Error, Result};

/// Which modules of all adapters of a sum take part, and what their weight is multiplied by.
///
/// ```
/// use lorakit::adapter::Strengths;
///
/// let mut strengths = Strengths::default();
/// strengths.only.push("self_attn".parse()?);
/// strengths.weights.push(r"layers\.[0-9]\.=0.5".parse()?);
/// # Ok::<(), lorakit::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Strengths {
    /// Modules that match none of these are left out, if there are any.
    pub only: Vec<NamePattern>,
    /// Modules that match one of these are left out.
    pub skip: Vec<NamePattern>,
    /// What the weights of matching modules are multiplied by. If several match, all multiply.
    pub weights: Vec<BlockWeight>,
}

/// A factor for the weight of all modules that match an expression.
#[derive(Debug, Clone)]
pub struct BlockWeight {
    /// Which modules.
    pub pattern: NamePattern,
    /// The factor, which is finite. At 0, modules are left out.
    pub weight: f64,
}

/// What became of the modules of one adapter.
#[derive(Debug, Clone, Default)]
pub struct Strength {
    /// The modules that are left out, by path.
    pub left_out: Vec<String>,
    /// The modules with a factor of their own other than 1, and the factor.
    pub weighted: Vec<(String, f64)>,
    /// How many of [`Self::weighted`] replace tensors of the base instead of adding to them.
    pub(crate) replacing: usize,
}

impl FromStr for BlockWeight {
    type Err = Error;

    /// Parses `REGEX=WEIGHT`; the last `=` separates.
    fn from_str(text: &str) -> Result<Self> {
        let split = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty());
        let (pattern, weight) = split.ok_or_else(|| Problem::BlockWeight { text: text.to_string() })?;
        let number = weight.trim().parse().ok().filter(|weight: &f64| weight.is_finite());
        let weight = number.ok_or_else(|| Problem::BlockNumber { weight: weight.to_string() })?;
        Ok(BlockWeight { pattern: pattern.parse()?, weight })
    }
}

impl fmt::Display for BlockWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.weight)
    }
}

impl Strengths {
    /// Whether every module takes part as it is.
    pub fn is_empty(&self) -> bool {
        self.only.is_empty() && self.skip.is_empty() && self.weights.is_empty()
    }

    /// The factor for the module at `path`; `None` if it is left out.
    fn of(&self, path: &str) -> Option<f64> {
        let any = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.matches(path));
        if !self.only.is_empty() && !any(&self.only) || any(&self.skip) {
            return None;
        }
        let factors = self.weights.iter().filter(|block| block.pattern.matches(path));
        Some(factors.map(|block| block.weight).product()).filter(|factor| *factor != 0.0)
    }

    /// Leaves modules out of `adapters`, and gives the others their [`Module::strength`](super::Module::strength).
    ///
    /// # Errors
    /// [`ErrorKind::Unmatched`](crate::ErrorKind::Unmatched) for an expression that matches no module;
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a weight that reaches only tensors that have no strength;
    /// [`ErrorKind::Unchanged`](crate::ErrorKind::Unchanged) if nothing of an adapter is left.
    pub(crate) fn apply<'a>(
        &self,
        adapters: impl IntoIterator<Item = &'a mut Adapter>,
    ) -> Result<Vec<Strength>> {
        let mut adapters: Vec<&mut Adapter> = adapters.into_iter().collect();
        if self.is_empty() {
            return Ok(vec![Strength::default(); adapters.len()]);
        }
        self.refuse_idle(&adapters)?;
        adapters.iter_mut().map(|adapter| self.apply_to(adapter)).collect()
    }

    fn apply_to(&self, adapter: &mut Adapter) -> Result<Strength> {
        let mut done = Strength::default();
        let parts = |adapter: &Adapter| {
            let Adapter { modules, saved, deltas, token_rows, multiplied, .. } = adapter;
            modules.len() + saved.len() + deltas.len() + token_rows.len() + multiplied.len()
        };
        let count = parts(adapter);
        let Adapter { modules, saved, deltas, token_rows, multiplied, .. } = adapter;
        modules.retain_mut(|module| {
            let factor = self.of(&module.path);
            module.strength *= factor.unwrap_or(1.0);
            done.note(&module.path, factor, false)
        });
        deltas.retain_mut(|delta| {
            let factor = self.of(&delta.path);
            delta.strength = factor.unwrap_or(1.0);
            done.note(&delta.path, factor, false)
        });
        saved.retain(|saved| {
            let path = module_of_parameter(&saved.name);
            done.note(path, self.of(path), true)
        });
        token_rows.retain(|rows| done.note(&rows.path, self.of(&rows.path), true));
        multiplied.retain(|layer| done.note(&layer.path, self.of(&layer.path), false));
        if parts(adapter) == 0 && count > 0 {
            return Err(Error::from(Problem::NothingLeft { modules: count }).at(&adapter.path));
        }
        Ok(done)
    }

    /// Refuses expressions that have no effect.
    fn refuse_idle(&self, adapters: &[&mut Adapter]) -> Result<()> {
        let paths: Vec<&str> = adapters.iter().flat_map(|adapter| paths(adapter)).collect();
        let patterns = self.only.iter().chain(&self.skip).chain(self.weights.iter().map(|b| &b.pattern));
        for pattern in patterns {
            if !paths.iter().any(|path| pattern.matches(path)) {
                let nearest = nearest::nearest(pattern.as_str(), &paths).unwrap_or_default().to_string();
                let problem = Problem::Idle { pattern: pattern.to_string(), modules: paths.len(), nearest };
                return Err(problem.into());
            }
        }
        let modules = adapters.iter().flat_map(|adapter| adapter.modules.iter().map(|m| m.path.as_str()));
        let deltas = adapters.iter().flat_map(|adapter| adapter.deltas.iter().map(|d| d.path.as_str()));
        let added: Vec<&str> = modules.chain(deltas).collect();
        let whole = |block: &&BlockWeight| {
            block.weight != 0.0 && !added.iter().any(|path| block.pattern.matches(path))
        };
        match self.weights.iter().find(whole) {
            Some(block) => Err(Problem::OnlyWhole { block: block.to_string() }.into()),
            None => Ok(()),
        }
    }

    /// The options that decide bytes, as a record names them; `None` for one that was not given.
    pub(crate) fn recorded(&self) -> [(&'static str, Option<Vec<String>>); 3] {
        let texts = |patterns: &[NamePattern]| patterns.iter().map(ToString::to_string).collect();
        let weights = self.weights.iter().map(ToString::to_string).collect();
        [("only", texts(&self.only)), ("skip", texts(&self.skip)), ("block_weights", weights)]
            .map(|(name, texts): (_, Vec<String>)| (name, Some(texts).filter(|texts| !texts.is_empty())))
    }
}

impl Strength {
    /// Notes the factor of a module that replaces tensors, or adds to them. Whether it takes part.
    fn note(&mut self, path: &str, factor: Option<f64>, replaces: bool) -> bool {
        match factor {
            None if self.left_out.last().is_none_or(|last| last != path) => {
                self.left_out.push(path.to_string());
            }
            Some(factor) if factor != 1.0 => {
                self.weighted.push((path.to_string(), factor));
                self.replacing += usize::from(replaces);
            }
            _ => {}
        }
        factor.is_some()
    }

    /// The factor of the module at `path`, which takes part.
    pub(crate) fn of(&self, path: &str) -> f64 {
        self.weighted.iter().find(|(known, _)| known == path).map_or(1.0, |(_, factor)| *factor)
    }
}

/// The paths of all modules, low-rank or not.
fn paths(adapter: &Adapter) -> impl Iterator<Item = &str> {
    let saved = adapter.saved.iter().map(|saved| module_of_parameter(&saved.name));
    let rows = adapter.token_rows.iter().map(|rows: &TokenRows| rows.path.as_str());
    let deltas = adapter.deltas.iter().map(|delta| delta.path.as_str());
    let multiplied = adapter.multiplied.iter().map(|layer| layer.path.as_str());
    let modules = adapter.modules.iter().map(|module| module.path.as_str());
    modules.chain(saved).chain(deltas).chain(rows).chain(multiplied)
}

/// The module that a parameter belongs to; a parameter of the model itself is its own.
pub(crate) fn module_of_parameter(name: &str) -> &str {
    match module_of(name) {
        "" => name,
        module => module,
    }
}
