//! What an edit refuses.

use serde_json::json;

use super::FILE;
use crate::support::{Sandbox, edit_json, peft};
use crate::weights::{Tensor, edit_file};

fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "plain");
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox
}

#[test]
fn command_lines() {
    let sandbox = workshop();
    let all = [
        "",
        "--tag a --tag b --remove-tag b",
        "--fold-alpha --alpha 8",
        "--alpha 0",
        "--alpha -3",
        "--dtype q8_0",
        "--base-model",
        "--tag a,b",
        "--rename-prefix model",
        "--rename-prefix =",
        "--rename-prefix a..b=c",
        "--rename-prefix model=my/model",
    ];
    let said = all.map(|line| format!("{line}\n{}", sandbox.refused(&format!("edit plain -o out {line}"))));
    insta::assert_snapshot!(said.join("\n"), @"
    exit 2
    error: no option says what to edit: `--base-model`, `--revision`, `--license`, `--tag`, `--remove-tag`, `--fold-alpha`, `--alpha`, `--dtype` or `--rename-prefix` is needed

    hint: `lorakit edit ADAPTER -o OUT --base-model OWNER/NAME` names another base

    --tag a --tag b --remove-tag b
    exit 2
    error: the tag `b` cannot be added and removed at once

    hint: name it in `--tag` or in `--remove-tag`

    --fold-alpha --alpha 8
    exit 2
    error: the argument '--fold-alpha' cannot be used with '--alpha <N>'

    Usage: lorakit edit --output <OUT> --fold-alpha <ADAPTER>

    For more information, try '--help'.

    --alpha 0
    exit 2
    error: invalid value '0' for '--alpha <N>': must be a positive number

    For more information, try '--help'.

    --alpha -3
    exit 2
    error: invalid value '-3' for '--alpha <N>': must be a positive number

    For more information, try '--help'.

    --dtype q8_0
    exit 2
    error: invalid value 'q8_0' for '--dtype <DTYPE>'
      [possible values: keep, f32, f16, bf16]

    For more information, try '--help'.

    --base-model
    exit 2
    error: a value is required for '--base-model <NAME>' but none was supplied

    For more information, try '--help'.

    --tag a,b
    exit 2
    error: invalid value 'a,b' for '--tag <TAG>': must not be empty, and must not hold commas; spaces may only be inside

    For more information, try '--help'.

    --rename-prefix model
    exit 2
    error: invalid value 'model' for '--rename-prefix <OLD=NEW>': must be OLD=NEW; `OLD=` removes the prefix

    For more information, try '--help'.

    --rename-prefix =
    exit 2
    error: invalid value '=' for '--rename-prefix <OLD=NEW>': would change nothing

    For more information, try '--help'.

    --rename-prefix a..b=c
    exit 2
    error: invalid value 'a..b=c' for '--rename-prefix <OLD=NEW>': must be paths: letters, digits, `_` and `-`, with dots between

    For more information, try '--help'.

    --rename-prefix model=my/model
    exit 2
    error: invalid value 'model=my/model' for '--rename-prefix <OLD=NEW>': must be paths: letters, digits, `_` and `-`, with dots between

    For more information, try '--help'.
    ");
}

#[test]
fn inputs() {
    let sandbox = workshop();
    insta::assert_snapshot!(sandbox.refused("edit base -o out --license mit"), @"
    exit 1
    error: `base`: is a full model (it has `config.json` and no `adapter_config.json`), not an adapter

    hint: name an adapter, or make one of the model: `lorakit extract BASE MODEL -o OUT --auto`
    ");
    insta::assert_snapshot!(sandbox.refused("edit none -o out --license mit"), @"
    exit 1
    error: `none`: does not exist

    hint: check the path; nothing is downloaded
    ");
    insta::assert_snapshot!(sandbox.refused("edit plain -o plain --license mit --force"), @"
    exit 2
    error: `plain`: is both the output and the input `plain`

    hint: choose an output that is not an input
    ");
    insta::assert_snapshot!(sandbox.refused("edit plain -o base --license mit"), @"
    exit 2
    error: `base`: exists

    hint: `--force` replaces it (the old one is kept until the new one is complete)
    ");
    insta::assert_snapshot!(sandbox.refused("edit plain -o out.gguf --license mit"), @"
    exit 2
    error: `out.gguf`: names a `.gguf` file, and this format is a folder

    hint: name a folder; `lorakit convert` writes other formats
    ");
    let loha = sandbox.copy(&peft("adapters/plain"), "loha");
    edit_json(&loha.join("adapter_config.json"), |config| config["peft_type"] = "VERA".into());
    insta::assert_snapshot!(sandbox.refused("edit loha -o out --license mit"), @"
    exit 1
    error: `loha`: was trained with VERA, which is not among the methods that are understood

    hint: serve it beside the base with the library that trained it
    ");
    let card = sandbox.copy(&peft("adapters/plain"), "card");
    std::fs::write(card.join("README.md"), "---\nlicense: [mit\n---\n").unwrap();
    insta::assert_snapshot!(sandbox.refused("edit card -o out --license mit"), @"
    exit 1
    error: `card/README.md`: its front matter is not YAML: while parsing a flow sequence, expected ',' or ']' (line 2 of it)
    ");
}

#[test]
fn prefixes() {
    let sandbox = workshop();
    insta::assert_snapshot!(sandbox.refused("edit plain -o out --rename-prefix modle.layers=x"), @"
    exit 2
    error: `plain`: no module's path begins with `modle.layers`; the nearest is `model.layers`
    ");
    insta::assert_snapshot!(sandbox.refused("edit plain -o out --rename-prefix model.layers.1=model.layers.0"), @"
    exit 2
    error: `plain`: `model.layers.0.mlp.down_proj` and `model.layers.1.mlp.down_proj` would both be called `model.layers.0.mlp.down_proj`
    ");
    insta::assert_snapshot!(
        sandbox.refused("edit plain -o out --rename-prefix model.layers.0.self_attn.q_proj="),
        @"
    exit 2
    error: `plain`: of the path `model.layers.0.self_attn.q_proj`, nothing would be left
    "
    );
    let config = |edit: fn(&mut serde_json::Value)| {
        let adapter = sandbox.path("plain/adapter_config.json");
        edit_json(&adapter, edit);
    };
    // A path inside the other, by which a pattern finds both.
    config(|config| config["alpha_pattern"] = json!({ "(model.layers.0|x).*q_proj": 4 }));
    insta::assert_snapshot!(sandbox.refused("edit plain -o out --rename-prefix model=m"), @"
    exit 1
    error: `plain/adapter_config.json`: `alpha_pattern` would no longer give `model.layers.0.self_attn.q_proj` what it gave it before, because of the new path
    ");
}

#[test]
fn values() {
    let sandbox = workshop();
    let large = sandbox.copy(&peft("adapters/f32"), "large");
    let b = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    let set = |value: f64| {
        edit_file(&large.join(FILE), |weights| {
            let tensor = &weights[b];
            let mut values = tensor.values();
            values[9] = value;
            let changed = Tensor::new(tensor.dtype, &tensor.shape, &values);
            weights.insert(b.into(), changed);
        });
    };
    set(70000.0);
    insta::assert_snapshot!(sandbox.refused("edit large -o out --dtype f16"), @"
    exit 1
    error: `large/adapter_model.safetensors`: `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: comes to 7e4 at row 1, column 1, which F16 cannot hold

    hint: choose another dtype for the factors: `--dtype f32`
    ");
    set(3e38);
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"
    exit 1
    error: `large/adapter_model.safetensors`: `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: comes to 6.000e38 at row 1, column 1, which no dtype of factors can hold

    hint: training diverged or the file is damaged; `lorakit inspect --norms` shows which modules are affected
    ");
    set(f64::NAN);
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"
    exit 1
    error: `large/adapter_model.safetensors`: `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: holds NaN at row 1, column 1 (F32)

    hint: training diverged or the file is damaged; `lorakit inspect --norms` shows which modules are affected
    ");
    // A header is edited without looking at values, but no adapter is published with a NaN.
    insta::assert_snapshot!(sandbox.refused("edit large -o out --base-model org/model"), @"
    exit 1
    error: `large/adapter_model.safetensors`: `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: holds NaN at row 1, column 1 (F32)

    hint: training diverged or the file is damaged; `lorakit inspect --norms` shows which modules are affected
    ");
    set(1.0);
    let config = |edit: fn(&mut serde_json::Value)| edit_json(&large.join("adapter_config.json"), edit);
    config(|config| config["r"] = 4.into());
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"
    exit 1
    error: `large`: `model.layers.0.mlp.down_proj`: has rank 8, and the configuration says 4, so its scale depends on who reads it

    hint: compare the file with the one in the repository of the adapter
    ");
    config(|config| {
        config["r"] = 8.into();
        config["lora_alpha"] = 0.into();
    });
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"
    exit 1
    error: `large`: `model.layers.0.mlp.down_proj`: is multiplied by 0, which its factors would be too
    ");
}
