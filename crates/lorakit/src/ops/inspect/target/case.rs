//! What the rules of runtimes look at, and the rules that several of them share.

use std::path::Path;

use crate::adapter::format::{self, DraftOptions};
use crate::adapter::{Adapter, Module};
use crate::{Base, Error, ErrorKind, Severity};

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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

/// What the rules look at.
pub(super) struct Case<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) base: Option<&'a Base>,
    pub(super) verdicts: Vec<Verdict>,
}

impl Case<'_> {
    fn add(&mut self, severity: Severity, code: &'static str, reason: String, fix: Option<String>) {
        self.verdicts.push(Verdict { severity, code, reason, fix });
    }

    pub(super) fn refuse(&mut self, code: &'static str, reason: String, fix: Option<String>) {
        self.add(Severity::Error, code, reason, fix);
    }

    pub(super) fn warn(&mut self, code: &'static str, reason: String, fix: Option<String>) {
        self.add(Severity::Warning, code, reason, fix);
    }

    /// Refuses what only merging can cure.
    pub(super) fn merge(&mut self, code: &'static str, reason: String) {
        let fix = format!("`lorakit merge {} {} -o merged`", self.base_path(), quoted(&self.adapter.path));
        self.refuse(code, reason, Some(fix));
    }

    fn base_path(&self) -> String {
        self.base.map_or("BASE".into(), |base| quoted(&base.path))
    }

    /// The command that converts.
    pub(super) fn convert(&self, format: &str) -> String {
        let of = |name: &str| format::by_name(name);
        let output = match of(format).and_then(|format| format.ending()) {
            Some(ending) => format!("adapter.{ending}"),
            None => format!("adapter-{format}"),
        };
        let needed =
            [format, self.adapter.format].iter().any(|name| of(name).is_some_and(|f| f.needs_base()));
        let base = if needed { format!(" --base {}", self.base_path()) } else { String::new() };
        format!("`lorakit convert {} -o {output} --to {format}{base}`", quoted(&self.adapter.path))
    }

    /// The command that moves the scale into the factors, which then is 1 by any rule.
    pub(super) fn folded(&self) -> String {
        format!("`lorakit edit {} -o adapter-folded --fold-alpha`", quoted(&self.adapter.path))
    }

    /// The command that gives all modules one rank and one scale.
    pub(super) fn uniform(&self) -> String {
        format!("`lorakit convert {} -o adapter-uniform --to peft --uniform`", quoted(&self.adapter.path))
    }

    /// Refuses an adapter that is not in `format`; if `format` cannot hold it, says why.
    pub(super) fn needs(&mut self, format: &'static str, reason: &str) {
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

    /// Whether `format` can hold the adapter; if it cannot, the parts are refused one by one.
    pub(super) fn expressible(&mut self, format: &str) -> bool {
        let Some(format) = format::by_name(format).filter(|format| format.is_written()) else { return true };
        let adapter = if format.packs_experts() {
            Ok(self.adapter.clone())
        } else {
            self.adapter.clone().unpacked(self.base)
        };
        let options = DraftOptions { dtype: None, base: self.base };
        match adapter.and_then(|adapter| format.write(&adapter, &options)) {
            Ok(_) => true,
            // Once the command has a base, it will tell.
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

    /// What runtimes that load GGUF files need.
    pub(super) fn gguf(&mut self, reason: &str) {
        self.needs("gguf", reason);
        if self.adapter.format == "gguf" && self.base.is_some() {
            // What is in the file must also fit this base: tied embeddings, layers, experts.
            self.expressible("gguf");
        }
    }

    /// What readers of PEFT folders other than PEFT do not support, and what they compute differently.
    pub(super) fn plain_peft(&mut self, runtime: &str) {
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
            ("deltas", !adapter.deltas.is_empty(), "full deltas of parameters"),
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
            let fix = self.uniform();
            self.refuse("patterns", reason, Some(fix));
        }
        const PREFIX: &str = "base_model.model.";
        let foreign = |name: &str| !name.starts_with(PREFIX) || name.contains(".default.");
        if let Some(tensor) = adapter.tensors().iter().find(|tensor| foreign(&tensor.info().name)) {
            let fix = self.convert("peft");
            let name = tensor.info().name.escape_debug();
            let reason = format!(
                "`{name}` is not a name that {runtime} matches with a module: PEFT writes `{PREFIX}...lora_A.weight`"
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
