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
        "--license two\u{a0}words",
        "--tag a,b",
        "--rename-prefix model",
        "--rename-prefix =",
        "--rename-prefix a..b=c",
        "--rename-prefix model=my/model",
    ];
    let said = all.map(|line| format!("{line}\n{}", sandbox.refused(&format!("edit plain -o out {line}"))));
    insta::assert_snapshot!(said.join("\n"), @"");
}

#[test]
fn inputs() {
    let sandbox = workshop();
    insta::assert_snapshot!(sandbox.refused("edit base -o out --license mit"), @"");
    insta::assert_snapshot!(sandbox.refused("edit none -o out --license mit"), @"");
    insta::assert_snapshot!(sandbox.refused("edit plain -o plain --license mit --force"), @"");
    insta::assert_snapshot!(sandbox.refused("edit plain -o base --license mit"), @"");
    insta::assert_snapshot!(sandbox.refused("edit plain -o out.gguf --license mit"), @"");
    let loha = sandbox.copy(&peft("adapters/plain"), "loha");
    edit_json(&loha.join("adapter_config.json"), |config| config["peft_type"] = "LOHA".into());
    insta::assert_snapshot!(sandbox.refused("edit loha -o out --license mit"), @"");
    let card = sandbox.copy(&peft("adapters/plain"), "card");
    std::fs::write(card.join("README.md"), "---\nlicense: [mit\n---\n").unwrap();
    insta::assert_snapshot!(sandbox.refused("edit card -o out --license mit"), @"");
}

#[test]
fn prefixes() {
    let sandbox = workshop();
    insta::assert_snapshot!(sandbox.refused("edit plain -o out --rename-prefix modle.layers=x"), @"");
    insta::assert_snapshot!(sandbox.refused("edit plain -o out --rename-prefix model.layers.1=model.layers.0"), @"");
    insta::assert_snapshot!(
        sandbox.refused("edit plain -o out --rename-prefix model.layers.0.self_attn.q_proj="),
        @""
    );
    let config = |edit: fn(&mut serde_json::Value)| {
        let adapter = sandbox.path("plain/adapter_config.json");
        edit_json(&adapter, edit);
    };
    // A path inside the other, by which a pattern finds both.
    config(|config| config["alpha_pattern"] = json!({ "(model.layers.0|x).*q_proj": 4 }));
    insta::assert_snapshot!(sandbox.refused("edit plain -o out --rename-prefix model=m"), @"");
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
    insta::assert_snapshot!(sandbox.refused("edit large -o out --dtype f16"), @"");
    set(3e38);
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"");
    set(f64::NAN);
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"");
    // A header is edited without looking at values, but no adapter is published with a NaN.
    insta::assert_snapshot!(sandbox.refused("edit large -o out --base-model org/model"), @"");
    set(1.0);
    let config = |edit: fn(&mut serde_json::Value)| edit_json(&large.join("adapter_config.json"), edit);
    config(|config| config["r"] = 4.into());
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"");
    config(|config| {
        config["r"] = 8.into();
        config["lora_alpha"] = 0.into();
    });
    insta::assert_snapshot!(sandbox.refused("edit large -o out --fold-alpha"), @"");
}
