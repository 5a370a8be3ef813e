//! Small configurations in the shape of the other programs', written for these tests.

use super::*;

const AXOLOTL: &str = "base_model: models/base
load_in_4bit: true
adapter: qlora
datasets:
  - path: ./rows.jsonl
    type: chat_template
    field_messages: messages
val_set_size: 0.1
output_dir: out
sequence_len: 2048
sample_packing: true
pad_to_sequence_len: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
gradient_checkpointing: true
flash_attention: true
warmup_steps: 10
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
  pad_token: <|end|>
";

const LLAMA_FACTORY: &str = "### model
model_name_or_path: models/base
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: q_proj,v_proj
### dataset
dataset: mine
template: qwen3
cutoff_len: 1024
preprocessing_num_workers: 4
### output
output_dir: out
logging_steps: 5
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
resume_from_checkpoint: null
val_size: 0.1
";

fn told(yaml: &str, elsewhere: &[&str]) -> String {
    match from_yaml(yaml, elsewhere) {
        Ok(Imported { program, settings, notes }) => {
            let notes: Vec<String> = notes
                .iter()
                .map(|note| format!("{:?} {} `{}`: {}", note.noted, note.line, note.key, note.text))
                .collect();
            format!("{program}\n{}\n{}", notes.join("\n"), settings.print())
        }
        Err(error) => format!("{error}\n{}", error.detail_lines().join("\n")),
    }
}

#[test]
fn a_configuration_of_axolotl() {
    insta::assert_snapshot!(told(AXOLOTL, &[]));
}

#[test]
fn a_configuration_of_llama_factory() {
    insta::assert_snapshot!(told(LLAMA_FACTORY, &["data"]));
}

/// What is not set has the other program's default, where it decides the adapter.
#[test]
fn defaults_are_those_of_the_program() {
    let axolotl = "base_model: b\ndatasets: [{path: a.jsonl, type: alpaca}]\nadapter: lora\nlora_r: 8\nlora_alpha: 8\n\
                   lora_target_modules: [q_proj]\nlearning_rate: 1e-4\n";
    let settings = from_yaml(axolotl, &[]).unwrap().settings;
    assert_eq!((settings.seq_len, settings.epochs, settings.batch_size), (512, 1.0, 1));
    assert_eq!((settings.packing, settings.lr_end, settings.best), (false, 0.0, false));
    assert_eq!(
        (settings.too_long, settings.quant),
        (crate::data::TooLong::Drop, crate::settings::Quant::Keep)
    );
    let factory = "model_name_or_path: b\nstage: sft\n";
    let settings = from_yaml(factory, &["data"]).unwrap().settings;
    assert_eq!((settings.seq_len, settings.epochs, settings.batch_size, settings.lr), (2048, 3.0, 8, 5e-5));
    assert_eq!((settings.lora.r, settings.lora.alpha, settings.warmup_ratio), (8, None, 0.0));
    assert_eq!(settings.schedule, crate::settings::Course::Linear);
    assert_eq!(settings.too_long, crate::data::TooLong::Truncate);
}

/// Each key that decides the adapter and has no equivalent is refused, with its line.
#[test]
fn refusals() {
    let mut all = String::new();
    let mut add = |what: &str, yaml: &str, elsewhere: &[&str]| {
        all += &format!(
            "$ {what}\n{}\n\n",
            told(yaml, elsewhere).lines().take(8).collect::<Vec<_>>().join("\n")
        );
    };
    let with = |more: &str| format!("{AXOLOTL}{more}\n");
    let without = |key: &str| {
        let lines = AXOLOTL.lines().filter(|line| !line.starts_with(key));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    add("neither", "model: base\nlr: 1e-4\n", &[]);
    add("both", &with("model_name_or_path: x\nstage: sft"), &[]);
    add("not YAML", "base_model: [", &[]);
    add("unknown", &with("lora_rr: 3"), &[]);
    add("several", &with("rl: dpo\nload_in_8bit: true\npeft_use_dora: true\nneftune_noise_alpha: 5"), &[]);
    add("full", &without("adapter:"), &[]);
    add("no rate", &without("learning_rate"), &[]);
    add("no targets", &without("lora_target_linear"), &[]);
    add("optimiser", &AXOLOTL.replace("adamw_bnb_8bit", "lion_8bit"), &[]);
    add("schedule", &AXOLOTL.replace("cosine", "rex"), &[]);
    add("hub", &AXOLOTL.replace("./rows.jsonl", "someone/rows"), &[]);
    add("type", &AXOLOTL.replace("type: chat_template", "type: oasst"), &[]);
    add("field", &AXOLOTL.replace("field_messages: messages", "field_messages: turns"), &[]);
    add("rows held out", &AXOLOTL.replace("val_set_size: 0.1", "val_set_size: 200"), &[]);
    add("value", &AXOLOTL.replace("lora_r: 32", "lora_r: many"), &[]);
    add("tokens", &AXOLOTL.replace("pad_token", "eos_token"), &[]);
    add("batch", &format!("{}batch_size: 7\n", without("gradient_accumulation_steps")), &[]);
    add("names", LLAMA_FACTORY, &[]);
    let factory = |more: &str| format!("{LLAMA_FACTORY}{more}\n");
    add("stage", &LLAMA_FACTORY.replace("stage: sft", "stage: dpo"), &["data"]);
    add("full", &LLAMA_FACTORY.replace("finetuning_type: lora", "finetuning_type: full"), &["data"]);
    add("eight bits", &factory("quantization_bit: 8\nuse_galore: true"), &["data"]);
    add("unknown", &factory("lora_rnk: 8"), &["data"]);
    insta::assert_snapshot!(all);
}

/// What is set elsewhere is not read.
#[test]
fn what_is_typed_stands_in_for_what_cannot_be_read() {
    let hub =
        AXOLOTL.replace("./rows.jsonl", "someone/rows").replace("val_set_size: 0.1", "val_set_size: 200");
    let found = from_yaml(&hub, &["data", "val"]).unwrap();
    assert!(found.settings.data.is_empty() && found.settings.val.is_none());
    assert!(from_yaml(&format!("{AXOLOTL}load_in_8bit: true\n"), &["quant"]).is_ok());
}

/// Every value that is off does nothing, and every rule names a key once.
#[test]
fn rules_are_about_keys_that_are_set() {
    for (program, yaml) in [(&axolotl::PROGRAM, AXOLOTL), (&llama_factory::PROGRAM, LLAMA_FACTORY)] {
        let mut names: Vec<&str> = program.rules().iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{}", program.name);
        for (name, rule) in program.rules() {
            if let draft::Rule::Refused(_) = rule {
                let name = name.trim_end_matches('*');
                for off in ["false", "null", "[]", "0"] {
                    let found = from_yaml(&format!("{yaml}{name}: {off}\n"), &["data"]);
                    assert!(found.is_ok(), "{name}: {off}: {found:?}");
                }
                let found = from_yaml(&format!("{yaml}{name}: something\n"), &["data"]);
                assert!(found.is_err(), "{name}");
            }
            if let draft::Rule::Same(ours) = rule {
                assert!(crate::settings::key(ours).is_some(), "{name}");
            }
        }
    }
}

/// The settings that are printed are read again as the same.
#[test]
fn what_is_printed_is_read_again() {
    for (yaml, elsewhere) in [(AXOLOTL, [].as_slice()), (LLAMA_FACTORY, &["data"])] {
        let mut settings = from_yaml(yaml, elsewhere).unwrap().settings;
        if settings.data.is_empty() {
            settings.set("data", "rows.jsonl").unwrap();
        }
        settings.finish().unwrap();
        assert_eq!(Settings::from_yaml(&settings.print()).unwrap(), settings);
    }
}
