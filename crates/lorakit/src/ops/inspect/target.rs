//! Whether a runtime takes an adapter as it is, why not, and what to type then.
//!
//! What a runtime can hold, its adapter format knows: the writer is asked. Here are the rules beyond that, one
//! function for each runtime (vLLM: `vllm/lora/peft_helper.py`, `lora_model.py`; TGI: `adapters/lora.py`; llama.cpp:
//! `src/llama-adapter.cpp`; Ollama: `convert/convert_llama_adapter.go`).

use std::path::Path;

use lorakit_tensor::TensorSource;

use crate::adapter::format::{self, DraftOptions};
use crate::adapter::{Adapter, Module, ModuleKind};
use crate::{Base, Error, ErrorKind, Severity};

/// A program that loads adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// vLLM.
    Vllm,
    /// llama.cpp: `--lora`.
    LlamaCpp,
    /// Ollama: `ADAPTER` in a Modelfile.
    Ollama,
    /// Text Generation Inference, and LoRAX.
    Tgi,
    /// PEFT.
    Peft,
    /// mlx-lm.
    Mlx,
    /// diffusers.
    Diffusers,
}

impl Runtime {
    /// Every runtime.
    pub const ALL: &[Runtime] = &[
        Runtime::Vllm,
        Runtime::LlamaCpp,
        Runtime::Ollama,
        Runtime::Tgi,
        Runtime::Peft,
        Runtime::Mlx,
        Runtime::Diffusers,
    ];

    /// What it is called in options.
    pub fn id(self) -> &'static str {
        match self {
            Runtime::Vllm => "vllm",
            Runtime::LlamaCpp => "llama.cpp",
            Runtime::Ollama => "ollama",
            Runtime::Tgi => "tgi",
            Runtime::Peft => "peft",
            Runtime::Mlx => "mlx",
            Runtime::Diffusers => "diffusers",
        }
    }

    /// What else it is called there.
    pub fn aliases(self) -> &'static [&'static str] {
        match self {
            Runtime::LlamaCpp => &["llama-cpp"],
            Runtime::Tgi => &["lorax"],
            Runtime::Mlx => &["mlx-lm"],
            _ => &[],
        }
    }

    /// The runtime of that [id](Self::id) or [alias](Self::aliases).
    pub fn from_id(id: &str) -> Option<Self> {
        let is = |runtime: &&Runtime| runtime.id() == id || runtime.aliases().contains(&id);
        Self::ALL.iter().find(is).copied()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Vllm => "vLLM",
            Runtime::LlamaCpp => "llama.cpp",
            Runtime::Ollama => "Ollama",
            Runtime::Tgi => "TGI",
            Runtime::Peft => "PEFT",
            Runtime::Mlx => "mlx-lm",
            Runtime::Diffusers => "diffusers",
        }
    }
}

/// Whether a runtime takes an adapter.
#[derive(Debug, Clone)]
pub struct TargetReport {
    /// The runtime.
    pub runtime: Runtime,
    /// Why it does not, or what to know, gravest first.
    pub verdicts: Vec<Verdict>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// [`Severity::Error`]: it is refused, or would compute something else.
    pub severity: Severity,
    /// A stable name, e.g. `dora`.
    pub code: &'static str,
    /// What is in the way.
    pub reason: String,
    /// What to type, or to do.
    pub fix: Option<String>,
}

impl TargetReport {
    /// Whether nothing is in the way.
    pub fn is_accepted(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.severity < Severity::Error)
    }
}

/// What the rules look at.
struct Case<'a> {
    adapter: &'a Adapter,
    base: Option<&'a Base>,
    verdicts: Vec<Verdict>,
}

/// Asks `runtime`. `faults` is the number of findings that forbid any use; `misfit` says why it does not fit the
/// base.
pub(super) fn report(
    runtime: Runtime,
    adapter: &Adapter,
    base: Option<&Base>,
    faults: usize,
    misfit: Option<&str>,
) -> TargetReport {
    let mut case = Case { adapter, base, verdicts: Vec::new() };
    if let Some(misfit) = misfit {
        case.refuse("base", format!("it does not belong to this base: {misfit}"), None);
    } else if faults > 0 {
        let faults = if faults == 1 { "a fault".into() } else { format!("{faults} faults") };
        case.refuse("faulty", format!("it has {faults}: see the findings"), None);
    }
    match runtime {
        Runtime::Vllm => vllm(&mut case),
        Runtime::LlamaCpp => llama_cpp(&mut case),
        Runtime::Ollama => ollama(&mut case),
        Runtime::Tgi => tgi(&mut case),
        Runtime::Peft => case.needs("peft", "PEFT reads folders of its own format"),
        Runtime::Mlx => case.needs("mlx", "mlx-lm reads folders of its own format"),
        Runtime::Diffusers => diffusers(&mut case),
    }
    case.verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.severity));
    TargetReport { runtime, verdicts: case.verdicts }
}

/// Ranks that vLLM can be started for; without a flag it takes the one at [`VLLM_DEFAULT`].
const VLLM_RANKS: &[usize] = &[1, 8, 16, 32, 64, 128, 256, 320, 512];
const VLLM_DEFAULT: usize = 16;

fn vllm(case: &mut Case<'_>) {
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

fn tgi(case: &mut Case<'_>) {
    let safe = case.adapter.source().path().extension().is_some_and(|e| e == "safetensors");
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

fn llama_cpp(case: &mut Case<'_>) {
    gguf(case, "llama.cpp loads adapters as GGUF files");
}

fn ollama(case: &mut Case<'_>) {
    let reason = "Ollama needs a GGUF file (what it makes of folders has the wrong factor of q and k reordered, and \
                  neither rsLoRA nor patterns)";
    gguf(case, reason);
}

fn gguf(case: &mut Case<'_>, reason: &str) {
    case.needs("gguf", reason);
    if case.adapter.format == "gguf" && case.base.is_some() {
        // What is in the file must also fit this base: tied embeddings, layers, experts.
        case.expressible("gguf");
    }
}

fn diffusers(case: &mut Case<'_>) {
    const COMPONENTS: &[&str] = &["unet.", "transformer.", "text_encoder"];
    let diffusion = |m: &Module| COMPONENTS.iter().any(|component| m.path.starts_with(component));
    // The transformer of GPT-2 has blocks that are called `h`.
    let diffusion = |m: &Module| diffusion(m) && !m.path.starts_with("transformer.h.");
    if !case.adapter.modules.iter().any(diffusion) {
        case.refuse("model", "it changes no part of a diffusion model".into(), None);
        return;
    }
    if let Some(method) = case.adapter.modules.iter().find_map(|module| module.expanded) {
        let reason = format!("it holds {method}, which diffusers does not read");
        let fix = case.convert("diffusers");
        case.refuse("lycoris", reason, Some(fix));
        return;
    }
    if case.adapter.format != "kohya" {
        case.needs("diffusers", "diffusers reads its own format and that of sd-scripts");
    }
}

impl Case<'_> {
    fn add(&mut self, severity: Severity, code: &'static str, reason: String, fix: Option<String>) {
        self.verdicts.push(Verdict { severity, code, reason, fix });
    }

    fn refuse(&mut self, code: &'static str, reason: String, fix: Option<String>) {
        self.add(Severity::Error, code, reason, fix);
    }

    fn warn(&mut self, code: &'static str, reason: String, fix: Option<String>) {
        self.add(Severity::Warning, code, reason, fix);
    }

    /// Refuses what only merging can cure.
    fn merge(&mut self, code: &'static str, reason: String) {
        let fix = format!("`lorakit merge {} {} -o merged`", self.base_path(), quoted(&self.adapter.path));
        self.refuse(code, reason, Some(fix));
    }

    fn base_path(&self) -> String {
        self.base.map_or("BASE".into(), |base| quoted(&base.path))
    }

    /// The command that converts.
    fn convert(&self, format: &str) -> String {
        let output = if format == "gguf" { "adapter.gguf".into() } else { format!("adapter-{format}") };
        // Names and rows of GGUF files mean nothing without their base.
        let turned = |format: &str| matches!(format, "gguf" | "torchtune");
        let base = match turned(format) || turned(self.adapter.format) {
            true => format!(" --base {}", self.base_path()),
            false => String::new(),
        };
        format!("`lorakit convert {} -o {output} --to {format}{base}`", quoted(&self.adapter.path))
    }

    /// Refuses an adapter of another format than `format`, or, if that cannot hold it, says why.
    fn needs(&mut self, format: &'static str, reason: &str) {
        if self.adapter.format == format {
            return;
        }
        if self.expressible(format) {
            let fix = self.convert(format);
            self.refuse(
                "format",
                format!("{reason}, and this is in the format `{}`", self.adapter.format),
                Some(fix),
            );
        }
    }

    /// Whether `format` can hold the adapter; where it cannot, the parts are refused one by one.
    fn expressible(&mut self, format: &str) -> bool {
        let Some(format) = format::by_name(format).filter(|format| format.is_written()) else { return true };
        let adapter = match format.packs_experts() {
            true => Ok(self.adapter.clone()),
            false => self.adapter.clone().unpacked(self.base),
        };
        let options = DraftOptions { dtype: None, base: self.base };
        match adapter.and_then(|adapter| format.write(&adapter, &options)) {
            Ok(_) => true,
            // The base of the command will tell.
            Err(error) if error.kind() == ErrorKind::NeedsBase => true,
            Err(error) => {
                self.parts(&error);
                false
            }
        }
    }

    fn parts(&mut self, error: &Error) {
        if error.detail_lines().is_empty() {
            let message = error.to_string();
            let place = format!("`{}`: ", self.adapter.path.display());
            return self.merge("inexpressible", message.strip_prefix(&place).unwrap_or(&message).to_string());
        }
        for line in error.detail_lines() {
            let reason = match line.split_once("  ") {
                Some((subject, what)) => format!("`{subject}`: {what}"),
                None => line.clone(),
            };
            self.merge("inexpressible", reason);
        }
    }

    /// What readers of PEFT folders other than PEFT have no place for, and what they compute otherwise.
    fn plain_peft(&mut self, runtime: &str) {
        let adapter = self.adapter;
        let any = |is: fn(&Module) -> bool| adapter.modules.iter().any(is);
        let parts = [
            ("dora", any(|m| m.magnitude.is_some()), "DoRA"),
            ("bias", any(|m| m.bias.is_some()), "a trained bias"),
            (
                "saved",
                !adapter.saved.is_empty() || any(|m| m.base_weight.is_some()),
                "parameters saved whole",
            ),
            ("token-rows", !adapter.token_rows.is_empty(), "trained token rows"),
            ("experts", any(Module::is_packed), "experts packed in one module (`target_parameters`)"),
        ];
        for (code, there, what) in parts {
            if there {
                self.merge(code, format!("it has {what}, which {runtime} does not apply"));
            }
        }
        if adapter.format != "peft" {
            return;
        }
        let config = &adapter.config;
        let (r, alpha) = (config.r.unwrap_or(8) as f64, config.alpha.unwrap_or(8.0));
        let one = if config.use_rslora { alpha / r.sqrt() } else { alpha / r };
        let other = |m: &&Module| (m.scale(m.rank()) - one).abs() > 1e-9 * one.abs();
        let others = adapter.modules.iter().filter(|m| !m.is_packed()).filter(other).count();
        if others > 0 {
            let reason = format!(
                "{others} of its {} modules have another scale than {one}, and {runtime} applies that to all: it \
                 ignores rank_pattern and alpha_pattern",
                adapter.modules.len()
            );
            let path = quoted(&self.adapter.path);
            let fix = format!("`lorakit convert {path} -o adapter-uniform --to peft --uniform`");
            self.refuse("patterns", reason, Some(fix));
        }
        const PREFIX: &str = "base_model.model.";
        let foreign = |name: &str| !name.starts_with(PREFIX) || name.contains(".default.");
        if let Some(info) = adapter.source().tensors().iter().find(|info| foreign(&info.name)) {
            let fix = self.convert("peft");
            let name = info.name.escape_debug();
            let reason = format!(
                "`{name}` is no name that {runtime} matches with a module: PEFT writes `{PREFIX}...lora_A.weight`"
            );
            self.refuse("names", reason, Some(fix));
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
