//! Reports on everything there is fit a terminal of 80 columns.

use unicode_width::UnicodeWidthStr;

use crate::support::{Sandbox, entries, fixtures, peft, read_json};
use crate::terminal::Terminal;
use crate::weights::edit_file;

const COLUMNS: u16 = 80;

fn assert_narrow(sandbox: &Sandbox, line: &str) {
    let terminal = Terminal::new(COLUMNS);
    let mut command = sandbox.command();
    command.args(line.split_whitespace()).env("NO_COLOR", "1");
    let mut child = terminal.start(command);
    let text = terminal.text();
    child.wait().unwrap();
    for shown in text.lines() {
        assert!(shown.width() <= COLUMNS.into(), "{line}: {} columns\n{shown}", shown.width());
        assert_eq!(shown, shown.trim_end(), "{line}");
    }
}

#[test]
fn of_every_adapter_alone() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters"), "golden");
    for trained in ["tiny-json-lora", "tiny-upper-lora", "smollm2-orders-lora"] {
        sandbox.copy(&fixtures().join(trained), &format!("golden/{trained}"));
    }
    let paths = entries(&sandbox.path("golden")).iter().map(|n| format!("golden/{n} ")).collect::<String>();
    for options in ["", "--norms", "-v", "-v --norms"] {
        assert_narrow(&sandbox, &format!("inspect --no-progress {options} {paths}"));
    }
}

#[test]
fn of_every_adapter_with_its_base() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters"), "golden");
    sandbox.copy(&peft("bases"), "bases");
    for name in entries(&sandbox.path("golden")) {
        let config = read_json(&sandbox.path(&format!("golden/{name}/adapter_config.json")));
        let base = config["base_model_name_or_path"].as_str().unwrap();
        assert_narrow(&sandbox, &format!("inspect --no-progress golden/{name} --base bases/{base} -v"));
    }
}

#[test]
fn of_every_model() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases"), "bases");
    sandbox.copy(&fixtures().join("tiny-orders"), "bases/tiny-orders");
    std::fs::copy(fixtures().join("gguf/reference.gguf"), sandbox.path("bases/reference.gguf")).unwrap();
    let paths = entries(&sandbox.path("bases")).iter().map(|n| format!("bases/{n} ")).collect::<String>();
    assert_narrow(&sandbox, &format!("inspect --no-progress -v {paths}"));
}

/// In a pipe a name stays on one line, however long, so that a search finds it.
#[test]
fn names_stay_whole() {
    let sandbox = Sandbox::new();
    let one = sandbox.copy(&peft("bases/llama-bf16"), "one");
    let long = format!("model.{}.weight", "tower.of.experts.".repeat(8).trim_end_matches('.'));
    edit_file(&one.join("model.safetensors"), |weights| {
        let norm = weights.remove("model.norm.weight").unwrap();
        weights.insert(long.clone(), norm);
    });
    let two = sandbox.copy(&peft("bases/llama-bf16"), "two");
    let run = sandbox.run("diff", &[&one, &two]).ok();
    assert!(run.stdout.lines().any(|line| line.contains(&long)), "{}", run.stdout);
}
