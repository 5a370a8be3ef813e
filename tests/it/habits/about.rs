//! `version`, `env`, help as data, repeated switches and other names of verbs.

use serde_json::Value;

use crate::support::{Sandbox, peft};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn json(line: &str) -> Value {
    serde_json::from_str(&Sandbox::new().run(line, &[]).ok().stdout).unwrap()
}

#[test]
fn the_version() {
    let plain = Sandbox::new().run("version", &[]).ok().stdout;
    assert!(plain.starts_with(&format!("lorakit {VERSION}")) && plain.lines().count() == 1, "{plain}");
    for line in ["version --json", "--version --json", "--json -V"] {
        let object = json(line);
        assert_eq!((&object["schema"], &object["version"]), (&"lorakit.version/1".into(), &VERSION.into()));
    }
}

#[test]
fn other_names_of_verbs() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "adapter");
    let inspected = sandbox.run("inspect adapter", &[]).ok().stdout;
    for alias in ["info", "show", "ls"] {
        assert_eq!(sandbox.run(&format!("{alias} adapter"), &[]).ok().stdout, inspected);
    }
    for (alias, verb) in [
        ("quantise", "quantize"),
        ("quant", "quantize"),
        ("fuse", "merge"),
        ("resize", "reduce"),
        ("export", "convert"),
        ("compare", "diff"),
        ("completion", "completions"),
    ] {
        let help = |name: &str| sandbox.run(&format!("{name} --help"), &[]).ok().stdout;
        assert_eq!(help(alias), help(verb));
    }
}

#[test]
fn repeated_switches() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/plain"), "adapter");
    let once = sandbox.run("merge base adapter -o out -v", &[]).ok().stdout;
    assert!(once.contains("model.layers.0.self_attn.q_proj.weight"), "{once}");
    let twice = sandbox.run("merge base adapter -o out -vv --force", &[]).ok().stdout;
    assert!(twice.contains("model.layers.0.self_attn.q_proj.weight"), "{twice}");
    let quiet = sandbox.run("merge base adapter -o out -q --force", &[]).ok().stdout;
    assert!(quiet.lines().last().is_some_and(|line| line.starts_with("wrote `out`")), "{quiet}");
    let silent = sandbox.run("merge base adapter -o out -qq --force", &[]).ok();
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
    let failed = sandbox.run("merge base nothing -o other -q -q", &[]);
    assert!(failed.code == Some(3) || failed.code == Some(1), "{:?}", failed.code);
    assert!(failed.stderr.starts_with("error: "), "{}", failed.stderr);
}

/// The first word of each row is what it is about.
#[test]
fn the_environment_as_text() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command();
    let home = sandbox.path("somebody");
    command.args(["env"]).env("HOME", &home).env("HF_HOME", home.join("hf")).env("USER", "somebody");
    command.env("LORAKIT_THREADS", "3").env("LORAKIT_TREADS", "secret").env("NO_COLOR", "1");
    let run = crate::support::Run::new(&sandbox, &command.output().unwrap()).ok();
    assert!(!run.stdout.contains("somebody") && !run.stdout.contains("secret"), "{}", run.stdout);
    let names: Vec<&str> = run
        .stdout
        .lines()
        .map(|line| line.get(..12).unwrap_or(line).trim())
        .filter(|name| !name.is_empty())
        .collect();
    insta::assert_snapshot!(names.join(", "), @"lorakit, commit, target, processor, features, vector code, threads, memory, page size, open files, addresses, inputs, hub cache, terminal, variables");
    let told = run.stdout.lines().skip_while(|line| !line.starts_with("variables"));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    variables    HF_HOME is set
                 LORAKIT_THREADS=3
                 LORAKIT_TREADS is set, and lorakit does not know it
                 NO_COLOR=1
    ");
    assert!(run.stdout.contains("threads      3 of "), "{}", run.stdout);
}

#[test]
fn the_environment_as_json() {
    let object = json("env --json --threads 2 --no-mmap");
    assert_eq!(object["schema"], "lorakit.env/1");
    assert_eq!((&object["threads"], &object["reads"]), (&2.into(), &"positioned".into()));
    assert!(object["limits"]["page_size"].as_u64().is_some_and(|size| size >= 4096));
    assert!(object["target"].as_str().is_some_and(|target| target.contains(std::env::consts::ARCH)));
    assert!(object["variables"].as_array().is_some_and(Vec::is_empty), "{object}");
}

#[test]
fn help_as_data() {
    let object = json("merge --help --json");
    assert_eq!((&object["schema"], &object["command"]), (&"lorakit.help/1".into(), &"lorakit merge".into()));
    let options = object["options"].as_array().unwrap();
    let named = |name: &str| options.iter().find(|option| option["name"] == name).unwrap();
    assert_eq!(named("--tied")["values"], serde_json::json!(["untie", "share"]));
    assert_eq!(named("--output")["short"], "o");
    assert_eq!(named("--lineage")["variable"], "LORAKIT_LINEAGE");
    assert!(named("--quantize")["values"].as_array().unwrap().contains(&"Q4_K_M".into()));
    assert!(options.iter().all(|option| option["name"] != "--rounding"), "what is hidden stays hidden");
    assert_eq!(json("help merge --json")["command"], "lorakit merge");
    let whole = json("--help --json");
    let verbs = whole["commands"].as_array().unwrap();
    let quantize = verbs.iter().find(|verb| verb["name"] == "quantize").unwrap();
    assert!(quantize["aliases"].as_array().unwrap().contains(&"quantise".into()), "{quantize}");
}
