//! diffusers.

use super::case::Case;
use super::program::Program;
use crate::adapter::Module;

/// diffusers.
pub(super) const DIFFUSERS: Program = Program {
    id: "diffusers",
    aliases: &[],
    title: "diffusers",
    about: "its own folders, and files of sd-scripts",
    format: "diffusers",
    ask,
};

fn ask(case: &mut Case<'_>) {
    const COMPONENTS: &[&str] = &["unet.", "transformer.", "text_encoder"];
    let diffusion = |m: &Module| COMPONENTS.iter().any(|component| m.path.starts_with(component));
    // The transformer of GPT-2 has blocks named `h`.
    let diffusion = |m: &Module| diffusion(m) && !m.path.starts_with("transformer.h.");
    let adapter = case.adapter;
    if adapter.format == "diffusers" && !adapter.modules.is_empty() && !adapter.modules.iter().any(diffusion)
    {
        let reason = "its layers have the names of another program, and no list tells those of diffusers";
        case.refuse("names", reason.into(), None);
        return;
    }
    if !adapter.modules.iter().any(diffusion) {
        case.refuse("model", "it changes no part of a diffusion model".into(), None);
        return;
    }
    let biased = |path: &str| adapter.modules.iter().any(|module| module.path == path);
    let others = adapter.deltas.iter().filter(|delta| !delta.of_bias || !biased(&delta.path)).count();
    if others > 0 {
        let reason = format!("it holds {others} full deltas, which diffusers leaves out");
        case.merge("deltas", reason);
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
