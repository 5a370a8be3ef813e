use insta::assert_snapshot;

use super::*;

const LEAST: &str = "model: base/\ndata: rows.jsonl\noutput: out/\n";

fn read(yaml: &str) -> Settings {
    let mut settings = Settings::from_yaml(yaml).unwrap();
    settings.finish().unwrap();
    settings
}

fn wrong(yaml: &str) -> String {
    Settings::from_yaml(yaml).unwrap_err().at("run.yaml".as_ref()).to_string()
}

#[test]
fn every_default_is_a_value_of_its_key() {
    for key in KEYS {
        let required = ["model", "data", "output"].contains(&key.name);
        let value = yaml::value(key.default).unwrap();
        assert_eq!((key.set)(&mut Settings::new(), &value), !required, "{}", key.name);
        assert_eq!(Settings::new().value(key), key.default, "{}", key.name);
        assert!(!key.help.ends_with('.') && !key.help.is_empty(), "{}", key.name);
    }
}

#[test]
fn names_of_others_lead_to_keys_and_are_none() {
    for (name, ours) in FOREIGN {
        assert!(key(name).is_none() && key(ours).is_some(), "{name}: {ours}");
        assert!(NOT_NOW.iter().all(|(other, _)| other != name), "{name}");
    }
    for (name, _) in NOT_NOW {
        assert!(key(name).is_none(), "{name}");
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same_settings() {
    let every = "model: 'a base: \"x\"/ü'\ndata: [{path: a.jsonl, weight: 0.25}, \"b c.jsonl\", '7', {path: d.csv, format: alpaca}]\nformat: text\noutput: out/\nval: [v.jsonl, w.jsonl]\n\
                 adapter: old/\nresume: auto\ndtype: bf16\nseq_len: 512\ntoo_long: drop\npacking: false\ntrain_on: last-turn\n\
                 chat_template: t.jinja\ntemplate_kwargs: {enable_thinking: false, tone: 'true', n: [1, 2.5, null, {a: b}]}\ntemplate_day: 2026-11-30\n\
                 lora: {r: 4, alpha: 3.5, dropout: 0.05, target: [q_proj, v_proj], layers: last:2, rslora: true, plus_ratio: 16}\n\
                 batch_size: 2\ngrad_accum: 3\nmax_steps: 70\nlr: 1e-5\nschedule: constant-with-warmup\nlr_end: 0\nwarmup_steps: 5\n\
                 weight_decay: 0.01\nbetas: [0.8, 0.95]\neps: 1e-6\nmax_grad_norm: null\nseed: 1_000\neval_every: 5\nsave_every: 6\n\
                 log_every: 1\nreport: [otlp, tensorboard, otlp]\nkeep: 3\nearly_stop: 2\nbest: false\nquant: keep\ndouble_quant: false\ncompute: f32\nrecompute: mlp\n\
                 memory_limit: 300M\ncache_frozen: false\nthreads: 3\n";
    for yaml in [LEAST, every] {
        let settings = read(yaml);
        assert_eq!(read(&settings.print()), settings, "{}", settings.print());
    }
    let settings = read(every);
    assert_eq!((settings.lr, settings.seed, settings.memory_limit), (1e-5, 1000, Some(Bytes(300_000_000))));
    assert_eq!(settings.lora.layers, Layers::Last(2));
    assert_eq!(settings.report, [Report::Otlp, Report::TensorBoard]);
    assert_eq!(settings.data[2].path, PathBuf::from("7"));
    assert_eq!((settings.data[3].format, settings.format), (Some(Format::Alpaca), Some(Format::Text)));
    assert_eq!(read(&format!("{LEAST}format: \"auto\"\n")).format, None);
    assert_eq!(
        settings.template_kwargs.0.iter().map(|(_, value)| value.json().to_string()).collect::<Vec<_>>(),
        ["false", "\"true\"", "[1,2.5,null,{\"a\":\"b\"}]"]
    );
    assert_snapshot!(read(LEAST).print(), @"
    # Files
    model: base/
    data: rows.jsonl
    output: out/
    val: null
    adapter: null
    resume: null
    dtype: f32

    # Data
    format: auto
    seq_len: 1024
    too_long: truncate
    packing: true
    train_on: auto
    chat_template: null
    template_kwargs: {}
    template_day: null
    allow_unmasked_eot: false

    # Adapter
    lora:
      r: 16
      alpha: 32
      dropout: 0
      target: all-linear
      layers: all
      rslora: false
      plus_ratio: 1

    # Steps
    batch_size: 8
    grad_accum: 1
    epochs: 3
    max_steps: null
    lr: 2.0e-4
    schedule: cosine
    lr_end: 0.1
    warmup_ratio: 0.03
    warmup_steps: null
    weight_decay: 0
    betas: [0.9, 0.999]
    eps: 1.0e-8
    max_grad_norm: 1
    seed: 42

    # Validation and checkpoints
    eval_every: null
    save_every: null
    log_every: 10
    report: []
    keep: 2
    early_stop: null
    best: true

    # Machine
    quant: auto
    double_quant: true
    compute: auto
    recompute: auto
    memory_limit: null
    cache_frozen: true
    threads: null
    ");
}

#[test]
fn flags_set_what_a_file_sets() {
    let mut settings = read(LEAST);
    for pair in [
        "lora.r=8",
        "lora.target=q_proj,v_proj",
        "lora.layers=4-6",
        "report=otlp,tensorboard",
        "data=[{path: x, weight: 2}]",
        "max_steps=9",
    ] {
        settings.set_pair(pair).unwrap();
    }
    settings.set("template_kwargs.enable_thinking", "false").unwrap();
    settings.set("template_kwargs.enable_thinking", "true").unwrap();
    settings.finish().unwrap();
    assert_eq!((settings.lora.r, settings.lora.layers.clone()), (8, Layers::Ranges(vec![(4, 6)])));
    assert_eq!(settings.lora.target, ["q_proj", "v_proj"]);
    assert_eq!(settings.data[0].weight, 2.0);
    assert_eq!(settings.template_kwargs.0, [("enable_thinking".to_string(), Value::plain("true"))]);
    assert_snapshot!(settings.set("lora.r", "0").unwrap_err(), @"`lora.r` is 0; it must be a whole number above 0");
    assert_snapshot!(settings.set_pair("lora.r").unwrap_err(), @"`lora.r` is not of the form KEY=VALUE, as in `lora.r=32`");
    assert_snapshot!(settings.set("lora", "16").unwrap_err(), @"`lora` is a group of keys; set one of them, as in `lora.r=16`");
    assert_snapshot!(settings.set("learning_rate", "1").unwrap_err(), @"`learning_rate` is called `lr` here");
}

#[test]
fn mistakes_are_said_with_their_line() {
    let cases = [
        "model: a\nlerning_rate: 1\n",
        "lora:\n  rnak: 8\n",
        "zzzzzzzz: 1\n",
        "model: a\n\n# x\nlearning_rate: 1e-4\n",
        "lora:\n  rank: 8\n",
        "lora:\n  dora: true\n",
        "optim: adamw_8bit\n",
        "lora: 16\n",
        "lr: 1e-4\nlr: 2e-4\n",
        "lora:\n  r: 4\nlora.r: 8\n",
        "lr: fast\n",
        "lr: .inf\n",
        "epochs: -1\n",
        "packing: 1\n",
        "quant: int8\n",
        "format: jsonl\n",
        "template_day: tomorrow\n",
        "betas: [0.9]\n",
        "report: [wandb]\n",
        "report_to: tensorboard\n",
        "logging_dir: logs\n",
        "seq_len: 1024.5\n",
        "data: [{path: a, wieght: 2}]\n",
        "val: 1.5\n",
        "lora: {layers: last}\n",
        "lora: {target: []}\n",
        "memory_limit: much\n",
        "model: null\n",
        "a: &b 1\nlr: *b\n",
        "- model\n",
        "model: a\n---\nmodel: b\n",
        "model: [a\n",
        "{[a]: b}\n",
        "model: a: b\n",
    ];
    let all: Vec<String> = cases.iter().map(|yaml| wrong(yaml)).collect();
    assert_snapshot!(all.join("\n"), @"
    `run.yaml:2`: there is no key `lerning_rate`; the nearest is `lr`
    `run.yaml:2`: there is no key `lora.rnak`; the nearest is `lora.r`
    `run.yaml:1`: there is no key `zzzzzzzz`
    `run.yaml:4`: `learning_rate` is called `lr` here
    `run.yaml:2`: `lora.rank` is called `lora.r` here
    `run.yaml:2`: `lora.dora` is known, but not there yet: DoRA is not trained
    `run.yaml:1`: `optim` is known, but not there yet: the optimiser is AdamW in f32; 8-bit and other optimisers are not there
    `run.yaml:1`: `lora` is a group of keys; set one of them, as in `lora.r: 16`
    `run.yaml:2`: `lr` is set twice; line 1 sets it first
    `run.yaml:3`: `lora.r` is set twice; line 2 sets it first
    `run.yaml:1`: `lr` is fast; it must be a number above 0
    `run.yaml:1`: `lr` is .inf; it must be a number above 0
    `run.yaml:1`: `epochs` is -1; it must be a number above 0
    `run.yaml:1`: `packing` is 1; it must be true or false
    `run.yaml:1`: `quant` is int8; it must be one of auto, nf4, keep, f32, f16, bf16
    `run.yaml:1`: `format` is jsonl; it must be one of auto, messages, sharegpt, alpaca, completions, text, tokens
    `run.yaml:1`: `template_day` is tomorrow; it must be a day, as in 2026-11-30
    `run.yaml:1`: `betas` is [0.9]; it must be two numbers from 0 to below 1, as in `[0.9, 0.999]`
    `run.yaml:1`: `report` is [wandb]; it must be a list of tensorboard, otlp
    `run.yaml:1`: `report_to` is called `report` here
    `run.yaml:1`: `logging_dir` is known, but not there yet: event files lie in the folder `runs` of the output; see `report`
    `run.yaml:1`: `seq_len` is 1024.5; it must be a whole number above 1
    `run.yaml:1`: `data` is [{path: a, wieght: 2}]; it must be a path, a list of paths, or a list of `{path: FILE, weight: NUMBER, format: NAME}`
    `run.yaml:1`: `val` is 1.5; it must be a path, a list of paths, or a share such as 0.05
    `run.yaml:1`: `lora.layers` is last; it must be `all`, `last:8`, `4-11`, or a list of numbers of layers
    `run.yaml:1`: `lora.target` is []; it must be a name or a list of names
    `run.yaml:1`: `memory_limit` is much; it must be a size, as in 300M or 2G
    `run.yaml:1`: `model` is null; it must be a path
    `run.yaml:2`: `*` points to another value; write the value itself
    `run.yaml:1`: settings are a map of keys, as in `model: base/`
    `run.yaml:3`: a second document begins; settings are one map of keys
    `run.yaml:2`: this is not YAML: while parsing a flow sequence, expected ',' or ']'
    `run.yaml:1`: a key must be a word
    `run.yaml:1`: this is not YAML: mapping values are not allowed in this context
    ");
    assert_snapshot!(wrong(&format!("model: {}", "[".repeat(100_000))), @"`run.yaml:1`: this is not YAML: recursion limit exceeded");
    assert_snapshot!(wrong(&" ".repeat(2 << 20)), @"`run.yaml`: has 2097152 bytes; at most 1048576 are read");
}

#[test]
fn contradictions_are_said() {
    let finished = |yaml: &str| {
        let mut settings = Settings::from_yaml(yaml).unwrap();
        settings.finish().unwrap_err().to_string()
    };
    let cases = [
        "data: a\noutput: b\n".to_string(),
        "model: a\noutput: b\n".to_string(),
        "model: a\ndata: b\n".to_string(),
        format!("{LEAST}early_stop: 3\n"),
    ];
    assert_snapshot!(cases.map(|yaml| finished(&yaml)).join("\n"), @"
    `model` is not set, as in `model: base/`
    `data` is not set, as in `data: rows.jsonl`
    `output` is not set, as in `output: adapter/`
    `early_stop` is set, and `val` is not; it needs it
    ");
}

#[test]
fn anchors_are_harmless_and_numbers_are_numbers() {
    let settings = Settings::from_yaml("lr: &rate 1e-5\neps: 1E-9\nweight_decay: .5\nseed: 1_0\n").unwrap();
    assert_eq!((settings.lr, settings.eps, settings.weight_decay, settings.seed), (1e-5, 1e-9, 0.5, 10));
    assert_eq!(Settings::from_yaml("").unwrap(), Settings::new());
}
