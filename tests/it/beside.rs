//! Folders that hold more than one adapter, or an adapter in parts, or an adapter beside its base.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{Sandbox, edit_json, fixtures};
use crate::weights::{Weights, edit_file, read_file, write_file};

const TENSORS: &str = "adapter_model.safetensors";

/// Copies of an adapter and its base, called `adapter` and `base`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let golden = fixtures().join("golden/saved");
    sandbox.copy(&golden.join("untied-layers"), "adapter");
    sandbox.copy(&golden.join("untied"), "base");
    sandbox
}

fn merged(sandbox: &Sandbox, adapter: &str, out: &str) -> Weights {
    sandbox.run(&format!("merge base {adapter} -o {out}"), &[]).ok();
    read_file(&sandbox.path(out).join("model.safetensors"))
}

/// Writes the tensors in two parts with an index, instead of one file.
fn split(folder: &Path) {
    let all = read_file(&folder.join(TENSORS));
    fs::remove_file(folder.join(TENSORS)).unwrap();
    let mut map = serde_json::Map::new();
    for part in 0..2 {
        let name = format!("adapter_model-0000{}-of-00002.safetensors", part + 1);
        let own: Weights = all
            .iter()
            .enumerate()
            .filter(|(i, _)| i % 2 == part)
            .map(|(_, (k, v))| (k.clone(), v.clone()))
            .collect();
        map.extend(own.keys().map(|key| (key.clone(), json!(name))));
        write_file(&folder.join(name), &own);
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    fs::write(folder.join("adapter_model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn an_adapter_in_parts_is_read_whole() {
    let sandbox = sandbox();
    let wanted = merged(&sandbox, "adapter", "wanted");
    split(&sandbox.path("adapter"));
    assert!(merged(&sandbox, "adapter", "found") == wanted);
    assert!(merged(&sandbox, "adapter/adapter_model.safetensors.index.json", "by-index") == wanted);
    insta::assert_snapshot!(sandbox.refused("merge base adapter/adapter_model-00002-of-00002.safetensors -o out"), @"
    exit 1
    error: `adapter/adapter_model-00002-of-00002.safetensors`: is one of the 2 parts of an adapter

    hint: name the folder that holds the adapter
    ");
    insta::assert_snapshot!(sandbox.refused("inspect adapter/adapter_model-00001-of-00002.safetensors"), @"
    exit 1
    error: `adapter/adapter_model-00001-of-00002.safetensors`: is one of the 2 parts of an adapter

    hint: name the folder that holds the adapter
    ");
    fs::remove_file(sandbox.path("adapter/adapter_model.safetensors.index.json")).unwrap();
    insta::assert_snapshot!(sandbox.refused("merge base adapter -o out"), @"
    exit 1
    error: `adapter`: holds 2 parts of an adapter, and not their index

    hint: the download is incomplete; fetch the missing file into the same folder
    ");
}

/// DeepSpeed and LLaVA put a trained projector there, FSDP a whole state, PEFT the other adapters of a model.
#[test]
fn what_is_not_read_is_named() {
    let sandbox = sandbox();
    let folder = sandbox.path("adapter");
    for name in [
        "non_lora_trainables.bin",
        "pytorch_model_fsdp.bin",
        "optimizer.pt",
        "training_args.bin",
        "rng_state.pth",
    ] {
        fs::write(folder.join(name), "x").unwrap();
    }
    for name in ["style", "checkpoint-5", "runs"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for name in ["style", "checkpoint-5"] {
        fs::copy(folder.join("adapter_config.json"), folder.join(name).join("adapter_config.json")).unwrap();
        fs::copy(folder.join(TENSORS), folder.join(name).join(TENSORS)).unwrap();
    }
    fs::write(folder.join("adapter_model.bin"), "x").unwrap();
    let unread = "`non_lora_trainables.bin`, `pytorch_model_fsdp.bin` beside the adapter: not read, so if training \
                  changed what they hold, that is missing";
    let others = "`adapter_model.bin`, `style/` beside the adapter: other adapters, or other forms of \
                  it, not read";
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in ["inspect adapter", "merge base adapter -o out", "convert adapter --to peft -o written"] {
        let run = sandbox.run(line, &[]).ok();
        let said = flat(&format!("{}{}", run.stdout, run.stderr));
        assert!(said.contains(unread), "{line}: {said}");
        assert!(said.contains(others), "{line}: {said}");
    }
    // The folder of a file without a configuration may hold anything.
    fs::create_dir(sandbox.path("many")).unwrap();
    for name in ["one.safetensors", "two.safetensors"] {
        fs::copy(
            fixtures().join("golden/peft/adapters/attn-r4").join(TENSORS),
            sandbox.path("many").join(name),
        )
        .unwrap();
    }
    let run = sandbox.run("inspect many/one.safetensors", &[]);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("two.safetensors"));
}

#[test]
fn every_adapter_inside_a_folder_is_named() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.path("outer")).unwrap();
    for name in ["one", "two"] {
        sandbox.copy(&sandbox.path("adapter"), &format!("outer/{name}"));
    }
    insta::assert_snapshot!(sandbox.refused("merge base outer -o out"), @"
    exit 1
    error: `outer`: holds no adapter: `adapter_config.json` is missing
      `outer/one` is one
      `outer/two` is one

    hint: name the folder that holds the adapter
    ");
}

/// transformers takes a folder with `adapter_config.json` for an adapter, whatever else it holds.
#[test]
fn adapter_files_of_a_base_do_not_travel() {
    let sandbox = sandbox();
    let wanted = merged(&sandbox, "adapter", "wanted");
    for name in ["adapter_config.json", TENSORS] {
        fs::copy(sandbox.path("adapter").join(name), sandbox.path("base").join(name)).unwrap();
    }
    fs::write(sandbox.path("base/adapter_model.json"), "{}").unwrap();
    let run = sandbox.run("merge base adapter -o out", &[]).ok();
    assert!(run.stderr.contains("also holds an adapter (`adapter_config.json`)"), "{}", run.stderr);
    assert!(read_file(&sandbox.path("out/model.safetensors")) == wanted);
    let names = crate::support::entries(&sandbox.path("out"));
    assert!(!names.iter().any(|name| name.starts_with("adapter")), "{names:?}");
    sandbox.run("quantize base --type nf4 -o packed", &[]).ok();
    let names = crate::support::entries(&sandbox.path("packed"));
    assert!(!names.iter().any(|name| name.starts_with("adapter")), "{names:?}");
}

/// The base is what is no adapter, under whatever name.
#[test]
fn an_adapter_in_the_folder_is_not_taken_for_the_base() {
    let sandbox = sandbox();
    let wanted = merged(&sandbox, "adapter", "wanted");
    let base = sandbox.path("base");
    fs::rename(base.join("model.safetensors"), base.join("weights.safetensors")).unwrap();
    for name in ["adapter_config.json", TENSORS] {
        fs::copy(sandbox.path("adapter").join(name), base.join(name)).unwrap();
    }
    assert!(merged(&sandbox, "adapter", "found") == wanted);
}

#[test]
fn json_is_read_as_python_writes_it() {
    let sandbox = sandbox();
    let wanted = merged(&sandbox, "adapter", "wanted");
    let path = sandbox.path("adapter/adapter_config.json");
    let text = fs::read_to_string(&path).unwrap();
    let strange = text.replacen('{', "{\n  \"lora_dropout\": NaN,", 1).replace("\"lora_dropout\": 0.0,", "");
    assert!(strange.contains("NaN") && strange.matches("lora_dropout").count() == 1, "{strange}");
    fs::write(&path, format!("\u{feff}{strange}")).unwrap();
    let base = sandbox.path("base/config.json");
    fs::write(&base, format!("\u{feff}{}", fs::read_to_string(&base).unwrap())).unwrap();
    assert!(merged(&sandbox, "adapter", "found") == wanted);
    assert!(
        fs::read(sandbox.path("found/config.json")).unwrap().starts_with(b"{"),
        "transformers reads no mark"
    );
    sandbox.run("convert adapter --to peft -o written", &[]).ok();
    let written = fs::read_to_string(sandbox.path("written/adapter_config.json")).unwrap();
    assert!(written.contains("\"lora_dropout\": NaN,"), "{written}");
    fs::write(&path, strange.replacen("\"lora_alpha\": 4", "\"lora_alpha\": Infinity", 1)).unwrap();
    let said = sandbox.refused("merge base adapter -o out");
    assert!(said.contains("`lora_alpha` is Infinity; it must be a finite number"), "{said}");
}

#[test]
fn the_method_is_named_before_its_fields_are_judged() {
    let sandbox = sandbox();
    edit_json(&sandbox.path("adapter/adapter_config.json"), |config| {
        config["peft_type"] = json!("OFT");
        config["r"] = json!(0);
    });
    let said = sandbox.refused("merge base adapter -o out");
    assert!(said.contains("OFT") && !said.contains("`r`"), "{said}");
}

#[test]
fn excluded_modules_need_no_tensors() {
    let sandbox = sandbox();
    let path = sandbox.path("adapter/adapter_config.json");
    for (excluded, warned) in [
        (json!(null), true),
        (json!(["v_proj"]), false),
        (json!(["k_proj"]), true),
        (json!("layers.*v_proj"), false),
    ] {
        edit_json(&path, |config| {
            config["target_modules"] = json!(["q_proj", "model.layers.0.self_attn.v_proj"]);
            config["exclude_modules"] = excluded.clone();
        });
        let report = sandbox.run("inspect adapter", &[]).ok().stdout;
        assert_eq!(report.contains("for which there are no tensors"), warned, "{excluded}: {report}");
    }
}

/// What one process of several saved without gathering the others' parts.
#[test]
fn slices_are_called_slices() {
    let sandbox = sandbox();
    let adapter = fixtures().join("golden/peft/adapters/attn-r4");
    let cut = |name: &str, which: &str| {
        let copy = sandbox.copy(&adapter, name);
        edit_file(&copy.join(TENSORS), |weights| {
            for (_, tensor) in weights.iter_mut().filter(|(name, _)| name.contains(which)) {
                tensor.shape[0] /= 2;
                tensor.bytes.truncate(tensor.bytes.len() / 2);
            }
        });
    };
    sandbox.copy(&fixtures().join("golden/peft/bases/llama-bf16"), "other");
    cut("fsdp", "lora_");
    let said = sandbox.refused("merge other fsdp -o out");
    assert!(
        said.contains("every A has 1/2 of its rows, as if one of 2 processes had saved its own part only"),
        "{said}"
    );
    cut("parallel", "lora_B");
    let said = sandbox.refused("merge other parallel -o out");
    assert!(said.contains("is 1/2 of its weight in the base, as if one of 2 processes"), "{said}");
}

/// transformers saves a model into which an adapter was injected with the factors beside `base_layer`.
#[test]
fn a_base_with_an_unmerged_adapter_is_refused() {
    let sandbox = sandbox();
    edit_file(&sandbox.path("base/model.safetensors"), |weights| {
        let q = "model.layers.0.self_attn.q_proj";
        let weight = weights.remove(&format!("{q}.weight")).unwrap();
        for half in ["A", "B"] {
            weights.insert(format!("{q}.lora_{half}.default.weight"), weight.clone());
        }
        weights.insert(format!("{q}.base_layer.weight"), weight);
    });
    for line in ["merge base adapter -o out", "merge base base -o out"] {
        insta::allow_duplicates! { insta::assert_snapshot!(sandbox.refused(line), @"
        exit 1
        error: `base`: holds an adapter that was not merged before it was saved (3 tensors, the first is `model.layers.0.self_attn.q_proj.base_layer.weight`), so its weights are not those of a model; its own alpha is not in it, so it cannot be merged here: PEFT's `merge_and_unload` does that before saving
        "); }
    }
}
