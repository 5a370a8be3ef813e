//! What can stop a run.

use std::path::PathBuf;

use lorakit_tensor::problems;

problems! {
    /// What can stop a run.
    pub(crate) enum Problem {
        /// The output holds something that is not a run.
        NotEmpty { first: String } = Usage, "holds `{first}`, and no checkpoint of a run; name an empty folder";
        /// The output holds a run, and it shall not go on.
        HasRun { checkpoint: String } = Usage,
            "holds a run that got as far as `{checkpoint}`; set `resume: auto` to go on with it, or name an empty folder";
        /// Another process trains into the output.
        Busy = Usage, "another run is writing to it; wait until it has ended, or name another output";
        /// The path is not a checkpoint.
        NoCheckpoint = Usage,
            "is not a checkpoint: it has no `trainer_state.json`; name a folder `checkpoint-N` of a run";
        /// The state cannot be read.
        State { reason: String } = File(Corrupt), "is not the state of a run: {reason}";
        /// The optimiser's file belongs to another adapter.
        Tensor { name: String, found: String, expected: String } = File(Corrupt),
            "`{name}` has the shape {found}; this adapter needs {expected}";
        /// The optimiser's file lacks something.
        NoTensor { name: String } = File(Incomplete), "has no tensor `{name}`";
        /// The optimiser has forgotten everything.
        Forgotten { step: u64 } = File(Corrupt),
            "all moments of the optimiser are zero after {step} steps: they were not saved, and going on would start anew";
        /// The run was begun with something else.
        Changed { changes: Vec<String> } = Usage,
            "the run in this checkpoint was begun with something else: {}; give it back, or begin anew in another output",
            changes.join("; ");
        /// Nothing would be trained.
        NoRate { steps: u64, warmup: u64 } = Usage,
            "the learning rate is 0 in every step, since a warm-up begins at 0: `warmup_steps` is {warmup}, of {steps}; lower it, or \
             train more steps";
        /// All steps are done.
        Complete { steps: u64 } = Usage,
            "all {steps} steps of this run are done; to train on, begin anew with `adapter` set to its output";

        /// A token that the base does not have.
        Token { token: u32, line: u64, vocabulary: usize } = Data,
            "line {line} has the token {token}, and the base has {vocabulary}; the tokenizer is of another model";
        /// A loss that is not a number.
        Loss { step: u64, kept: Option<PathBuf> } = NonFinite,
            "the loss of step {step} is not a finite number, so the run has ended; {}", last(kept.as_ref());
        /// A gradient that is not a number.
        Gradient { step: u64, kept: Option<PathBuf> } = NonFinite,
            "a gradient of step {step} is not a finite number, so the run has ended; {}", last(kept.as_ref());
        /// A validation loss that is not a number.
        Validation { step: u64, kept: Option<PathBuf> } = NonFinite,
            "the validation loss after step {step} is not a finite number, so the run has ended; {}", last(kept.as_ref());

        /// What was saved computes something else.
        Reloaded { off: f64 } = Verification,
            "the adapter that was saved does not compute what was trained: its logits are off by {off:e}";
        /// What was saved changes nothing.
        NoEffect = Verification, "the adapter that was saved changes no logit, so nothing was learned; raise `lr` or `max_steps`";

        /// It does not fit.
        Memory { sum: String, limit: String, advice: String } = Usage,
            "this run needs {sum}, and may take {limit}; {advice}";
    }
}

fn last(kept: Option<&PathBuf>) -> String {
    match kept {
        Some(path) => format!("the last checkpoint is `{}`; lower `lr` and begin anew", path.display()),
        None => "there is no checkpoint yet; lower `lr`, or look for bad rows".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn messages_are_fragments_that_name_no_flag() {
        for problem in Problem::samples() {
            let text = problem.to_string();
            assert!(
                !text.is_empty() && !text.contains("--") && !text.ends_with('.'),
                "{problem:?}: {text:?}"
            );
        }
    }
}
