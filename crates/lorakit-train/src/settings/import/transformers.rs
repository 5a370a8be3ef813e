//! Keys of transformers, which both programs hand on to it and name as it does.

use super::draft::Rule;
use super::draft::Rule::{Idle, Quiet, Read, Refused, Same};
use super::why::{GPU, LOADING};

pub(super) const KEYS: &[(&str, Rule)] = &[
    ("output_dir", Same("output")),
    ("resume_from_checkpoint", Read),
    ("seed", Same("seed")),
    ("gradient_accumulation_steps", Read),
    ("max_steps", Read),
    ("warmup_ratio", Read),
    ("warmup_steps", Read),
    ("weight_decay", Read),
    ("adam_beta1", Read),
    ("adam_beta2", Read),
    ("adam_epsilon", Read),
    ("max_grad_norm", Read),
    ("eval_steps", Read),
    ("save_steps", Read),
    ("save_total_limit", Same("keep")),
    ("logging_steps", Same("log_every")),
    ("load_best_model_at_end", Read),
    ("bf16", Quiet),
    ("fp16", Quiet),
    ("tf32", Quiet),
    ("group_by_length", Refused("rows are drawn whatever their length")),
    ("remove_unused_columns", Idle(LOADING)),
    ("dataloader_*", Idle(LOADING)),
    (
        "gradient_checkpointing",
        Idle("`recompute` decides what is computed again, and takes what the memory allows"),
    ),
    ("deepspeed", Idle(GPU)),
    ("fsdp*", Idle(GPU)),
    ("local_rank", Idle(GPU)),
    ("eval_strategy", Idle("`eval_every` says when")),
    ("save_strategy", Idle("`save_every` says when")),
    ("save_only_model", Idle("checkpoints hold all that resuming takes")),
    ("save_safetensors", Quiet),
    ("neftune_noise_alpha", Refused("NEFTune is not trained")),
];
