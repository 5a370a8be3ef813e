//! Diffusion models as data: every layer that an adapter can change, with all its names.
//!
//! diffusers, the models' first publications and kohya's sd-scripts use different names for the same layers. kohya's
//! names, in which dots become underscores, can only be read with a list of the layers. A model is one file in
//! `data/diffusion/`, whose rules [`template`] expands.

mod template;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::LazyLock;

use template::{ModelData, Templates};

/// Lists of layers that all models share.
const PARTS: &str = include_str!("../data/diffusion/parts.json");

/// One file per model; among models that names cannot tell apart, the first is taken.
const MODELS: &[&str] = &[
    include_str!("../data/diffusion/sd15.json"),
    include_str!("../data/diffusion/sdxl.json"),
    include_str!("../data/diffusion/flux.json"),
    include_str!("../data/diffusion/flux2.json"),
    include_str!("../data/diffusion/hunyuan_video.json"),
    include_str!("../data/diffusion/wan.json"),
    include_str!("../data/diffusion/qwen_image.json"),
    include_str!("../data/diffusion/z_image.json"),
    #[cfg(test)]
    include_str!("../data/diffusion/dummy.json"),
];

static ALL: LazyLock<Vec<DiffusionModel>> = LazyLock::new(|| {
    let parts = serde_json::from_str(PARTS).expect("built-in data is valid");
    let parse = |text: &&str| {
        let data: ModelData = serde_json::from_str(text).expect("built-in data is valid");
        DiffusionModel::new(data, &parts)
    };
    MODELS.iter().map(parse).collect()
});

/// A diffusion model.
#[derive(Debug)]
pub(crate) struct DiffusionModel {
    /// Its name for people.
    pub(crate) title: String,
    /// The beginning of `ss_base_model_version` in kohya's files.
    pub(crate) versions: Vec<String>,
    /// The `ss_base_model_version` to write.
    pub(crate) version: String,
    /// The `ss_network_module` that trains plain LoRAs on it.
    pub(crate) trainer: String,
    layers: Vec<Layer>,
    /// Sizes of kernels, by the last component of a layer's path.
    kernels: HashMap<String, usize>,
    /// The layer of each name, and if the name stands for only one of its paths, which.
    by_kohya: HashMap<String, (usize, Option<usize>)>,
    by_original: HashMap<String, (usize, Option<usize>)>,
    by_path: HashMap<String, (usize, Option<usize>)>,
}

/// A layer of the original model, which corresponds to one or several layers in diffusers.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Paths in diffusers, e.g. `unet.conv_in`; several if the original model computes them as one.
    pub(crate) paths: Vec<String>,
    /// kohya's name, e.g. `lora_unet_input_blocks_0_0`.
    pub(crate) kohya: String,
    /// The original name, e.g. `input_blocks.0.0`; for layers that have none, the path without its component.
    pub(crate) original: String,
    /// The share of the rows that each of [`Self::paths`] has.
    pub(crate) shares: Vec<usize>,
    /// Whether the two halves of the rows trade places in diffusers (AdaLN: shift and scale).
    pub(crate) swapped: bool,
    /// Outputs and inputs as multiples of the model's width, if they are that in every size of the model.
    size: Option<[usize; 2]>,
}

/// A name, and what is known of the layer that it names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'n> {
    /// The name.
    pub(crate) name: &'n str,
    /// Outputs and inputs of the layer.
    pub(crate) size: Option<(usize, usize)>,
}

impl<'n> From<&'n str> for Named<'n> {
    fn from(name: &'n str) -> Self {
        Named { name, size: None }
    }
}

/// How names of layers are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// kohya's, e.g. `lora_unet_conv_in`.
    Kohya,
    /// The original model's, e.g. `input_blocks.0.0`; for layers that it does not name, paths in diffusers.
    Original,
    /// Paths in diffusers, beginning with the component, e.g. `unet.conv_in`.
    Diffusers,
}

/// The layer for which a name stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// The layer.
    pub(crate) layer: &'a Layer,
    /// Which of its paths the name means, with rows in diffusers' order; `None` if it means the whole layer.
    pub(crate) part: Option<usize>,
}

/// The prefixes that programs put before the names of an original model: ComfyUI's, and PEFT's.
const WRAPPERS: &[&str] = &["base_model.model.", "diffusion_model."];

/// The name of a layer without the prefixes that programs put before it.
pub(crate) fn bare(name: &str) -> &str {
    WRAPPERS.iter().fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name))
}

/// Every known model.
pub(crate) fn models() -> &'static [DiffusionModel] {
    &ALL
}

/// The model that has layers of these names and sizes. `version`, a value of `ss_base_model_version`, decides only
/// among models that have all of them.
///
/// # Errors
/// Returns the model that lacks the fewest of the layers, and the names of those that it lacks.
pub(crate) fn model_of<'n>(
    names: &[Named<'n>],
    spelling: Spelling,
    version: Option<&str>,
) -> Result<&'static DiffusionModel, (&'static DiffusionModel, Vec<&'n str>)> {
    let lacking = |model: &DiffusionModel| -> Vec<&'n str> {
        names.iter().filter(|named| !model.has(named, spelling)).map(|named| named.name).collect()
    };
    // If several models have the names, the model that is meant has most of them as its usual names.
    let unusual = |model: &DiffusionModel| {
        let usual =
            |n: &&Named<'_>| model.find(n.name, spelling).is_some_and(|found| found.layer.kohya == n.name);
        names.len() - names.iter().filter(usual).count()
    };
    // `flux2` begins like `flux`: the longest beginning counts.
    let said = |model: &DiffusionModel| {
        let begins = model.versions.iter().filter(|v| version.is_some_and(|version| version.starts_with(*v)));
        begins.map(String::len).max().unwrap_or_default()
    };
    let rank = |model: &&'static DiffusionModel| {
        let unusual = if spelling == Spelling::Kohya { unusual(model) } else { 0 };
        (lacking(model).len(), Reverse(said(model)), unusual)
    };
    // There is always a first one.
    let best = models().iter().min_by_key(rank).unwrap_or(&ALL[0]);
    let lacking = lacking(best);
    if lacking.is_empty() && !names.is_empty() { Ok(best) } else { Err((best, lacking)) }
}

/// Every model that has layers of these names and sizes.
pub(crate) fn models_of(names: &[Named<'_>], spelling: Spelling) -> Vec<&'static DiffusionModel> {
    let all = |model: &&DiffusionModel| names.iter().all(|named| model.has(named, spelling));
    if names.is_empty() { Vec::new() } else { models().iter().filter(all).collect() }
}

/// Which of `models`, which all have layers of these paths, is meant by them, if their other names differ: the one of
/// which the last block is adapted.
///
/// # Errors
/// Returns the models if the paths do not tell.
pub(crate) fn meant_by<'m>(
    models: &'m [&'static DiffusionModel],
    paths: &[Named<'_>],
) -> Result<&'static DiffusionModel, &'m [&'static DiffusionModel]> {
    let kohya = |model: &'static DiffusionModel| -> Vec<Option<&'static str>> {
        let name =
            |named: &Named<'_>| Some(model.find(named.name, Spelling::Diffusers)?.layer.kohya.as_str());
        paths.iter().map(name).collect()
    };
    match models {
        [first, rest @ ..] if rest.iter().all(|model| kohya(model) == kohya(first)) => Ok(*first),
        _ => {
            let ends =
                |model: &&&DiffusionModel| paths.iter().any(|named| model.is_in_last_block(named.name));
            let mut last = models.iter().filter(ends);
            match (last.next(), last.next()) {
                (Some(only), None) => Ok(*only),
                _ => Err(models),
            }
        }
    }
}

impl DiffusionModel {
    fn new(data: ModelData, common: &Templates) -> Self {
        let mut model = DiffusionModel {
            title: data.title,
            versions: data.versions,
            version: data.version,
            trainer: data.trainer,
            kernels: data.kernels,
            layers: Vec::new(),
            by_kohya: HashMap::new(),
            by_original: HashMap::new(),
            by_path: HashMap::new(),
        };
        for (position, component) in data.components.iter().enumerate() {
            for rule in &component.modules {
                for row in rule.expand(&[&data.parts, common]) {
                    model.add(component, row, position == 0);
                }
            }
        }
        model
    }

    /// Adds a layer and the names by which it is found; layers of the denoiser are also found by their original names.
    fn add(&mut self, component: &template::Component, row: template::Row, denoiser: bool) {
        let index = self.layers.len();
        let underscored = |prefix: &str, path: &str| format!("{prefix}_{}", path.replace('.', "_"));
        for prefix in &component.kohya {
            self.by_kohya.insert(underscored(prefix, &row.other), (index, None));
            for (part, path) in row.paths.iter().enumerate() {
                self.by_kohya.insert(underscored(prefix, path), (index, Some(part)));
            }
        }
        let usual = match row.paths.as_slice() {
            [path] if !component.kohya_as_original => path,
            _ => &row.other,
        };
        let kohya = underscored(component.kohya.first().map_or("lora_unet", String::as_str), usual);
        let paths: Vec<String> = row.paths.iter().map(|path| format!("{}.{path}", component.name)).collect();
        for (part, path) in paths.iter().enumerate() {
            self.by_path.insert(path.clone(), (index, Some(part)));
        }
        if denoiser {
            self.by_original.insert(row.other.clone(), (index, None));
        }
        let template::Row { other: original, shares, swapped, size, .. } = row;
        self.layers.push(Layer { paths, kohya, original, shares, swapped, size });
    }

    /// The layer that is called `name`. Paths in diffusers may lack the denoiser's component, and kohya's names may be
    /// derived from paths in diffusers.
    pub(crate) fn find(&self, name: &str, spelling: Spelling) -> Option<Found<'_>> {
        let found = match spelling {
            Spelling::Kohya => self.by_kohya.get(name),
            Spelling::Original => self.by_original.get(name).or_else(|| self.by_path(name)),
            Spelling::Diffusers => self.by_path(name),
        };
        found.map(|(index, part)| Found { layer: &self.layers[*index], part: *part })
    }

    /// Whether it has the layer that is named, in a size that does not contradict it.
    fn has(&self, named: &Named<'_>, spelling: Spelling) -> bool {
        let Some(Found { layer, part }) = self.find(named.name, spelling) else { return false };
        match (layer.size, named.size) {
            (Some([wide, deep]), Some((outputs, inputs))) if part.is_none() || layer.paths.len() == 1 => {
                outputs * deep == inputs * wide
            }
            _ => true,
        }
    }

    /// Whether no block follows the one in which the layer at `path` is.
    fn is_in_last_block(&self, path: &str) -> bool {
        let mut components: Vec<String> = path.split('.').map(str::to_string).collect();
        let number = components.iter_mut().find_map(|c| Some((c.parse::<usize>().ok()?, c)));
        let Some((number, component)) = number else { return false };
        *component = (number + 1).to_string();
        self.find(&components.join("."), Spelling::Diffusers).is_none()
    }

    fn by_path(&self, name: &str) -> Option<&(usize, Option<usize>)> {
        self.by_path.get(name).or_else(|| {
            let denoiser = self.layers.first()?.paths.first()?.split('.').next()?;
            self.by_path.get(&format!("{denoiser}.{name}"))
        })
    }

    /// The size of the square kernel of the layer at `path`, if it is a convolution.
    pub(crate) fn kernel(&self, path: &str) -> Option<usize> {
        path.rsplit('.').next().and_then(|last| self.kernels.get(last)).copied()
    }
}

#[cfg(test)]
mod tests;
