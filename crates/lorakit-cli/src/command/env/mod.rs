//! `lorakit env`: what a bug report needs to say about the machine. No names of hosts, users or folders.

mod machine;
mod variables;

use std::fmt::Write as _;
use std::io::{IsTerminal, stderr, stdout};

use lorakit_tensor::ReadMode;
use serde::Serialize;

use super::about::{COMMIT, VERSION};
use super::planned::thread_count;
use crate::args::Common;
use crate::error::Failure;
use crate::hub;
use crate::ui::Ui;
use crate::units;
use machine::{Limits, Memory, Processor};
use variables::Variable;

#[derive(Serialize)]
struct Environment {
    version: &'static str,
    commit: Option<&'static str>,
    build: &'static str,
    target: String,
    processor: Processor,
    threads: usize,
    memory: Memory,
    limits: Limits,
    reads: &'static str,
    hub_cache: bool,
    terminal: Terminal,
    variables: Vec<Variable>,
}

#[derive(Serialize)]
struct Terminal {
    stdout: bool,
    stderr: bool,
}

/// The name of the processor.
pub(crate) fn processor() -> Option<String> {
    Processor::here().model
}

pub(crate) fn run(common: &Common, ui: &Ui) -> Result<(), Failure> {
    let environment = Environment {
        version: VERSION,
        commit: COMMIT,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        target: machine::target(),
        processor: Processor::here(),
        threads: thread_count(common.threads),
        memory: Memory::here(),
        limits: Limits::here(),
        reads: match common.read_mode() {
            ReadMode::Positioned => "positioned",
            _ => "mapped",
        },
        hub_cache: hub::has_cache(),
        terminal: Terminal { stdout: stdout().is_terminal(), stderr: stderr().is_terminal() },
        variables: variables::set(),
    };
    if ui.json { ui.json("lorakit.env/1", environment) } else { ui.result(&environment.text()) }
}

impl Environment {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<12} {value}");
        };
        let or_none = |value: Option<u64>| value.map_or("no limit".into(), |n| n.to_string());
        row("lorakit", format!("{} ({} build)", self.version, self.build));
        row("commit", self.commit.unwrap_or("not recorded in this build").into());
        row("target", self.target.clone());
        row("processor", self.processor.model.clone().unwrap_or("unknown".into()));
        row("features", self.processor.features.join(" "));
        row("vector code", self.processor.vector_code.into());
        let cores = self.processor.cores;
        row("threads", format!("{} of {}", self.threads, units::plural(cores, "usable core")));
        row("memory", self.memory.text());
        row("page size", format!("{} bytes", self.limits.page_size));
        row("open files", or_none(self.limits.open_files));
        row("addresses", self.limits.address_space.map_or("no limit".into(), units::size));
        row("inputs", format!("{} (--no-mmap reads by position)", self.reads));
        row("hub cache", if self.hub_cache { "found" } else { "none" }.into());
        row("terminal", if self.terminal.stderr { "yes" } else { "no" }.into());
        for (at, variable) in self.variables.iter().enumerate() {
            row(if at == 0 { "variables" } else { "" }, variable.text());
        }
        if self.variables.is_empty() {
            row("variables", "none of those that lorakit reads".into());
        }
        text
    }
}
