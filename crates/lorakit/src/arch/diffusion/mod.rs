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
    let kohya = |model: &DiffusionModel| -> Vec<Option<&str>> {
        let name =
            |named: &Named<'_>| Some(model.find(named.name, Spelling::Diffusers)?.layer.kohya.as_str());
        paths.iter().map(name).collect()
    };
    match models {
        [first, rest @ ..] if rest.iter().all(|model| kohya(model) == kohya(first)) => Ok(first),
        _ => {
            let ends =
                |model: &&&DiffusionModel| paths.iter().any(|named| model.is_in_last_block(named.name));
            let mut last = models.iter().filter(ends);
            match (last.next(), last.next()) {
                (Some(only), None) => Ok(only),
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
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn model(name: &str) -> &'static DiffusionModel {
        models().iter().find(|model| model.title == name).unwrap()
    }

    fn named<'n>(names: &[&'n str]) -> Vec<Named<'n>> {
        names.iter().copied().map(Named::from).collect()
    }

    #[test]
    fn every_model_has_its_layers() {
        // (model, component, layers of the original model, layers in diffusers)
        let counts = [
            ("Stable Diffusion 1.5", "unet", 391, 391),
            ("Stable Diffusion 1.5", "text_encoder", 96, 96),
            ("Stable Diffusion XL", "unet", 1050, 1050),
            ("Stable Diffusion XL", "text_encoder", 96, 96),
            ("Stable Diffusion XL", "text_encoder_2", 257, 257),
            ("Flux.1", "transformer", 314, 504),
            ("Flux.1", "text_encoder", 96, 96),
            ("Flux.1", "text_encoder_2", 168, 168),
            ("Flux.2", "transformer", 171, 203),
            ("HunyuanVideo", "transformer", 344, 548),
            ("Wan", "transformer", 770, 770),
            ("Qwen-Image", "transformer", 846, 846),
            ("Z-Image", "transformer", 276, 276),
        ];
        for (name, component, original, diffusers) in counts {
            let of = |layer: &&Layer| layer.paths[0].split('.').next() == Some(component);
            let layers: Vec<&Layer> = model(name).layers.iter().filter(of).collect();
            let paths: usize = layers.iter().map(|layer| layer.paths.len()).sum();
            assert_eq!((layers.len(), paths), (original, diffusers), "{name} {component}");
        }
    }

    #[test]
    fn the_attention_of_sd_is_what_kohya_trains() {
        let attention = |name: &str| {
            let inside = |layer: &&Layer| {
                let path = &layer.paths[0];
                path.starts_with("unet.") && path.contains("attentions") && !path.contains(".norm")
            };
            model(name).layers.iter().filter(inside).count()
        };
        assert_eq!((attention("Stable Diffusion 1.5"), attention("Stable Diffusion XL")), (192, 722));
    }

    #[test]
    fn no_two_layers_share_a_name() {
        for model in models() {
            let paths = || model.layers.iter().flat_map(|layer| &layer.paths);
            let kohya: HashSet<&str> = model.layers.iter().map(|layer| layer.kohya.as_str()).collect();
            assert_eq!(kohya.len(), model.layers.len(), "{}", model.title);
            assert_eq!(paths().collect::<HashSet<_>>().len(), paths().count(), "{}", model.title);
            // A name given to two layers would only lead to the later one.
            for layer in &model.layers {
                let found = model.find(&layer.kohya, Spelling::Kohya).unwrap();
                assert_eq!(found.layer.paths, layer.paths);
                for (part, path) in layer.paths.iter().enumerate() {
                    let found = model.find(path, Spelling::Diffusers).unwrap();
                    assert_eq!((&found.layer.kohya, found.part), (&layer.kohya, Some(part)));
                }
            }
        }
    }

    #[test]
    fn spellings_of_a_layer() {
        let path = |model_name, name, spelling| {
            model(model_name)
                .find(name, spelling)
                .map(|found| found.layer.paths[found.part.unwrap_or(0)].as_str())
        };
        use Spelling::{Diffusers, Kohya, Original};
        let cases = [
            (
                "Stable Diffusion XL",
                "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_out_0",
                Kohya,
                "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_out.0",
            ),
            (
                "Stable Diffusion XL",
                "lora_unet_down_blocks_1_attentions_0_proj_in",
                Kohya,
                "unet.down_blocks.1.attentions.0.proj_in",
            ),
            (
                "Stable Diffusion XL",
                "lora_unet_output_blocks_5_2_conv",
                Kohya,
                "unet.up_blocks.1.upsamplers.0.conv",
            ),
            (
                "Stable Diffusion XL",
                "lora_te2_text_model_encoder_layers_31_mlp_fc1",
                Kohya,
                "text_encoder_2.text_model.encoder.layers.31.mlp.fc1",
            ),
            (
                "Stable Diffusion 1.5",
                "input_blocks.3.0.op",
                Original,
                "unet.down_blocks.0.downsamplers.0.conv",
            ),
            (
                "Stable Diffusion 1.5",
                "output_blocks.2.1.conv",
                Original,
                "unet.up_blocks.0.upsamplers.0.conv",
            ),
            (
                "Stable Diffusion 1.5",
                "down_blocks.0.resnets.1.conv2",
                Diffusers,
                "unet.down_blocks.0.resnets.1.conv2",
            ),
            (
                "Flux.1",
                "double_blocks.18.txt_attn.qkv",
                Original,
                "transformer.transformer_blocks.18.attn.add_q_proj",
            ),
            (
                "Flux.1",
                "lora_transformer_single_transformer_blocks_37_proj_mlp",
                Kohya,
                "transformer.single_transformer_blocks.37.proj_mlp",
            ),
            (
                "Flux.1",
                "lora_te3_encoder_block_23_layer_1_DenseReluDense_wo",
                Kohya,
                "text_encoder_2.encoder.block.23.layer.1.DenseReluDense.wo",
            ),
            ("Wan", "blocks.39.cross_attn.v_img", Original, "transformer.blocks.39.attn2.add_v_proj"),
            (
                "Qwen-Image",
                "lora_unet_transformer_blocks_59_img_mlp_net_0_proj",
                Kohya,
                "transformer.transformer_blocks.59.img_mlp.net.0.proj",
            ),
        ];
        for (model, name, spelling, expected) in cases {
            assert_eq!(path(model, name, spelling), Some(expected), "{name}");
        }
    }

    #[test]
    fn names_decide_before_versions() {
        let of = |names: &[&str], version: Option<&str>| {
            let model = model_of(&named(names), Spelling::Kohya, version).map_err(|(model, _)| &model.title);
            model.unwrap().title.as_str()
        };
        let shared = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q";
        assert_eq!(of(&[shared], None), "Stable Diffusion 1.5");
        assert_eq!(of(&[shared], Some("sdxl_base_v1-0")), "Stable Diffusion XL");
        assert_eq!(
            of(&[shared, "lora_te_text_model_encoder_layers_0_mlp_fc1"], Some("Stable Diffusion XL")),
            "Stable Diffusion 1.5"
        );
        assert_eq!(of(&["lora_unet_transformer_blocks_0_attn_to_q"], None), "Qwen-Image");
        assert_eq!(of(&["lora_unet_single_blocks_0_linear1"], None), "Flux.1");
        assert_eq!(of(&["lora_unet_blocks_0_ffn_0"], None), "Wan");
        let (nearest, lacking) =
            model_of(&named(&[shared, "lora_unet_conv_inn"]), Spelling::Kohya, None).unwrap_err();
        assert_eq!((nearest.title.as_str(), lacking), ("Stable Diffusion 1.5", vec!["lora_unet_conv_inn"]));
    }

    #[test]
    fn sizes_decide_where_names_do_not() {
        let of = |names: &[(&'static str, (usize, usize))]| {
            let named: Vec<Named<'_>> =
                names.iter().map(|(name, size)| Named { name, size: Some(*size) }).collect();
            model_of(&named, Spelling::Original, None).map(|model| model.title.as_str()).map_err(|e| e.1)
        };
        let (qkv, first, single) =
            ("double_blocks.0.img_attn.qkv", "double_blocks.0.img_mlp.0", "single_blocks.0.linear1");
        assert_eq!(of(&[(qkv, (192, 64)), (first, (256, 64))]), Ok("Flux.1"));
        assert_eq!(of(&[(qkv, (192, 64)), (first, (384, 64))]), Ok("Flux.2"));
        assert_eq!(of(&[(single, (448, 64))]), Ok("Flux.1"));
        assert_eq!(of(&[(single, (576, 64))]), Ok("Flux.2"));
        assert_eq!(
            of(&[(single, (448, 64)), ("double_blocks.0.img_mlp.fc1", (256, 64))]),
            Ok("HunyuanVideo")
        );
        // Layers of no model, or not of the same one.
        assert_eq!(of(&[(single, (500, 64))]), Err(vec![single]));
        assert_eq!(of(&[(single, (448, 64)), (first, (384, 64))]), Err(vec![first]));
    }

    /// `Dummy` is in `dummy.json` and in one line of the table, and nowhere else.
    #[test]
    fn one_more_model_is_one_file_and_one_line() {
        let names = ["lora_unet_dummy_blocks_1_attn_to_q", "lora_unet_dummy_blocks_0_attn_to_k"];
        let dummy = model_of(&named(&names), Spelling::Kohya, Some("dummy_v1")).unwrap();
        assert_eq!((dummy.title.as_str(), dummy.version.as_str()), ("Dummy", "dummy_v1"));
        assert_eq!(
            dummy.find(names[0], Spelling::Kohya).unwrap().layer.paths,
            ["transformer.dummy_blocks.1.attn.to_q"]
        );
    }

    #[test]
    fn models_have_titles_and_versions_of_their_own() {
        let titles: HashSet<&str> = models().iter().map(|model| model.title.as_str()).collect();
        assert_eq!(titles.len(), models().len());
        for model in models() {
            let own = |version: &&String| model.version.starts_with(version.as_str());
            assert!(model.versions.iter().any(|version| own(&version)), "{}", model.title);
            assert!(model.trainer.starts_with("networks."), "{}", model.title);
        }
    }
}
