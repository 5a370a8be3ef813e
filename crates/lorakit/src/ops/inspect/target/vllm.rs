//! vLLM: `vllm/lora/peft_helper.py`, `lora_model.py`.

use super::case::Case;
use super::program::Program;
use crate::adapter::{Module, ModuleKind};

/// vLLM.
pub(super) const VLLM: Program = Program {
    id: "vllm",
    aliases: &[],
    title: "vLLM",
    about: "PEFT folders of plain LoRA, up to a rank that it is started for",
    format: "peft",
    ask,
};

/// Ranks that vLLM can be started for; without a flag it takes the one at [`VLLM_DEFAULT`].
const VLLM_RANKS: &[usize] = &[1, 8, 16, 32, 64, 128, 256, 320, 512];
const VLLM_DEFAULT: usize = 16;

fn ask(case: &mut Case<'_>) {
    case.needs("peft", "vLLM reads PEFT folders");
    case.plain_peft("vLLM");
    if case.adapter.modules.iter().any(|module| module.kind == ModuleKind::Embedding) {
        case.warn(
            "embedding",
            "vLLM takes a low-rank embedding only if the vocabulary is the base's".into(),
            None,
        );
    }
    let Some(rank) = case.adapter.modules.iter().map(Module::rank).max() else { return };
    match VLLM_RANKS.iter().find(|allowed| **allowed >= rank) {
        None => {
            let reason =
                format!("its rank is {rank}, and vLLM takes {} at most", VLLM_RANKS[VLLM_RANKS.len() - 1]);
            case.merge("rank", reason);
        }
        Some(allowed) if *allowed > VLLM_DEFAULT => {
            let reason = format!("its rank is {rank}, and vLLM takes {VLLM_DEFAULT} unless told otherwise");
            case.warn("rank", reason, Some(format!("start it with `--max-lora-rank {allowed}`")));
        }
        Some(_) => {}
    }
}
