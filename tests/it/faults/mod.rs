//! Kills, signals, full disks, inputs that change and limits: the old output or the new one, never anything between.

mod disk;
mod inputs;
mod kills;
mod limits;
mod races;
mod signals;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::support::{Run, Sandbox, entries, unset};
use crate::weights::{Tensor, Weights, noise, write_file};

const LAYERS: usize = 24;
const WIDTH: usize = 1024;

/// A base of 48 MiB and an adapter on all of it; a merge takes long enough to be caught half-way.
fn large(sandbox: &Sandbox) {
    let (base, adapter) = (sandbox.path("base"), sandbox.path("adapter"));
    let square = Tensor::new(Dtype::BF16, &[WIDTH, WIDTH], &noise(1, WIDTH * WIDTH, 0.1));
    let a = Tensor::new(Dtype::F32, &[16, WIDTH], &noise(2, 16 * WIDTH, 0.1));
    let b = Tensor::new(Dtype::F32, &[WIDTH, 16], &noise(3, 16 * WIDTH, 0.1));
    let (mut weights, mut factors) = (Weights::new(), Weights::new());
    for layer in 0..LAYERS {
        let module = format!("model.layers.{layer}.self_attn.q_proj");
        weights.insert(format!("{module}.weight"), square.clone());
        factors.insert(format!("base_model.model.{module}.lora_A.weight"), a.clone());
        factors.insert(format!("base_model.model.{module}.lora_B.weight"), b.clone());
    }
    fs::create_dir(&base).unwrap();
    fs::create_dir(&adapter).unwrap();
    fs::write(base.join("config.json"), "{}").unwrap();
    write_file(&base.join("model.safetensors"), &weights);
    let config = json!({ "peft_type": "LORA", "r": 16, "lora_alpha": 16 });
    fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
    write_file(&adapter.join("adapter_model.safetensors"), &factors);
}

fn start(sandbox: &Sandbox, arguments: &str) -> Child {
    let mut command = sandbox.command();
    command.args(arguments.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The same through a shell that first runs `before`, whose effects the command inherits.
fn start_after(sandbox: &Sandbox, before: &str, arguments: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before}; exec '{}' {arguments}", env!("CARGO_BIN_EXE_lorakit"))]);
    command.current_dir(sandbox.root()).stdout(Stdio::piped()).stderr(Stdio::piped());
    unset(&mut command).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Staged names in `folder`.
fn staged(folder: &Path) -> Vec<String> {
    entries(folder).into_iter().filter(|name| name.ends_with(".partial")).collect()
}

/// Waits until `child` has staged its output in `folder`.
fn wait_for_staging(child: &mut Child, folder: &Path) {
    let start = Instant::now();
    while staged(folder).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without staging anything");
        assert!(start.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(1));
    }
}

fn finish(sandbox: &Sandbox, child: Child) -> Run {
    Run::new(sandbox, &child.wait_with_output().unwrap())
}
