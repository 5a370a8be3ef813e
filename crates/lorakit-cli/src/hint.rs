//! What to do about an error: the library's hint, with the flag or command to type.

use lorakit::{Error, Hint};

use crate::args::Command;
use crate::error::Stopped;
use crate::hub;

/// The hint for an error, if there is something useful to say; it may depend on what `command` takes.
pub(crate) fn of(error: &Error, command: Option<&Command>) -> Option<String> {
    if error.hint() == Some(Hint::FetchIntoCache)
        && let Some(line) = error.path().and_then(hub::download_again)
    {
        return Some(line);
    }
    if let Some(advice) = error.path().and_then(hub::advice) {
        return Some(advice);
    }
    let hint = error.hint()?;
    let typed = command.and_then(|command| of_command(hint, command)).or_else(|| typed(hint));
    Some(typed.map_or_else(|| about(hint, error), str::to_string))
}

/// What to do after a signal.
pub(crate) fn of_stopped(stopped: &Stopped) -> &'static str {
    match stopped {
        Stopped::Clean => "nothing was written; run the same command again",
        Stopped::Left(_) => "the next run with the same output removes it",
        Stopped::Saved { at: Some(_), .. } => "the same command with `--resume` goes on there, bit for bit",
        Stopped::Saved { at: None, .. } => "nothing was saved; run the same command again",
        Stopped::Unsaved => {
            "the same command with `--resume` goes on at the latest checkpoint, if there is one"
        }
        Stopped::Published => "only the report is missing; `lorakit inspect` shows what was written",
    }
}

/// A hint for which the command tells more than the error.
fn of_command(hint: Hint, command: &Command) -> Option<&'static str> {
    Some(match (hint, command) {
        (Hint::NameAdapter | Hint::NameModel, Command::Merge(_)) => {
            "base first, then adapters: `lorakit merge BASE ADAPTER... -o OUT`"
        }
        (Hint::NameAdapter | Hint::NameModel, Command::Verify(_)) => {
            "two models and an adapter: `lorakit verify MERGED --base BASE --adapter ADAPTER`"
        }
        (Hint::NameModel, Command::Quantize(_)) => {
            "merge it into its base first: `lorakit merge BASE ADAPTER -o OUT.gguf --quantize Q4_K_M`"
        }
        (Hint::StartFromFloats, Command::Train(_) | Command::Eval(_) | Command::Generate(_)) => {
            "`--quant keep` takes it as it is stored; or start from the 16-bit model"
        }
        (Hint::NameModel, Command::Extract(_)) => {
            "two models, first the base: `lorakit extract BASE TUNED -o OUT --auto`"
        }
        (Hint::CheckBase, Command::Diff(_)) => {
            "`--base` is the model that both come from; leave it out to compare them with each other alone"
        }
        (Hint::CheckBase, Command::Extract(_)) => {
            "`lorakit diff BASE TUNED` compares them; `--skip REGEX` leaves out what only one of them has"
        }
        (Hint::BaseOfAnotherSize, Command::Extract(_)) => {
            "is this the base that training started from? `lorakit inspect` shows the sizes of a model; `--skip REGEX` leaves \
             tensors of another shape out"
        }
        (Hint::MergeIntoBase | Hint::NameBaseForCopies | Hint::MergeOrNearestLora, Command::Extract(_)) => {
            "`--to peft` holds everything; `--skip REGEX` and `--embeddings skip` leave tensors as they are in the base"
        }
        (Hint::CheckData, Command::Generate(_)) => {
            "a row asks with `messages` or a `prompt`; `lorakit train --check-data` shows how many tokens rows have"
        }
        (Hint::NameFolderOrFormat, Command::Edit(_)) => {
            "name a folder; `lorakit convert` writes other formats"
        }
        (Hint::NameFolderOrFormat, Command::Extract(_)) => {
            "name a folder, or the file's format: `--to gguf`, `--to kohya`"
        }
        _ => return None,
    })
}

/// The hints that the command words with its flags; for the others the library's words do.
fn typed(hint: Hint) -> Option<&'static str> {
    Some(match hint {
        Hint::NameAdapter => {
            "name an adapter, or make one of the model: `lorakit extract BASE MODEL -o OUT --auto`"
        }
        Hint::CompareTwoOfAKind => {
            "is it in the model? `lorakit verify MODEL --base BASE --adapter ADAPTER`; or make an adapter of the model \
             first: `lorakit extract BASE MODEL -o OUT --auto`"
        }
        Hint::LowerWeights => {
            "lower the weights of the adapters (`ADAPTER=0.5`); if they are not large, training diverged: \
             `lorakit inspect --norms` shows where"
        }
        Hint::TrainingDiverged => {
            "training diverged or the file is damaged; `lorakit inspect --norms` shows which modules are affected"
        }
        Hint::MakePlainLora => {
            "turn it into a plain LoRA first: `lorakit convert ADAPTER -o OUT --to peft --dora-to-lora --rank N --base BASE`"
        }
        Hint::ConvertMutated => {
            "convert it first: PEFT's `save_pretrained(..., path_initial_model_for_weight_conversion=...)`; or merge \
             into the residual model that training saved, with `--residual-base`"
        }
        Hint::CheckBase => {
            "is this the base the adapter was trained on? `lorakit inspect ADAPTER --base BASE` compares them"
        }
        Hint::AdaptersOfTwoBases => {
            "they were trained on different models; `lorakit inspect` names the base of each"
        }
        Hint::BaseOfAnotherSize => {
            "the adapter belongs to a base of another size; `lorakit inspect ADAPTER` names the one it was trained on"
        }
        Hint::MergeInsteadOfCombining => {
            "merge them into the base one after another, in the order that should win: `lorakit merge`"
        }
        Hint::UnquantizedModel => {
            "merge into the unquantised model, or choose types that can be written: `--quantize Q8_0`"
        }
        Hint::FinerType => {
            "a base that lies on a coarse grid swallows small deltas: start from the 16-bit model, choose a finer type \
             (Q6_K, Q8_0), or give just the touched tensors one with `--promote`; `--force` writes it all the same"
        }
        Hint::StartFromFloats => {
            "start from the 16-bit model; if there is none, `--requantize` accepts the loss"
        }
        Hint::AnotherGivenType => {
            "give `--output-tensor-type` or `--token-embedding-type` a type that fits, or leave it out: then the mix \
             decides"
        }
        Hint::OtherTypeByName => {
            "give such tensors a type whose blocks divide their rows: `--tensor-type REGEX=Q8_0`"
        }
        Hint::TypeOfItsOwn => {
            "give such tensors a type of their own (`--tensor-type REGEX=Q8_0`), or leave out `--no-fallback`"
        }
        Hint::MakeImportances => {
            "name an importance matrix of this model with `--imatrix`; llama.cpp makes one: \
             `llama-imatrix -m MODEL.gguf -f TEXT.txt -o imatrix.gguf`"
        }
        Hint::NameBase => {
            "name the base model with `--base`: its folder, or one that holds its `config.json`"
        }
        Hint::NameBaseForCopies => {
            "name the base with `--base`: tensors identical to its own are left out; anything else can only be kept by \
             merging"
        }
        Hint::Approximate => {
            "`--approximate rank=64` takes the nearest LoRA of that rank, and says what it loses"
        }
        Hint::MergeOrNearestLora => {
            "merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`; or take the LoRA that is \
             nearest to it: `--dora-to-lora --base BASE --rank 32`"
        }
        Hint::ShareTied => {
            "`--tied share` keeps one tensor, which the change then reaches under every name, as in PEFT's own merge"
        }
        Hint::ConfigureTies => {
            "if input and output are two tensors of the base, set `\"tie_word_embeddings\": false` in its `config.json`"
        }
        Hint::MergeIntoBase => {
            "merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`"
        }
        Hint::AllowLeastOrSmallerDtype => {
            "allow at least that: no rank is below 1; a smaller dtype takes less (`--dtype f16`; in GGUF q8_0 and q4_0)"
        }
        Hint::KeepHalf => "`--density 0.5` keeps half of the entries",
        Hint::PeftHoldsIt => {
            "convert it to PEFT's format first, which has a place for everything: `lorakit convert ADAPTER -o OUT --to peft`"
        }
        Hint::MakePlain => {
            "convert it first, which makes plain factors of it: `lorakit convert ADAPTER -o OUT --to FORMAT`"
        }
        Hint::GiveDtype => "choose another dtype for the factors: `--dtype f32`",
        Hint::ListNames => "`lorakit registry list` shows what there is",
        Hint::MoveTag => {
            "give it another tag, or move this one with `--force`: what it points to now stays, as `TAG@{1}`"
        }
        Hint::AddFirst => "`lorakit registry add ADAPTER NAME:TAG` makes it",
        Hint::RepairRegistry => {
            "`lorakit registry repair` mends what it can; what is lost comes back with `lorakit registry add` of the same \
             folder"
        }
        Hint::ConvertPickle => {
            "`lorakit convert ADAPTER -o OUT` makes safetensors of it, reading the pickle as data: add OUT"
        }
        Hint::SignFirst => "whoever made it signs it: `lorakit registry sign NAME:TAG --key KEY`",
        Hint::ConvertForServer => {
            "`lorakit convert NAME:TAG -o OUT --to FORMAT` makes what the server loads: add OUT, and export that"
        }
        Hint::ListModules => "`lorakit inspect ADAPTER --verbose` lists the modules of an adapter",
        Hint::OriginalBase => {
            "only the original base is without it; `lorakit inspect MODEL` shows what the model was made from"
        }
        Hint::OriginalBaseOrLeaveOut => {
            "only the original base has them; `--skip REGEX` keeps these modules as they are in the model, and takes the \
             rest out"
        }
        Hint::LeaveOutDensity => "leave `--density` out",
        Hint::LeaveOutMajority => "leave `--majority-sign` out",
        Hint::LeaveOutSeed => "leave `--seed` out",
        Hint::CombineDeltas => "add `_svd` to the name of the method: deltas may have any ranks",
        Hint::CombineBySvd => "`--method svd` is the nearest to the weighted sum, whatever the ranks",
        Hint::ReduceAfterwards => "leave `--rank` out, and lower it afterwards: `lorakit reduce`",
        Hint::QuantizeInstead => "`lorakit quantize` changes the types of a GGUF model",
        Hint::NameFolderOrFormat => {
            "name a folder, or the file's format: `--to gguf --base BASE`, `--to kohya`"
        }
        Hint::NamePreTokenizer => "`--pre NAME` names the rule of llama.cpp that it follows",
        Hint::CheckData => "`lorakit train --check-data` shows what rows become, and what is trained of them",
        Hint::NameFormatOfRows => {
            "`--format NAME` says which is meant; one of several files says it for itself: \
             `data: [{path: FILE, format: NAME}]`"
        }
        Hint::AllowUnmaskedEnds => {
            "use a chat template whose generation tags enclose the end of turn (`--chat-template FILE`); \
             `--allow-unmasked-eot` trains without it"
        }
        Hint::NameTemplate => "`--chat-template FILE` names the template that the model was trained with",
        Hint::NameGgufFile => "name a file that ends in `.gguf`: `-o NAME.gguf`",
        Hint::AnotherName => "choose a name without the numbers of parts: `-o NAME.gguf`",
        Hint::OtherImportances => {
            "an importance matrix of zeros measures nothing: make it again (`llama-imatrix -m MODEL.gguf -f TEXT.txt \
             -o imatrix.gguf`), or leave `--imatrix` out"
        }
        Hint::BlocksInGguf => {
            "write GGUF, which has that type: `-o NAME.gguf --to gguf --base BASE`; or leave `--dtype` out"
        }
        Hint::NameTuned => {
            "they hold the same values: first the base, then the tuned model, as in `lorakit extract BASE TUNED`"
        }
        Hint::NameSafetensorsFile => "name a file that ends in `.safetensors`: `-o adapter.safetensors`",
        Hint::NameFolder => "name a folder as the output: `-o OUT/`",
        Hint::OneFile => "name a folder as the output, or raise `--max-shard-size`",
        Hint::SeeWhatDiffers => "`lorakit diff BASE TUNED` shows what differs, and by how much",
        Hint::RunAgain => of_stopped(&Stopped::Clean),
        Hint::AllowReplacing => "`--force` replaces it (the old one is kept until the new one is complete)",
        Hint::ReadByPosition => "`--no-mmap` reads inputs by position instead of mapping them",
        Hint::FreeSpace => "free some space or choose an output on another disk; `--dry-run` tells the size",
        _ => return None,
    })
}

/// The library's hint, with the path of the error.
fn about(hint: Hint, error: &Error) -> String {
    let path = error.path().map_or_else(|| "PATH".into(), |path| path.display().to_string());
    let name = error.path().and_then(|path| path.file_name());
    match (hint, name) {
        (Hint::ExportAgain, _) => {
            format!("`lorakit inspect {path}` lists what is wrong; export the adapter again")
        }
        (Hint::WhatIsIt, _) => {
            format!("`lorakit inspect` reads safetensors, GGUF and Torch files; what is `{path}`?")
        }
        (Hint::FetchLfs, Some(name)) => {
            format!("fetch the file itself: `git lfs pull --include {}`", name.display())
        }
        (Hint::NameOneFile, _) => format!("name one of the files: `{path}/NAME`"),
        // A folder without a name: `.` or `/`.
        (Hint::AnotherOutput, None) => "`-o ./merged` is a new folder in it".into(),
        _ => hint.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lorakit::Hint;

    use super::typed;

    /// The hints for users who type, and for those who call the library.
    #[test]
    fn every_hint() {
        let lines = Hint::ALL.iter().map(|hint| match typed(*hint) {
            Some(text) => format!("{hint:?}\n  {hint}\n  > {text}"),
            None => format!("{hint:?}\n  {hint}"),
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }
}
