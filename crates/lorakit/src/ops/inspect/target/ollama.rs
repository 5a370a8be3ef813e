//! Ollama, which takes adapters with `ADAPTER` in a Modelfile: `convert/convert_llama_adapter.go`.

use super::case::Case;
use super::program::Program;

/// Ollama.
pub(super) const OLLAMA: Program = Program {
    id: "ollama",
    aliases: &[],
    title: "Ollama",
    about: "GGUF files, named in a Modelfile",
    format: "gguf",
    ask,
};

fn ask(case: &mut Case<'_>) {
    case.gguf(
        "Ollama needs a GGUF file (what it makes of folders has the wrong factor of q and k reordered, and neither \
         rsLoRA nor patterns)",
    );
}
