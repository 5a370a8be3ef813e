//! Names with underscores for dots, read with the names of the base: as ComfyUI reads them.

use std::collections::HashMap;

use crate::Base;
use crate::arch::names;

/// The beginnings of names of a denoiser.
const PREFIXES: &[&str] = &["lora_unet_", "lora_transformer_", "lycoris_"];

/// The path in `base` of each of the modules, if all of them are there, and each just once.
pub(super) fn in_base<'n>(base: &Base, modules: impl Iterator<Item = &'n String>) -> Option<Vec<String>> {
    let mut paths: HashMap<String, Option<&str>> = HashMap::new();
    for info in &base.tensors {
        let path = info.name.strip_suffix(".weight").unwrap_or(&info.name);
        let once = |known: &mut Option<&str>| *known = None;
        paths.entry(names::bare(path).replace('.', "_")).and_modify(once).or_insert(Some(path));
    }
    let path = |name: &String| {
        let name = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
        paths.get(name).copied().flatten().map(str::to_string)
    };
    modules.map(path).collect()
}

#[cfg(test)]
mod tests {
    use lorakit_tensor::{DType, TensorInfo};

    use super::*;

    #[test]
    fn all_names_are_in_the_base_once() {
        let names = ["model.diffusion_model.a.b_c.weight", "x.y.weight", "x_y.weight", "a.m", "a.b_c.bias"];
        let info = |name: &&str| TensorInfo { name: name.to_string(), dtype: DType::F32, shape: vec![2, 2] };
        let base = Base { path: "b".into(), config: None, tensors: names.iter().map(info).collect() };
        let of =
            |names: &[&str]| in_base(&base, names.iter().map(ToString::to_string).collect::<Vec<_>>().iter());
        assert_eq!(of(&["lora_unet_a_b_c", "lycoris_a_m"]).unwrap(), ["model.diffusion_model.a.b_c", "a.m"]);
        assert_eq!(of(&["lora_unet_a_b_c", "lora_unet_x_y"]), None);
        assert_eq!(of(&["lora_unet_a_b"]), None);
        assert_eq!(of(&["lora_te_a_b_c"]), None);
    }
}
