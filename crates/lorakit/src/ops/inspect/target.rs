//! Whether a runtime takes an adapter as it is, and if not, why, and what to type then.
//!
//! The adapter format knows what a runtime can hold: its writer is asked. The rules beyond that are in one module per
//! runtime, which is one line of [`RUNTIMES`].

mod case;
mod diffusers;
#[cfg(test)]
mod dummy;
mod llama_cpp;
mod mlx;
mod ollama;
mod peft;
mod program;
mod sglang;
#[cfg(test)]
mod tests;
mod tgi;
mod vllm;

use std::fmt;

use crate::adapter::{Adapter, format};
use crate::{Base, Choice, Severity};
use case::Case;
pub use case::Verdict;
use program::Program;

/// A program that loads adapters.
#[derive(Clone, Copy)]
pub struct Runtime(&'static Program);

/// Every runtime.
const RUNTIMES: &[Runtime] = &[
    Runtime(&vllm::VLLM),
    Runtime(&sglang::SGLANG),
    Runtime(&llama_cpp::LLAMA_CPP),
    Runtime(&ollama::OLLAMA),
    Runtime(&tgi::TGI),
    Runtime(&peft::PEFT),
    Runtime(&mlx::MLX),
    Runtime(&diffusers::DIFFUSERS),
    #[cfg(test)]
    Runtime(&dummy::DUMMY),
];

impl Choice for Runtime {
    fn all() -> &'static [Self] {
        RUNTIMES
    }

    fn name(self) -> &'static str {
        self.0.id
    }

    fn aliases(self) -> &'static [&'static str] {
        self.0.aliases
    }

    fn about(self) -> &'static str {
        self.0.about
    }
}

impl Runtime {
    /// Its name, as its authors write it.
    pub fn title(self) -> &'static str {
        self.0.title
    }

    /// Whether adapters are converted for it to a format that drops what the base already has.
    pub(super) fn drops_copies(self) -> bool {
        format::by_name(self.0.format).is_some_and(|format| !format.packs_experts())
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Runtime {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Runtime {}

/// Whether a runtime takes an adapter.
#[derive(Debug, Clone)]
pub struct TargetReport {
    /// The runtime.
    pub runtime: Runtime,
    /// Why it does not, or what to know, gravest first.
    pub verdicts: Vec<Verdict>,
}

impl TargetReport {
    /// Whether nothing is in the way.
    pub fn is_accepted(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.severity < Severity::Error)
    }
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
    if adapter.config.is_olora() && runtime.0.id != peft::PEFT.id {
        let reason = "it was initialised with OLoRA, whose initial product only PEFT takes out of the base";
        case.merge("mutated-base", reason.into());
    }
    (runtime.0.ask)(&mut case);
    case.verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.severity));
    TargetReport { runtime, verdicts: case.verdicts }
}
