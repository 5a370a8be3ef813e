//! The processor, the memory and the limits of the process.

use std::env::consts::{ARCH, OS};
use std::fs;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::units;

#[derive(Serialize)]
pub(super) struct Processor {
    pub(super) model: Option<String>,
    /// Those that the system lets a program use.
    pub(super) cores: usize,
    pub(super) features: Vec<&'static str>,
    pub(super) vector_code: &'static str,
}

#[derive(Serialize)]
pub(super) struct Memory {
    total: Option<u64>,
    available: Option<u64>,
    /// What the control group of the process may use: a container's limit.
    group_limit: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Limits {
    pub(super) page_size: u64,
    pub(super) open_files: Option<u64>,
    pub(super) address_space: Option<u64>,
}

/// What the program was compiled for, such as `x86_64-linux-gnu`.
pub(super) fn target() -> String {
    let library = match () {
        () if cfg!(target_env = "gnu") => "-gnu",
        () if cfg!(target_env = "musl") => "-musl",
        () => "",
    };
    format!("{ARCH}-{OS}{library}")
}

impl Processor {
    pub(super) fn here() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Processor {
            model: model.map(|(_, name)| name.trim().to_string()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            features: features(),
            vector_code: lorakit::plan::vector_code(),
        }
    }
}

/// The extensions of the instruction set that matter here, of those that the processor has.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look {
        ($($name:tt)*) => {
            $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })*
        };
    }
    look!("sse4.2" "avx" "avx2" "fma" "f16c" "bmi2" "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16");
    found
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look {
        ($($name:tt)*) => {
            $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name); })*
        };
    }
    look!("neon" "fp16" "dotprod" "bf16" "i8mm" "sve" "sve2");
    found
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

impl Memory {
    pub(super) fn here() -> Self {
        let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let row = |name: &str| {
            let line = table.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().split(' ').next()?.parse::<u64>().ok()? * 1024)
        };
        let limit = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        Memory {
            total: row("MemTotal:"),
            available: row("MemAvailable:"),
            group_limit: limit("/sys/fs/cgroup/memory.max"),
        }
    }

    pub(super) fn text(&self) -> String {
        let Some(total) = self.total else { return "unknown".into() };
        let mut text = units::size(total);
        if let Some(available) = self.available {
            text += &format!(", {} available", units::size(available));
        }
        if let Some(limit) = self.group_limit {
            text += &format!(", limited to {}", units::size(limit));
        }
        text
    }
}

impl Limits {
    pub(super) fn here() -> Self {
        Limits {
            page_size: rustix::param::page_size() as u64,
            open_files: getrlimit(Resource::Nofile).current,
            address_space: getrlimit(Resource::As).current,
        }
    }
}
