//! Adapters at the beginning of a training: A random, B zero, so that they change nothing yet.

use std::fmt;

use super::problem::Problem;
use super::random::uniform;
use crate::Result;
use crate::base::layout::{module_name, module_path};
use crate::model::{Adapter, Lora, Shape, Slot};

/// The word for every linear of every layer.
const ALL_LINEAR: &str = "all-linear";

/// Modules that exist, and are not linears of layers.
const ENDS: [&str; 2] = ["embed_tokens", "lm_head"];

/// The largest rank.
const MOST_RANK: usize = 1 << 16;

/// Which linears are trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Targets {
    /// All.
    #[default]
    AllLinear,
    /// Those whose path is one of these or ends with one, as in PEFT: `q_proj`, `mlp.up_proj`,
    /// `model.layers.0.self_attn.q_proj`.
    Named(Vec<String>),
}

/// Which layers are trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Layers {
    /// All.
    #[default]
    All,
    /// So many at the end.
    Last(usize),
    /// Those in these ranges, both ends included, counted from 0.
    Ranges(Vec<(usize, usize)>),
}

/// An adapter that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Fresh {
    /// Which linears.
    pub targets: Targets,
    /// In which layers.
    pub layers: Layers,
    /// The rank.
    pub rank: usize,
    /// The alpha: the scale is `alpha / rank`.
    pub alpha: f64,
    /// Whether the scale is `alpha / sqrt(rank)` (Kalajdzievski 2023).
    pub rslora: bool,
    /// Decides A.
    pub seed: u64,
}

impl Targets {
    /// Targets from their names; `all-linear` among them means all.
    pub fn of<S: AsRef<str>>(names: &[S]) -> Self {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_string()).collect();
        if names.iter().any(|name| name == ALL_LINEAR) { Targets::AllLinear } else { Targets::Named(names) }
    }

    /// For each layer, which of its linears are meant.
    fn slots(&self, layers: usize) -> Result<Vec<[bool; 7]>> {
        let names = match self {
            Targets::AllLinear => return Ok(vec![[true; 7]; layers]),
            Targets::Named(names) if names.is_empty() => return Err(Problem::NoTarget.into()),
            Targets::Named(names) => names,
        };
        let mut found = vec![[false; 7]; layers];
        for name in names {
            let means = |path: &str| {
                path == name || path.strip_suffix(name.as_str()).is_some_and(|p| p.ends_with('.'))
            };
            let mut any = false;
            for (layer, found) in found.iter_mut().enumerate() {
                for slot in Slot::ALL {
                    let meant = means(&module_path("model.", layer, slot));
                    found[slot as usize] |= meant;
                    any |= meant;
                }
            }
            if !any {
                let known = Slot::ALL.map(|slot| last(module_name(slot))).to_vec();
                let name = name.clone();
                let end = ENDS.contains(&last(&name));
                return Err(
                    if end { Problem::End { name, known } } else { Problem::Target { name, known } }.into()
                );
            }
        }
        Ok(found)
    }
}

impl Layers {
    /// Layers from text: `all`, `last:8`, `4-11`, `0,2,5-7`.
    ///
    /// # Errors
    /// `Usage` for another form.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Problem::Layers { text: text.to_string() };
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let text = text.trim();
        if text == "all" {
            return Ok(Layers::All);
        }
        if let Some(count) = text.strip_prefix("last:") {
            return Ok(Layers::Last(number(count)?));
        }
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first <= last { Ok((first, last)) } else { Err(wrong()) }
        };
        Ok(Layers::Ranges(text.split(',').map(range).collect::<std::result::Result<_, Problem>>()?))
    }

    /// Which of `count` layers are meant.
    fn of(&self, count: usize) -> Result<Vec<bool>> {
        let beyond = |layers: &Layers| Problem::Beyond { text: layers.to_string(), layers: count };
        match self {
            Layers::All => Ok(vec![true; count]),
            Layers::Last(last) if *last == 0 || *last > count => Err(beyond(self).into()),
            Layers::Last(last) => Ok((0..count).map(|layer| layer + last >= count).collect()),
            Layers::Ranges(ranges) => {
                if let Some(range) = ranges.iter().find(|(_, last)| *last >= count) {
                    return Err(beyond(&Layers::Ranges(vec![*range])).into());
                }
                let within = |layer| ranges.iter().any(|(first, last)| (*first..=*last).contains(&layer));
                Ok((0..count).map(within).collect())
            }
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = match self {
            Layers::All => return f.write_str("all"),
            Layers::Last(count) => return write!(f, "last:{count}"),
            Layers::Ranges(ranges) => ranges,
        };
        for (at, (first, last)) in ranges.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Fresh {
    /// The factor by which products are multiplied.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// An adapter for a model of that shape: A is uniform between `-1 / sqrt(in)` and `1 / sqrt(in)`, as PEFT's Kaiming
/// initialisation makes it, and B is zero. The seed and the place decide each value, on every machine alike.
///
/// # Errors
/// `Usage` for a name that no linear has, with those that there are, for layers that the model does not have, and for a
/// rank or an alpha that is none.
pub fn fresh(shape: &Shape, wanted: &Fresh) -> Result<Adapter<f32>> {
    let (rank, alpha) = (wanted.rank, wanted.alpha);
    if !(1..=MOST_RANK).contains(&rank) {
        return Err(Problem::Rank { rank }.into());
    }
    if !alpha.is_finite() || alpha == 0.0 {
        return Err(Problem::Alpha { alpha }.into());
    }
    let layers = wanted.layers.of(shape.layers.len())?;
    let slots = wanted.targets.slots(shape.layers.len())?;
    let scale = wanted.scale();
    let lora = |layer: usize, slot: Slot| {
        let (out, inputs) = shape.size(slot);
        let bound = 1.0 / (inputs as f64).sqrt();
        let a =
            uniform(wanted.seed, layer, slot as usize, rank * inputs).map(|x| (x * bound) as f32).collect();
        Lora { scale, a, b: vec![0.0; out * rank] }
    };
    let layer = |layer: usize| {
        Slot::ALL.map(|slot| (layers[layer] && slots[layer][slot as usize]).then(|| lora(layer, slot)))
    };
    let adapter = Adapter { layers: (0..shape.layers.len()).map(layer).collect() };
    if adapter.factors().next().is_none() { Err(Problem::NoTarget.into()) } else { Ok(adapter) }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
