//! Names of tensors in adapters of diffusion models, which every trainer spells differently.
//!
//! The spellings are those that ComfyUI (`comfy/weight_adapter`), diffusers (`utils/state_dict_utils.py`) and LyCORIS
//! read. A name consists of the module's name and a part's ending.

use std::collections::BTreeMap;

use lorakit_tensor::TensorSource;

use crate::adapter::{Adapter, Files};
use crate::{Finding, Severity};

/// The role of a tensor in its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Down,
    Up,
    Bias,
    Mid,
    Alpha,
    Magnitude,
    HadaW1A,
    HadaW1B,
    HadaW2A,
    HadaW2B,
    HadaT1,
    HadaT2,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT1,
    LokrT2,
    /// A full delta of the weight.
    Diff,
    /// A full delta of the bias.
    DiffBias,
    /// A full delta of the parameter `modulation`, which has no module of its own (LightX2V).
    DiffModulation,
}

/// Endings of names; of two that could match, the longer comes first.
const PARTS: &[(&str, Part)] = &[
    ("_lora.down.weight", Part::Down),
    ("_lora.up.weight", Part::Up),
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_mid.weight", Part::Mid),
    (".lora_A.default.weight", Part::Down),
    (".lora_B.default.weight", Part::Up),
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_B.bias", Part::Bias),
    (".lora_A", Part::Down),
    (".lora_B", Part::Up),
    (".lora_magnitude_vector.default.weight", Part::Magnitude),
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector", Part::Magnitude),
    (".dora_scale", Part::Magnitude),
    (".alpha", Part::Alpha),
    (".hada_w1_a", Part::HadaW1A),
    (".hada_w1_b", Part::HadaW1B),
    (".hada_w2_a", Part::HadaW2A),
    (".hada_w2_b", Part::HadaW2B),
    (".hada_t1", Part::HadaT1),
    (".hada_t2", Part::HadaT2),
    (".lokr_w1", Part::LokrW1),
    (".lokr_w1_a", Part::LokrW1A),
    (".lokr_w1_b", Part::LokrW1B),
    (".lokr_w2", Part::LokrW2),
    (".lokr_w2_a", Part::LokrW2A),
    (".lokr_w2_b", Part::LokrW2B),
    (".lokr_t1", Part::LokrT1),
    (".lokr_t2", Part::LokrT2),
    (".diff", Part::Diff),
    (".w_norm", Part::Diff),
    (".diff_b", Part::DiffBias),
    (".b_norm", Part::DiffBias),
    (".diff_m", Part::DiffModulation),
];

/// Endings of tensors that are not low-rank factors, and what they are.
const FOREIGN: &[(&str, &str)] = &[
    (".set_weight", "replaces a weight"),
    (".reshape_weight", "gives a weight another shape"),
    (".oft_blocks", "belongs to OFT, which is not a plain LoRA"),
    (".oft_diag", "belongs to OFT, which is not a plain LoRA"),
    (".rescale", "belongs to OFT, which is not a plain LoRA"),
    (".a1.weight", "belongs to GLoRA, which is not a plain LoRA"),
    (".a2.weight", "belongs to GLoRA, which is not a plain LoRA"),
    (".b1.weight", "belongs to GLoRA, which is not a plain LoRA"),
    (".b2.weight", "belongs to GLoRA, which is not a plain LoRA"),
    (".bm.weight", "belongs to GLoRA, which is not a plain LoRA"),
    (".on_input", "belongs to IA3, which is not a plain LoRA"),
    (".weight", "replaces a weight, or belongs to IA3"),
    (".bias", "replaces a bias"),
];

/// The tensors of one module.
pub(super) type Parts = BTreeMap<Part, usize>;

/// Splits a name into module and part.
pub(super) fn parse(name: &str) -> Option<(&str, Part)> {
    PARTS.iter().find_map(|(ending, part)| Some((name.strip_suffix(ending)?, *part)))
}

/// Module and part, where a full delta of `modulation`, which is named by what it is in, is one like any other.
pub(super) fn placed(module: &str, part: Part) -> (String, Part) {
    if part != Part::DiffModulation {
        return (module.to_string(), part);
    }
    let dot = if module.contains('.') { '.' } else { '_' };
    (format!("{module}{dot}modulation"), Part::Diff)
}

/// The parts by which a low-rank module is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelled {
    /// `A`.
    A,
    /// `B`, or its bias.
    B,
    /// The alpha, in a tensor of its own.
    Alpha,
}

/// Which of these a tensor of that name is.
pub(crate) fn spelled(name: &str) -> Option<Spelled> {
    match parse(name)?.1 {
        Part::Down => Some(Spelled::A),
        Part::Up | Part::Bias => Some(Spelled::B),
        Part::Alpha => Some(Spelled::Alpha),
        _ => None,
    }
}

/// The name of the module to which a tensor of that name belongs.
pub(crate) fn module_of(name: &str) -> &str {
    parse(name).map_or(name, |(module, _)| module)
}

/// Whether `name` ends like a LoRA factor in kohya's files and older ones.
pub(super) fn is_down_or_up(name: &str) -> bool {
    PARTS[..8].iter().any(|(ending, _)| name.ends_with(ending))
}

/// Collects the tensors by module; `module_of` may change a module's name. A tensor that is not part of a low-rank
/// module becomes a finding of the adapter.
pub(super) fn collect(
    files: &Files,
    adapter: &mut Adapter,
    module_of: impl Fn(&str, Part) -> String,
) -> BTreeMap<String, Parts> {
    let mut modules: BTreeMap<String, Parts> = BTreeMap::new();
    for (index, info) in files.source.tensors().iter().enumerate() {
        let mut fault = |code, message: String| {
            adapter.findings.push(Finding::new(Severity::Error, code, &info.name, message));
        };
        let Some((module, part)) = parse(&info.name) else {
            let foreign = FOREIGN.iter().find(|(ending, _)| info.name.ends_with(ending));
            match foreign {
                Some((_, what)) => fault("foreign-method", (*what).into()),
                None => fault("foreign-method", "is not part of a known low-rank module".into()),
            }
            continue;
        };
        if info.elements() == 0 {
            fault("zero-size-tensor", format!("has no values (shape {:?})", info.shape));
            continue;
        }
        let (module, part) = placed(module, part);
        let module = module_of(&module, part);
        if modules.entry(module.clone()).or_default().insert(part, index).is_some() {
            fault("repeated-key", format!("is a second tensor for the same part of `{module}`"));
        }
    }
    modules
}
