//! `lorakit reduce` on a large adapter.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use lorakit_tensor::{DType, TensorInfo};
use serde_json::json;

use crate::measure::{self, median};
use crate::merge::program;
use crate::{Reduce, generate};

/// Rank of the adapter.
pub(crate) const RANK: usize = 64;
/// Linear layers of one decoder layer of Llama-3-8B: module, `out`, `in`.
const LINEAR: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", 4096, 4096),
    ("self_attn.k_proj", 1024, 4096),
    ("self_attn.v_proj", 1024, 4096),
    ("self_attn.o_proj", 4096, 4096),
    ("mlp.gate_proj", 14336, 4096),
    ("mlp.up_proj", 14336, 4096),
    ("mlp.down_proj", 4096, 14336),
];

/// Generates the adapter, reduces it a few times and prints the medians.
pub(crate) fn run(args: &Reduce) -> io::Result<()> {
    let bin = args.whole.bin.clone().map_or_else(program, Ok)?;
    let work = tempfile::Builder::new().prefix("lorakit-bench-").tempdir_in(&args.whole.dir)?;
    let [adapter, small] = ["adapter", "small"].map(|name| work.path().join(name));
    write(&adapter, args.layers, 0)?;
    let bytes = fs::metadata(adapter.join("adapter_model.safetensors"))?.len();

    let rank = ["--rank", "16"].map(String::from);
    let options = if args.options.is_empty() { rank.as_slice() } else { args.options.as_slice() };
    let mut costs = Vec::with_capacity(args.runs);
    for _ in 0..args.runs {
        let mut command = Command::new(&bin);
        command.arg("reduce").arg(&adapter).arg("-o").arg(&small).args(["-q", "--no-progress"]);
        costs.push(measure::run(command.args(options))?);
        fs::remove_dir_all(&small)?;
    }
    let (wall, cpu) = (median(costs.iter().map(|c| c.wall)), median(costs.iter().map(|c| c.cpu)));
    let anonymous = costs.iter().map(|c| c.anonymous).max().unwrap_or(0);
    let mut out = io::stdout().lock();
    if args.whole.json {
        let object = json!({
            "schema": "lorakit.bench.reduce/1", "layers": args.layers, "bytes": bytes, "options": options,
            "runs": costs.len(), "wall_s": wall, "cpu_s": cpu, "peak_anonymous_bytes": anonymous,
        });
        return writeln!(out, "{object}");
    }
    let (mb, n) = (bytes as f64 / 1e6, costs.len());
    writeln!(
        out,
        "r={RANK} on Llama-3-8B shape, {} layers, {mb:.0} MB bf16; medians of {n} runs",
        args.layers
    )?;
    writeln!(out, "{:18}{wall:>8.2}", "wall (s)")?;
    writeln!(out, "{:18}{cpu:>8.2}", "cpu (s)")?;
    writeln!(out, "{:18}{:>8.1}", "anonymous (MiB)", anonymous as f64 / f64::from(1 << 20))
}

/// Writes the adapter; another `seed` gives other values.
pub(crate) fn write(folder: &Path, layers: usize, seed: u64) -> io::Result<()> {
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": LINEAR.map(|(module, _, _)| module.rsplit('.').next()),
        "bias": "none",
        "fan_in_fan_out": false,
    });
    let (config, file) = (("adapter_config.json", config), "adapter_model.safetensors");
    generate::model(folder, config, file, tensors(layers), seed)
}

fn tensors(layers: usize) -> Vec<TensorInfo> {
    let of_layer = |layer: usize| {
        LINEAR.iter().flat_map(move |&(module, rows, cols)| {
            [("lora_A", [RANK, cols]), ("lora_B", [rows, RANK])].map(|(factor, shape)| TensorInfo {
                name: format!("base_model.model.model.layers.{layer}.{module}.{factor}.weight"),
                dtype: DType::BF16,
                shape: shape.to_vec(),
            })
        })
    };
    (0..layers).flat_map(of_layer).collect()
}
