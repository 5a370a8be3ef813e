//! The bar on a terminal.

use std::fs;
use std::process::Child;

use safetensors::tensor::Dtype;
use serde_json::json;
use unicode_width::UnicodeWidthStr;

use super::plain;
use crate::support::Sandbox;
use crate::terminal::Terminal;
use crate::weights::{Tensor, Weights, noise, write_file};

const LAYERS: usize = 6;
const SIZE: usize = 512;
const RANK: usize = 64;

/// Models and adapters of a size that takes a debug build longer than the delay of the bar.
fn large() -> Sandbox {
    let sandbox = Sandbox::new();
    let module = |layer: usize| format!("model.layers.{layer}.self_attn.q_proj");
    for (name, seed) in [("base", 1), ("tuned", 2)] {
        let square = Tensor::new(Dtype::BF16, &[SIZE, SIZE], &noise(seed, SIZE * SIZE, 0.1));
        let weights: Weights =
            (0..LAYERS).map(|layer| (format!("{}.weight", module(layer)), square.clone())).collect();
        fs::create_dir(sandbox.path(name)).unwrap();
        fs::write(sandbox.path(name).join("config.json"), "{}").unwrap();
        write_file(&sandbox.path(name).join("model.safetensors"), &weights);
    }
    for (name, seed) in [("one", 3), ("two", 4)] {
        let a = Tensor::new(Dtype::F32, &[RANK, SIZE], &noise(seed, RANK * SIZE, 0.1));
        let b = Tensor::new(Dtype::F32, &[SIZE, RANK], &noise(seed + 10, RANK * SIZE, 0.1));
        let mut factors = Weights::new();
        for layer in 0..LAYERS {
            let module = format!("base_model.model.{}", module(layer));
            factors.insert(format!("{module}.lora_A.weight"), a.clone());
            factors.insert(format!("{module}.lora_B.weight"), b.clone());
        }
        fs::create_dir(sandbox.path(name)).unwrap();
        let config = json!({ "peft_type": "LORA", "r": RANK, "lora_alpha": RANK });
        fs::write(sandbox.path(name).join("adapter_config.json"), config.to_string()).unwrap();
        write_file(&sandbox.path(name).join("adapter_model.safetensors"), &factors);
    }
    sandbox
}

fn start(sandbox: &Sandbox, terminal: &Terminal, line: &str) -> Child {
    let mut command = sandbox.command();
    command.args(line.split_whitespace()).args(["-t", "1"]);
    terminal.start(command)
}

/// The frames of the bar, and what is left on the screen.
fn frames(text: &str) -> (Vec<String>, String) {
    let mut screen = String::new();
    let mut frames = Vec::new();
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let parts: Vec<String> = line.split(['\r']).map(plain).collect();
        let (last, drawn) = parts.split_last().unwrap();
        frames.extend(drawn.iter().filter(|frame| !frame.is_empty()).cloned());
        screen += last;
        screen += end;
    }
    (frames, screen)
}

#[test]
fn every_long_run_has_one_and_takes_it_off() {
    let sandbox = large();
    let mut drawn = 0;
    for line in [
        "inspect one --norms --spectrum",
        "inspect one --base base",
        "merge base one two -o merged",
        "verify merged --base base --adapter one --adapter two",
        "quantize base -o q.gguf --type Q4_0 --force",
        "convert base -o b.gguf --to gguf --force",
        "convert one -o mlx --to mlx",
        "reduce one -o small --rank 8",
        "combine one=0.5 two -o both",
        "extract base tuned -o back --rank 8",
        "diff base tuned",
        "diff one two",
    ] {
        let terminal = Terminal::new(60);
        let mut child = start(&sandbox, &terminal, line);
        let text = terminal.text();
        child.wait().unwrap();
        let (frames, screen) = frames(&text);
        drawn += frames.len();
        for frame in &frames {
            assert!(frame.width() <= 60, "{line}: {frame}");
            assert!(!frame.contains("0 B/0 B"), "{line}: {frame}");
        }
        assert!(!screen.contains("eta ") && !screen.contains("[="), "{line}: the bar stays\n{screen}");
        assert!(!screen.is_empty(), "{line}");
    }
    assert!(drawn > 0, "no bar was seen");
}

/// On errors, the line of the bar is free before the message.
#[test]
fn an_error_has_its_own_line() {
    let sandbox = large();
    fs::create_dir(sandbox.path("taken")).unwrap();
    fs::write(sandbox.path("taken/file"), "").unwrap();
    for line in ["merge base one -o taken --force", "verify base --base base --adapter one"] {
        let terminal = Terminal::new(80);
        let mut child = start(&sandbox, &terminal, line);
        let text = terminal.text();
        assert_ne!(child.wait().unwrap().code(), Some(0));
        let (_, screen) = frames(&text);
        assert!(screen.lines().any(|line| line.starts_with("error: ")), "{line}\n{screen}\n{text:?}");
        assert!(!screen.contains("eta "), "{line}\n{screen}");
    }
}
