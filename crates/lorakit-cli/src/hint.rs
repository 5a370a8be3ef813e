//! What to do about an error: a thing to type, wherever there is one.

use lorakit::{Error, ErrorKind};
use lorakit_tensor::ErrorKind as FileError;

use crate::args::Command;
use crate::error::Stopped;

/// The hint for an error, if there is something useful to say; what `command` takes may decide it.
pub(crate) fn of(error: &Error, command: Option<&Command>) -> Option<String> {
    let path = error.path().map_or_else(|| "PATH".into(), |p| p.display().to_string());
    let text = match error.kind() {
        ErrorKind::File(kind) => return of_file(kind, error, &path),
        ErrorKind::Unmatched if matches!(command, Some(Command::Diff(_))) => {
            "`--base` is the model that both come from; leave it out to compare them with each other alone".into()
        }
        kind if matches!(command, Some(Command::Extract(_))) && of_extract(kind).is_some() => of_extract(kind)?.into(),
        ErrorKind::NoAdapter => match error.detail_lines() {
            [] => "an adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`".into(),
            _ => "name the folder that holds the adapter".into(),
        },
        ErrorKind::WrongRole => of_role(error, command).into(),
        ErrorKind::Config => "compare the file with the one in the adapter's repository".into(),
        ErrorKind::Damaged => format!("`lorakit inspect {path}` lists what is wrong; export the adapter again"),
        ErrorKind::NonFinite if !error.tensor_name().is_some_and(|t| t.contains("lora_")) => {
            "the file is damaged, or its values are too large for the output's dtype".into()
        }
        ErrorKind::NonFinite => {
            "training diverged or the file is damaged; `lorakit inspect --norms` shows which modules are affected".into()
        }
        ErrorKind::Unmergeable if error.to_string().contains("do not add up") => {
            "turn it into a plain LoRA first: `lorakit convert ADAPTER -o OUT --to peft --dora-to-lora --rank N --base BASE`"
                .into()
        }
        ErrorKind::Unmergeable => "serve it beside the base with the library that trained it".into(),
        ErrorKind::MutatedBase => {
            "convert it first: PEFT's `save_pretrained(..., path_initial_model_for_weight_conversion=...)`; or merge \
             into the residual model that training saved, with `--residual-base`"
                .into()
        }
        ErrorKind::Unmatched => {
            "is this the base the adapter was trained on? `lorakit inspect ADAPTER --base BASE` compares them".into()
        }
        ErrorKind::Ambiguous => "merge into the part of the model the adapter was trained on".into(),
        ErrorKind::Shape if error.to_string().contains("in one adapter than in another") => {
            "they were trained on different models; `lorakit inspect` names the base of each".into()
        }
        ErrorKind::Shape => {
            "the adapter belongs to a base of another size; `lorakit inspect ADAPTER` names the one it was trained on"
                .into()
        }
        ErrorKind::Conflict if error.to_string().contains("there is no sum") => {
            "merge them into the base one after another, in the order that should win: `lorakit merge`".into()
        }
        ErrorKind::Conflict => "merge the adapters one after another, in the order that should win".into(),
        ErrorKind::Quantized => {
            "merge into the unquantised model, or choose types that can be written: `--quantize Q8_0`".into()
        }
        ErrorKind::Retention => {
            "a base that lies on a coarse grid swallows small deltas: start from the 16-bit model, choose a finer type \
             (Q6_K, Q8_0), or give just the touched tensors one with `--promote`; `--force` writes it all the same"
                .into()
        }
        ErrorKind::Requantized => {
            "start from the 16-bit model; if there is none, `--requantize` accepts the loss".into()
        }
        ErrorKind::Mix => {
            "give such tensors a type of their own (`--tensor-type REGEX=Q8_0`), or leave out `--no-fallback`".into()
        }
        ErrorKind::Imatrix => {
            "make one of this model with llama.cpp: `llama-imatrix -m MODEL.gguf -f TEXT.txt -o imatrix.gguf`".into()
        }
        ErrorKind::NeedsBase => "name the base model with `--base`: its folder, or one that holds its `config.json`".into(),
        ErrorKind::Inexpressible if error.to_string().contains("higher rank") => {
            "`--approximate rank=64` takes the nearest LoRA of that rank, and says what it loses".into()
        }
        ErrorKind::Inexpressible if error.detail_lines().iter().any(|line| line.contains("replaces the base's")) => {
            "name the base with `--base`: weights that are copies of its are left out; whatever is more, only a merge holds"
                .into()
        }
        ErrorKind::Inexpressible if error.detail_lines().iter().any(|line| line.contains("DoRA")) => {
            "merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`; or take the LoRA that is \
             nearest to it: `--dora-to-lora --base BASE --rank 32`"
                .into()
        }
        ErrorKind::Inexpressible => {
            "merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`".into()
        }
        ErrorKind::Verification => "nothing was written; this should not happen, please report it".into(),
        ErrorKind::Usage if error.to_string().contains("rank 1 everywhere") => {
            "allow more, or take `--rank 1`".into()
        }
        ErrorKind::Usage if error.to_string().contains("`--density`") => {
            "`--density 0.5` keeps half of the entries".into()
        }
        ErrorKind::Usage if error.to_string().contains("no density") => "leave `--density` out".into(),
        ErrorKind::Usage if error.to_string().contains("no seed") => "leave `--seed` out".into(),
        ErrorKind::Usage if error.to_string().contains("entry by entry") => {
            "`--method svd` is the nearest to the weighted sum, whatever the ranks".into()
        }
        ErrorKind::Usage if error.to_string().contains("choice of the rank") => {
            "leave `--rank` out, and lower it afterwards: `lorakit reduce`".into()
        }
        ErrorKind::Usage if error.to_string().contains("already") => "there is nothing to convert".into(),
        ErrorKind::Usage if error.to_string().contains("uses no DoRA") => "leave it out".into(),
        ErrorKind::Usage if error.to_string().contains("and this format is a folder") => {
            match command {
                Some(Command::Extract(_)) => "name a folder, or the file's format: `--to gguf`, `--to kohya`".into(),
                _ => "name a folder, or the file's format: `--to gguf --base BASE`, `--to kohya`".into(),
            }
        }
        ErrorKind::Usage if error.to_string().contains("no name of a file") => {
            format!("name one: `-o adapter{}`", if error.to_string().contains(".gguf") { ".gguf" } else { ".safetensors" })
        }
        ErrorKind::Usage if error.to_string().contains(".gguf") => {
            "GGUF types go to `-o NAME.gguf`, all others to a folder".into()
        }
        ErrorKind::Unsupported if error.to_string().contains("is quantised by") => {
            "merge into the unquantised model, from which this one was made".into()
        }
        ErrorKind::Unsupported if error.to_string().contains("MXFP4") => {
            "take `mxfp8` or `nf4` for transformers, or the GGUF type `MXFP4_MOE` for llama.cpp".into()
        }
        ErrorKind::Usage if error.to_string().contains("shards") => {
            "name a folder as the output, or raise `--max-shard-size`".into()
        }
        ErrorKind::Usage => "name a folder as the output: `-o OUT/`".into(),
        ErrorKind::Interrupted => of_stopped(&Stopped::Clean).into(),
        _ => return None,
    };
    Some(text)
}

/// What to do after a signal.
pub(crate) fn of_stopped(stopped: &Stopped) -> &'static str {
    match stopped {
        Stopped::Clean => "nothing was written; run the same command again",
        Stopped::Left(_) => "the next run with the same output removes it",
        Stopped::Published => "only the report is missing; `lorakit inspect` shows what was written",
    }
}

/// What to name where a model stood for an adapter, or an adapter for a model.
fn of_role(error: &Error, command: Option<&Command>) -> &'static str {
    match command {
        Some(Command::Merge(_)) => "base first, then adapters: `lorakit merge BASE ADAPTER... -o OUT`",
        Some(Command::Verify(_)) => {
            "two models and an adapter: `lorakit verify MERGED --base BASE --adapter ADAPTER`"
        }
        Some(Command::Quantize(_)) => {
            "merge it into its base first: `lorakit merge BASE ADAPTER -o OUT.gguf --quantize Q4_K_M`"
        }
        Some(Command::Diff(_)) if error.to_string().contains("only two of a kind") => {
            "is it in the model? `lorakit verify MODEL --base BASE --adapter ADAPTER`; or make an adapter of the model \
             first: `lorakit extract BASE MODEL -o OUT --auto`"
        }
        Some(Command::Extract(_)) => "two models, first the base: `lorakit extract BASE TUNED -o OUT --auto`",
        _ if error.to_string().ends_with("an adapter is needed") => {
            "name an adapter, or make one of the model: `lorakit extract BASE MODEL -o OUT --auto`"
        }
        _ => "name a model: a folder with `config.json`, or a GGUF file",
    }
}

/// What to do where two models do not give an adapter.
fn of_extract(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Unmatched | ErrorKind::Shape => {
            "`lorakit diff BASE TUNED` compares them; `--skip REGEX` leaves out what only one of them has"
        }
        ErrorKind::Unchanged => "`lorakit diff BASE TUNED` shows what differs, and by how much",
        ErrorKind::Inexpressible => {
            "`--to peft` holds everything; `--skip REGEX` and `--embeddings skip` leave tensors as they are in the base"
        }
        _ => return None,
    })
}

fn of_file(kind: FileError, error: &Error, path: &str) -> Option<String> {
    let name = error
        .path()
        .and_then(|p| p.file_name())
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Some(match kind {
        FileError::Exists => {
            "`--force` replaces it (the old one is kept until the new one is complete)".into()
        }
        FileError::Occupied if name.is_empty() => "`-o ./merged` is a new folder in it".into(),
        FileError::Occupied => "choose another output, or move away what is there".into(),
        FileError::Appeared => {
            "see what that is; then choose another output, or move it away, and run the command again".into()
        }
        FileError::Changed => {
            "wait until nothing writes to it any more, or copy it first; then run the command again".into()
        }
        FileError::SameFile => "choose an output that is not an input".into(),
        FileError::Empty | FileError::Truncated => {
            "the download or copy is incomplete; compare its size with the original's and fetch it again"
                .into()
        }
        FileError::Mapping => "`--no-mmap` reads inputs by position instead of mapping them".into(),
        FileError::TooManyFiles => {
            "raise the limit: `ulimit -n 4096`; if that is refused, `ulimit -Hn` shows what you may have"
                .into()
        }
        FileError::LfsPointer => format!("fetch the file itself: `git lfs pull --include {name}`"),
        FileError::Html => {
            "a login or error page was saved instead; download it again, with a token if it is gated".into()
        }
        FileError::UnsafePickle => {
            "do not load this file with other tools either; ask for a safetensors version".into()
        }
        FileError::UnsafePath => {
            "the index is malicious or broken; fetch it again from a source you trust".into()
        }
        FileError::MissingShard => {
            "the download is incomplete; fetch the missing file into the same folder".into()
        }
        FileError::NoSpace => {
            "free some space or choose an output on another disk; `--dry-run` tells the size".into()
        }
        FileError::UnknownFormat => {
            format!("`lorakit inspect` reads safetensors, GGUF and Torch files; what is `{path}`?")
        }
        FileError::NotFound if ["need", "metadata key"].iter().any(|w| error.to_string().contains(w)) => {
            "the file was not converted completely, or is of another family than it says".into()
        }
        FileError::NotFound => "check the path; nothing is downloaded".into(),
        FileError::Limit => "the file is damaged, or is not what its name says".into(),
        FileError::Corrupt => {
            "the file is damaged or was made by a broken tool; fetch or export it again".into()
        }
        _ => return None,
    })
}
