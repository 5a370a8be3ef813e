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
