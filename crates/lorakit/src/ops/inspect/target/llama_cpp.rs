//! llama.cpp, which takes adapters with `--lora`: `src/llama-adapter.cpp`.

use super::case::Case;
use super::program::Program;

/// llama.cpp.
pub(super) const LLAMA_CPP: Program = Program {
    id: "llama.cpp",
    aliases: &["llama-cpp"],
    title: "llama.cpp",
    about: "GGUF files, beside a GGUF model",
    format: "gguf",
    ask,
};

fn ask(case: &mut Case<'_>) {
    case.gguf("llama.cpp loads adapters as GGUF files");
}
