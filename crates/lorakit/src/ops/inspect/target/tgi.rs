//! Text Generation Inference, and LoRAX: `adapters/lora.py`.

use std::path::Path;

use super::case::Case;
use super::program::Program;
use crate::adapter::ModuleKind;

/// TGI.
pub(super) const TGI: Program = Program {
    id: "tgi",
    aliases: &["lorax"],
    title: "TGI",
    about: "PEFT folders of plain LoRA; LoRAX too",
    format: "peft",
    ask,
};

fn ask(case: &mut Case<'_>) {
    let safe = case.adapter.file().and_then(Path::extension).is_some_and(|e| e == "safetensors");
    if case.adapter.format == "peft" && !safe {
        let fix = case.convert("peft");
        case.refuse("container", "TGI reads safetensors only".into(), Some(fix));
    }
    case.needs("peft", "TGI reads PEFT folders");
    case.plain_peft("TGI");
    if case.adapter.modules.iter().any(|module| module.kind == ModuleKind::Embedding) {
        case.merge("embedding", "TGI ignores low-rank embeddings without a word".into());
    }
}
