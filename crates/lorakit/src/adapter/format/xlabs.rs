//! XLabs' adapters of Flux (`x-flux`): read only.
//!
//! Processors of attention blocks hold the factors: those with a 1 are for the image, those with a 2 for the text.
//! Nothing scales them. Source: `src/flux/modules/layers.py` of x-flux, where `DoubleStreamBlockLoraProcessor` adds
//! each product to the output of its layer.

use std::collections::BTreeMap;

use lorakit_tensor::TensorSource;

use super::layers::{add_layers, model_of};
use super::spelling::{Part, Parts};
use super::{AdapterFormat, Draft, DraftOptions, Problem};
use crate::adapter::{Adapter, Files};
use crate::arch::diffusion::Spelling;
use crate::{Base, Finding, Result, Severity};

/// XLabs' format.
#[derive(Debug)]
pub(crate) struct Xlabs;

/// Layers of processors, and the layers of the block to which they belong.
const LAYERS: &[(&str, &str)] = &[
    ("qkv_lora1", "img_attn.qkv"),
    ("qkv_lora2", "txt_attn.qkv"),
    ("proj_lora1", "img_attn.proj"),
    ("proj_lora2", "txt_attn.proj"),
];

impl AdapterFormat for Xlabs {
    fn name(&self) -> &'static str {
        "xlabs"
    }

    fn title(&self) -> &'static str {
        "an adapter of Flux for XLabs' programs"
    }

    fn marks(&self, name: &str, _: &Files) -> bool {
        let name = name.strip_prefix("diffusion_model.").unwrap_or(name);
        let block = ["double_blocks.", "single_blocks."].iter().any(|block| name.starts_with(block));
        block && name.contains(".processor.")
    }

    fn is_written(&self) -> bool {
        false
    }

    fn read(&self, files: &Files, _: Option<&Base>) -> Result<Adapter> {
        let mut adapter = Adapter::empty(self.name(), files);
        let mut modules: BTreeMap<String, Parts> = BTreeMap::new();
        for (index, info) in files.source.tensors().iter().enumerate() {
            match parse(&info.name) {
                Some((module, part)) => drop(modules.entry(module).or_default().insert(part, index)),
                None => {
                    let message = "belongs to a processor whose product is not that of one layer";
                    adapter.findings.push(Finding::new(
                        Severity::Error,
                        "foreign-method",
                        &info.name,
                        message,
                    ));
                }
            }
        }
        if !modules.is_empty() {
            let model = model_of(files, &modules, Spelling::Original, None)?;
            add_layers(files, &mut adapter, &modules, (model, Spelling::Original))?;
        }
        adapter.sort();
        Ok(adapter)
    }

    fn write(&self, _: &Adapter, _: &DraftOptions<'_>) -> Result<Draft> {
        Err(Problem::XlabsOnlyRead.into())
    }
}

/// The original layer of Flux, and which of its factors the tensor is. Processors of single blocks multiply the output
/// of other layers, so their `proj_lora` does not belong to any layer; their `qkv_lora` covers part of one.
fn parse(name: &str) -> Option<(String, Part)> {
    let name = name.strip_prefix("diffusion_model.").unwrap_or(name);
    let (block, rest) = name.split_once(".processor.")?;
    let (layer, factor) = rest.split_once('.')?;
    let part = match factor {
        "down.weight" => Part::Down,
        "up.weight" => Part::Up,
        _ => return None,
    };
    let (_, original) = LAYERS.iter().find(|(own, _)| *own == layer)?;
    block.starts_with("double_blocks.").then(|| (format!("{block}.{original}"), part))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Folder, Stored, read};
    use lorakit_tensor::DType;

    fn pair(name: &str, out: usize) -> [Stored; 2] {
        let up = (0..out).map(|i| i as f32).collect();
        [
            (format!("{name}.down.weight"), DType::BF16, vec![1, 2], vec![1.0, 2.0]),
            (format!("{name}.up.weight"), DType::BF16, vec![out, 1], up),
        ]
    }

    #[test]
    fn processors_are_layers_of_flux() {
        let folder = Folder::new();
        let all = [
            pair("double_blocks.4.processor.qkv_lora1", 6),
            pair("double_blocks.4.processor.proj_lora2", 2),
            pair("double_blocks.11.processor.qkv_lora2", 6),
        ];
        let adapter = read(&folder.file("x.safetensors", &[], &all.concat()), None).unwrap();
        let block = |path: &str| format!("transformer.transformer_blocks.{path}");
        let modules: Vec<_> =
            adapter.modules.iter().map(|m| (m.path.clone(), m.b.values().unwrap())).collect();
        assert_eq!(
            modules,
            [
                (block("4.attn.to_add_out"), vec![0.0, 1.0]),
                (block("4.attn.to_k"), vec![2.0, 3.0]),
                (block("4.attn.to_q"), vec![0.0, 1.0]),
                (block("4.attn.to_v"), vec![4.0, 5.0]),
                (block("11.attn.add_k_proj"), vec![2.0, 3.0]),
                (block("11.attn.add_q_proj"), vec![0.0, 1.0]),
                (block("11.attn.add_v_proj"), vec![4.0, 5.0]),
            ]
        );
        assert!(adapter.format == "xlabs" && adapter.modules.iter().all(|m| m.scale(m.rank()) == 1.0));
    }

    #[test]
    fn processors_of_single_blocks_are_refused() {
        let folder = Folder::new();
        let all = pair("single_blocks.4.processor.proj_lora", 6);
        let adapter = read(&folder.file("x.safetensors", &[], &all), None).unwrap();
        assert_eq!(adapter.check().unwrap_err().detail_lines().len(), 2);
    }
}
