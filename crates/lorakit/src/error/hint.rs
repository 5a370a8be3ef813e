//! What to do about an error, in words that fit any caller; the command says it with its flags.

use std::fmt;

use lorakit_tensor::ErrorKind as FileErrorKind;

use super::kind::ErrorKind;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// Name an adapter: a folder with `adapter_config.json` and `adapter_model.safetensors`.
    NameAdapterFolder,
    /// Name the folder that holds the adapter.
    NameInnerFolder,
    /// Name an adapter or a model: a folder with `adapter_config.json` or `config.json`, or a file of tensors.
    NameEither,
    /// Name an adapter, or extract one from the model.
    NameAdapter,
    /// Name a model: a folder with `config.json`, or a GGUF file.
    NameModel,
    /// Verify whether the adapter is in the model, or extract an adapter from the model first.
    CompareTwoOfAKind,
    /// Compare the file with the one in the repository of the adapter.
    CompareConfiguration,
    /// Export the adapter again; inspecting it lists what is wrong.
    ExportAgain,
    /// The file is damaged, or its values are too large for the dtype of the output.
    ValuesTooLarge,
    /// The deltas are too large: lower the weights of the adapters; if they are not large, training diverged.
    LowerWeights,
    /// Training diverged, or the file is damaged; the norms of the modules show which are affected.
    TrainingDiverged,
    /// Serve it beside the base with the library that trained it.
    ServeBeside,
    /// Turn it into a plain LoRA first: the nearest one of a given rank.
    MakePlainLora,
    /// Convert it first (PEFT: `save_pretrained(..., path_initial_model_for_weight_conversion=...)`), or merge it into the residual model that training saved.
    ConvertMutated,
    /// Check that this is the base that the adapter was trained on; inspecting the adapter names it.
    CheckBase,
    /// Merge into the part of the model that the adapter was trained on.
    MergeIntoPart,
    /// They were trained on different models; inspecting them names the base of each.
    AdaptersOfTwoBases,
    /// The adapter belongs to a base of another size; inspecting it names the one that it was trained on.
    BaseOfAnotherSize,
    /// Merge the adapters one after another, in the order that should win.
    MergeInTurn,
    /// Name the DoRA adapter first.
    DoraFirst,
    /// Merge them into the base one after another, in the order that should win.
    MergeInsteadOfCombining,
    /// Merge into the unquantised model, or choose types that can be written.
    UnquantizedModel,
    /// Merge into the unquantised model from which this one was made.
    OriginalModel,
    /// A base that lies on a coarse grid swallows small deltas: start from the 16-bit model, choose a finer type, or give just the touched tensors one.
    FinerType,
    /// Start from the 16-bit model, or accept the loss of quantising twice.
    StartFromFloats,
    /// Give such tensors a type of their own, or allow another type where none fits.
    TypeOfItsOwn,
    /// Give the option a type that fits.
    AnotherGivenType,
    /// Give tensors that nothing else fits a type by their names.
    OtherTypeByName,
    /// Make one of this model with llama.cpp: `llama-imatrix -m MODEL.gguf -f TEXT.txt -o imatrix.gguf`.
    MakeImportances,
    /// Name the base model: its folder, or one that holds its `config.json`.
    NameBase,
    /// Name the base: weights that are identical to its own are left out; anything else can only be kept by merging.
    NameBaseForCopies,
    /// Ask for the nearest LoRA of a given rank: it says what that loses.
    Approximate,
    /// Merge it into its base, which holds everything, or take the LoRA that is nearest to it.
    MergeOrNearestLora,
    /// List what the registry has.
    ListNames,
    /// Give the artifact another tag, or move the one it has.
    MoveTag,
    /// A registry begins with the first artifact that is added.
    AddFirst,
    /// Repair the registry; what is lost comes back when the same folder is added again.
    RepairRegistry,
    /// Convert the pickle to safetensors first; it is read as data, and nothing in it runs.
    ConvertPickle,
    /// Convert it to the format that the server loads, and add that.
    ConvertForServer,
    /// Whoever made it signs it with a private key.
    SignFirst,
    /// Merge it into its base, which holds everything.
    MergeIntoBase,
    /// Keep one tensor, which the change then reaches under every name, as in PEFT's own merge.
    ShareTied,
    /// Merge into the resized model that was trained, which was saved with all rows.
    ResizedModel,
    /// Say `"tie_word_embeddings": false` in the configuration if input and output are two tensors.
    ConfigureTies,
    /// Nothing was written; this should not happen, please report it.
    ReportThis,
    /// Allow at least that: no rank is below 1.
    AllowLeast,
    /// Allow at least that, since no rank is below 1; or store factors in a smaller dtype.
    AllowLeastOrSmallerDtype,
    /// A density of 0.5 keeps half of the entries.
    KeepHalf,
    /// Convert it to PEFT's format first, which has a place for everything.
    PeftHoldsIt,
    /// Turn it into plain factors first, by converting it.
    MakePlain,
    /// Give the factors a dtype with a larger range, or that holds single values.
    GiveDtype,
    /// Inspecting an adapter lists its modules.
    ListModules,
    /// Only the original base is without it.
    OriginalBase,
    /// Only the original base has them; leaving these modules out keeps them as they are in the model.
    OriginalBaseOrLeaveOut,
    /// Leave the density out.
    LeaveOutDensity,
    /// Leave the way to elect signs out.
    LeaveOutMajority,
    /// Leave the seed out.
    LeaveOutSeed,
    /// Methods whose names end in `_svd` combine deltas, whatever the ranks.
    CombineDeltas,
    /// The method `svd` is nearest to the weighted sum, whatever the ranks.
    CombineBySvd,
    /// Leave the rank out, and reduce the result afterwards.
    ReduceAfterwards,
    /// There is nothing to convert.
    NothingToConvert,
    /// Quantise it instead: that changes the types.
    QuantizeInstead,
    /// Leave it out.
    LeaveItOut,
    /// Name a folder as the output, or the format of the file.
    NameFolderOrFormat,
    /// Name the rule of llama.cpp by which the tokenizer cuts text.
    NamePreTokenizer,
    /// The report on the data shows what its rows become, and what is trained of them.
    CheckData,
    /// Say what rows mean.
    NameFormatOfRows,
    /// Use a chat template whose generation tags enclose the end of turn, or allow to train without it.
    AllowUnmaskedEnds,
    /// Name a chat template.
    NameTemplate,
    /// The format of adapters must be one that is written.
    WrittenFormat,
    /// Name a file that ends in `.gguf` as the output.
    NameGgufFile,
    /// Name one of the files instead of the folder.
    NameOneFile,
    /// Give the part its own name back; or join the parts with llama.cpp: `llama-gguf-split --merge FIRST OUT`.
    NamePart,
    /// Give the output a name without numbers of parts.
    AnotherName,
    /// Make the importance matrix again, or leave it out.
    OtherImportances,
    /// Write GGUF, which has that type, or leave the dtype out.
    BlocksInGguf,
    /// They hold the same values; one must be the model that training made of the other.
    NameTuned,
    /// Put the tokenizer of the base beside the weights.
    AddTokenizer,
    /// Name a file that ends in `.safetensors` as the output.
    NameSafetensorsFile,
    /// Name a folder as the output.
    NameFolder,
    /// Use `mxfp8` or `nf4` for transformers, or the GGUF type `MXFP4_MOE` for llama.cpp.
    OtherFourBit,
    /// Name a folder as the output, or allow larger shards.
    OneFile,
    /// A comparison of the two models shows what differs, and by how much.
    SeeWhatDiffers,
    /// Nothing was written; run it again.
    RunAgain,
    /// Allow replacing it: the old one is kept until the new one is complete.
    AllowReplacing,
    /// Choose another output, or move away what is there.
    AnotherOutput,
    /// See what that is; then choose another output, or move it away, and run again.
    SeeWhatAppeared,
    /// Wait until nothing writes to it any more, or copy it first; then run again.
    WaitForWriters,
    /// Choose an output that is not an input.
    OutputIsInput,
    /// The download or copy is incomplete; compare its size with the original and fetch it again.
    FetchAgain,
    /// Read inputs by position instead of mapping them.
    ReadByPosition,
    /// Raise the limit of open files: `ulimit -n 4096`; if that is refused, `ulimit -Hn` shows the highest allowed.
    RaiseFileLimit,
    /// Download it again, in place of the copy in the hub cache.
    FetchIntoCache,
    /// Fetch the file itself: `git lfs pull`.
    FetchLfs,
    /// A login or error page was saved instead; download it again, with a token if it is gated.
    DownloadAgain,
    /// Do not load this file with other tools either; ask for a safetensors version.
    UnsafeFile,
    /// The index is malicious or broken; fetch it again from a source you trust.
    UntrustedIndex,
    /// The download is incomplete; fetch the missing file into the same folder.
    FetchShard,
    /// Free some space, or choose an output on another disk.
    FreeSpace,
    /// Safetensors, GGUF and Torch files are read; this is none of them.
    WhatIsIt,
    /// The file was not converted completely, or is not of the family that it names.
    ConvertedPartly,
    /// Check the path; nothing is downloaded.
    CheckPath,
    /// The file is damaged, or is not what its name says.
    NotWhatItSays,
    /// The file is damaged, or was made by a broken tool; fetch or export it again.
    DamagedFile,
}

impl Hint {
    /// Every hint.
    pub const ALL: &[Hint] = &[
        Hint::NameAdapterFolder,
        Hint::NameInnerFolder,
        Hint::NameEither,
        Hint::NameAdapter,
        Hint::NameModel,
        Hint::CompareTwoOfAKind,
        Hint::CompareConfiguration,
        Hint::ExportAgain,
        Hint::ValuesTooLarge,
        Hint::LowerWeights,
        Hint::TrainingDiverged,
        Hint::ServeBeside,
        Hint::MakePlainLora,
        Hint::ConvertMutated,
        Hint::CheckBase,
        Hint::MergeIntoPart,
        Hint::AdaptersOfTwoBases,
        Hint::BaseOfAnotherSize,
        Hint::MergeInTurn,
        Hint::DoraFirst,
        Hint::MergeInsteadOfCombining,
        Hint::UnquantizedModel,
        Hint::OriginalModel,
        Hint::FinerType,
        Hint::StartFromFloats,
        Hint::TypeOfItsOwn,
        Hint::AnotherGivenType,
        Hint::OtherTypeByName,
        Hint::MakeImportances,
        Hint::NameBase,
        Hint::NameBaseForCopies,
        Hint::Approximate,
        Hint::MergeOrNearestLora,
        Hint::ListNames,
        Hint::MoveTag,
        Hint::AddFirst,
        Hint::RepairRegistry,
        Hint::ConvertPickle,
        Hint::ConvertForServer,
        Hint::SignFirst,
        Hint::MergeIntoBase,
        Hint::ShareTied,
        Hint::ResizedModel,
        Hint::ConfigureTies,
        Hint::ReportThis,
        Hint::AllowLeast,
        Hint::AllowLeastOrSmallerDtype,
        Hint::KeepHalf,
        Hint::PeftHoldsIt,
        Hint::MakePlain,
        Hint::GiveDtype,
        Hint::ListModules,
        Hint::OriginalBase,
        Hint::OriginalBaseOrLeaveOut,
        Hint::LeaveOutDensity,
        Hint::LeaveOutMajority,
        Hint::LeaveOutSeed,
        Hint::CombineDeltas,
        Hint::CombineBySvd,
        Hint::ReduceAfterwards,
        Hint::NothingToConvert,
        Hint::QuantizeInstead,
        Hint::LeaveItOut,
        Hint::NameFolderOrFormat,
        Hint::NamePreTokenizer,
        Hint::CheckData,
        Hint::NameFormatOfRows,
        Hint::AllowUnmaskedEnds,
        Hint::NameTemplate,
        Hint::WrittenFormat,
        Hint::NameGgufFile,
        Hint::NameOneFile,
        Hint::NamePart,
        Hint::AnotherName,
        Hint::OtherImportances,
        Hint::BlocksInGguf,
        Hint::NameTuned,
        Hint::AddTokenizer,
        Hint::NameSafetensorsFile,
        Hint::NameFolder,
        Hint::OtherFourBit,
        Hint::OneFile,
        Hint::SeeWhatDiffers,
        Hint::RunAgain,
        Hint::AllowReplacing,
        Hint::AnotherOutput,
        Hint::SeeWhatAppeared,
        Hint::WaitForWriters,
        Hint::OutputIsInput,
        Hint::FetchAgain,
        Hint::ReadByPosition,
        Hint::RaiseFileLimit,
        Hint::FetchIntoCache,
        Hint::FetchLfs,
        Hint::DownloadAgain,
        Hint::UnsafeFile,
        Hint::UntrustedIndex,
        Hint::FetchShard,
        Hint::FreeSpace,
        Hint::WhatIsIt,
        Hint::ConvertedPartly,
        Hint::CheckPath,
        Hint::NotWhatItSays,
        Hint::DamagedFile,
    ];

    /// The hint that follows from the kind of an error, from the tensor that it is about and from its lines.
    pub(super) fn of(kind: ErrorKind, tensor: Option<&str>, details: &[String]) -> Option<Self> {
        Some(match kind {
            ErrorKind::File(kind) => return Self::of_file(kind),
            ErrorKind::NoAdapter if details.is_empty() => Hint::NameAdapterFolder,
            ErrorKind::NoAdapter => Hint::NameInnerFolder,
            ErrorKind::WrongRole => Hint::NameModel,
            ErrorKind::Config => Hint::CompareConfiguration,
            ErrorKind::Damaged => Hint::ExportAgain,
            ErrorKind::NonFinite => match tensor {
                Some(name) if name.contains("lora_") => Hint::TrainingDiverged,
                _ => Hint::ValuesTooLarge,
            },
            ErrorKind::Unmergeable => Hint::ServeBeside,
            ErrorKind::MutatedBase => Hint::ConvertMutated,
            ErrorKind::Unmatched => Hint::CheckBase,
            ErrorKind::Ambiguous => Hint::MergeIntoPart,
            ErrorKind::Shape => Hint::BaseOfAnotherSize,
            ErrorKind::Conflict => Hint::MergeInTurn,
            ErrorKind::Quantized => Hint::UnquantizedModel,
            ErrorKind::Requantized => Hint::StartFromFloats,
            ErrorKind::Mix => Hint::TypeOfItsOwn,
            ErrorKind::Imatrix => Hint::MakeImportances,
            ErrorKind::Retention => Hint::FinerType,
            ErrorKind::NeedsBase => Hint::NameBase,
            ErrorKind::Inexpressible => Hint::MergeIntoBase,
            ErrorKind::Unchanged => Hint::SeeWhatDiffers,
            ErrorKind::Verification => Hint::ReportThis,
            ErrorKind::Data => Hint::CheckData,
            ErrorKind::Interrupted => Hint::RunAgain,
            ErrorKind::BaseMismatch => Hint::CheckBase,
            // What to do depends on the room.
            ErrorKind::Moved | ErrorKind::Untrusted | ErrorKind::Unsafe | ErrorKind::Network => return None,
            ErrorKind::Usage | ErrorKind::Unsupported => return None,
        })
    }

    fn of_file(kind: FileErrorKind) -> Option<Self> {
        Some(match kind {
            FileErrorKind::Exists => Hint::AllowReplacing,
            FileErrorKind::Occupied => Hint::AnotherOutput,
            FileErrorKind::Appeared => Hint::SeeWhatAppeared,
            FileErrorKind::Changed => Hint::WaitForWriters,
            FileErrorKind::SameFile => Hint::OutputIsInput,
            FileErrorKind::Empty | FileErrorKind::Truncated => Hint::FetchAgain,
            FileErrorKind::Mapping => Hint::ReadByPosition,
            FileErrorKind::TooManyFiles => Hint::RaiseFileLimit,
            FileErrorKind::LfsPointer => Hint::FetchLfs,
            FileErrorKind::Html => Hint::DownloadAgain,
            FileErrorKind::UnsafePickle => Hint::UnsafeFile,
            FileErrorKind::UnsafePath => Hint::UntrustedIndex,
            FileErrorKind::MissingShard => Hint::FetchShard,
            FileErrorKind::NoSpace => Hint::FreeSpace,
            FileErrorKind::UnknownFormat => Hint::WhatIsIt,
            FileErrorKind::Incomplete => Hint::ConvertedPartly,
            FileErrorKind::NotFound => Hint::CheckPath,
            FileErrorKind::Several => Hint::NameOneFile,
            FileErrorKind::PartName => Hint::NamePart,
            FileErrorKind::Limit => Hint::NotWhatItSays,
            FileErrorKind::Corrupt => Hint::DamagedFile,
            _ => return None,
        })
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hint::NameAdapterFolder => "name an adapter: a folder with `adapter_config.json` and `adapter_model.safetensors`",
            Hint::NameInnerFolder => "name the folder that holds the adapter",
            Hint::NameEither => "name a folder with `adapter_config.json` or `config.json`, or a file of tensors",
            Hint::NameAdapter => "name an adapter, or extract one from the model",
            Hint::NameModel => "name a model: a folder with `config.json`, or a GGUF file",
            Hint::CompareTwoOfAKind => "verify whether the adapter is in the model, or extract an adapter from the model first",
            Hint::CompareConfiguration => "compare the file with the one in the repository of the adapter",
            Hint::ExportAgain => "export the adapter again; inspecting it lists what is wrong",
            Hint::ValuesTooLarge => "the file is damaged, or its values are too large for the dtype of the output",
            Hint::LowerWeights => {
                "lower the weights of the adapters; if they are not large, training diverged, and the norms of the modules \
             show where"
            }
            Hint::TrainingDiverged => {
                "training diverged, or the file is damaged; the norms of the modules show which are affected"
            }
            Hint::ServeBeside => "serve it beside the base with the library that trained it",
            Hint::MakePlainLora => "turn it into a plain LoRA first: the nearest one of a given rank",
            Hint::ConvertMutated => {
                "convert it first (PEFT: `save_pretrained(..., path_initial_model_for_weight_conversion=...)`), or merge it into \
             the residual model that training saved"
            }
            Hint::CheckBase => {
                "check that this is the base that the adapter was trained on; inspecting the adapter names it"
            }
            Hint::MergeIntoPart => "merge into the part of the model that the adapter was trained on",
            Hint::AdaptersOfTwoBases => "they were trained on different models; inspecting them names the base of each",
            Hint::BaseOfAnotherSize => {
                "the adapter belongs to a base of another size; inspecting it names the one that it was trained on"
            }
            Hint::DoraFirst => "name the DoRA adapter before the plain one: then both models of PEFT are the same",
            Hint::MergeInTurn => "merge the adapters one after another, in the order that should win",
            Hint::MergeInsteadOfCombining => "merge them into the base one after another, in the order that should win",
            Hint::UnquantizedModel => "merge into the unquantised model, or choose types that can be written",
            Hint::OriginalModel => "merge into the unquantised model from which this one was made",
            Hint::FinerType => {
                "a base that lies on a coarse grid swallows small deltas: start from the 16-bit model, choose a finer type, or \
             give just the touched tensors one"
            }
            Hint::StartFromFloats => "start from the 16-bit model, or accept the loss of quantising twice",
            Hint::AnotherGivenType => "give that tensor a type whose blocks divide its rows, or leave the choice to the mix",
            Hint::OtherTypeByName => "give such tensors a type of their own, whose blocks divide their rows",
            Hint::TypeOfItsOwn => "give such tensors a type of their own, or allow another type where none fits",
            Hint::MakeImportances => {
                "make one of this model with llama.cpp: `llama-imatrix -m MODEL.gguf -f TEXT.txt -o imatrix.gguf`"
            }
            Hint::NameBase => "name the base model: its folder, or one that holds its `config.json`",
            Hint::NameBaseForCopies => {
                "name the base: weights that are identical to its own are left out; anything else can only be kept by merging"
            }
            Hint::Approximate => "ask for the nearest LoRA of a given rank: it says what that loses",
            Hint::MergeOrNearestLora => "merge it into its base, which holds everything, or take the LoRA that is nearest to it",
            Hint::ShareTied => {
                "keep one tensor, which the change then reaches under every name, as in PEFT's own merge"
            }
            Hint::ResizedModel => {
                "only the resized model that was trained has them: if it was saved, merge into that one"
            }
            Hint::ConfigureTies => {
                "if input and output are two tensors of the base, say so in its configuration (`tie_word_embeddings`)"
            }
            Hint::ListNames => "list what the registry has",
            Hint::MoveTag => "give it another tag, or let this one move",
            Hint::AddFirst => "add an adapter: that makes the registry",
            Hint::RepairRegistry => {
                "repair the registry; what is lost comes back when the same folder is added again"
            }
            Hint::ConvertPickle => {
                "convert it to safetensors first: the pickle is read as data, and nothing in it runs"
            }
            Hint::ConvertForServer => "convert it to the format that the server loads, and add that",
            Hint::SignFirst => "whoever made it signs it with a private key",
            Hint::MergeIntoBase => "merge it into its base, which holds everything",
            Hint::ReportThis => "nothing was written; this should not happen, please report it",
            Hint::AllowLeast => "allow at least that: no rank is below 1",
            Hint::AllowLeastOrSmallerDtype => {
                "allow at least that, since no rank is below 1; or store factors in a smaller dtype"
            }
            Hint::KeepHalf => "a density of 0.5 keeps half of the entries",
            Hint::PeftHoldsIt => "convert it to PEFT's format first, which has a place for everything",
            Hint::MakePlain => "convert it first, which makes plain factors of it",
            Hint::GiveDtype => "choose another dtype for the factors, such as F32",
            Hint::ListModules => "inspecting an adapter lists its modules",
            Hint::OriginalBase => "only the original base is without it",
            Hint::OriginalBaseOrLeaveOut => {
                "only the original base has them; leaving these modules out keeps them as they are in the model"
            }
            Hint::LeaveOutDensity => "leave the density out",
            Hint::LeaveOutMajority => "leave the way to elect signs out",
            Hint::LeaveOutSeed => "leave the seed out",
            Hint::CombineDeltas => "the method of that name in `_svd` combines deltas, whatever the ranks",
            Hint::CombineBySvd => "the method `svd` is nearest to the weighted sum, whatever the ranks",
            Hint::ReduceAfterwards => "leave the rank out, and reduce the result afterwards",
            Hint::NothingToConvert => "there is nothing to convert",
            Hint::QuantizeInstead => "quantise it instead: that changes the types",
            Hint::LeaveItOut => "leave it out",
            Hint::NameFolderOrFormat => "name a folder as the output, or the format of the file",
            Hint::NamePreTokenizer => "name the rule of llama.cpp by which the tokenizer cuts text",
            Hint::CheckData => "the report on the data shows what its rows become, and what is trained of them",
            Hint::NameFormatOfRows => "say which of the formats is meant",
            Hint::AllowUnmaskedEnds => {
                "use a chat template whose generation tags enclose the end of turn, or allow to train without it"
            }
            Hint::NameTemplate => "name a file with the chat template that the model was trained with",
            Hint::WrittenFormat => "choose a format that is written",
            Hint::NameGgufFile => "name a file that ends in `.gguf` as the output",
            Hint::NameOneFile => "name one of the files instead of the folder",
            Hint::NamePart => {
                "give it that name; or join the parts with llama.cpp: `llama-gguf-split --merge FIRST-PART OUT.gguf`"
            }
            Hint::AnotherName => "choose a name without the numbers of parts",
            Hint::OtherImportances => {
                "an importance matrix of zeros measures nothing: make it again with llama.cpp \
             (`llama-imatrix -m MODEL.gguf -f TEXT.txt -o imatrix.gguf`), or leave it out"
            }
            Hint::BlocksInGguf => "write GGUF, which has that type, or leave the dtype out",
            Hint::NameTuned => "they hold the same values: name the model that training made as the tuned one",
            Hint::AddTokenizer => {
                "put the tokenizer of the model that it was made from beside the weights: `tokenizer.json` or \
             `tokenizer.model`, and `tokenizer_config.json`"
            }
            Hint::NameSafetensorsFile => "name a file that ends in `.safetensors` as the output",
            Hint::NameFolder => "name a folder as the output",
            Hint::OtherFourBit => "use `mxfp8` or `nf4` for transformers, or the GGUF type `MXFP4_MOE` for llama.cpp",
            Hint::OneFile => "name a folder as the output, or allow larger shards",
            Hint::SeeWhatDiffers => "a comparison of the two models shows what differs, and by how much",
            Hint::RunAgain => "nothing was written; run it again",
            Hint::AllowReplacing => "allow replacing it: the old one is kept until the new one is complete",
            Hint::AnotherOutput => "choose another output, or move away what is there",
            Hint::SeeWhatAppeared => "see what that is; then choose another output, or move it away, and run again",
            Hint::WaitForWriters => "wait until nothing writes to it any more, or copy it first; then run again",
            Hint::OutputIsInput => "choose an output that is not an input",
            Hint::FetchAgain => "the download or copy is incomplete; compare its size with the original and fetch it again",
            Hint::ReadByPosition => "read inputs by position instead of mapping them",
            Hint::RaiseFileLimit => {
                "raise the limit of open files: `ulimit -n 4096`; if that is refused, `ulimit -Hn` shows the highest allowed"
            }
            Hint::FetchIntoCache => "download it again, in place of the copy in the hub cache",
            Hint::FetchLfs => "fetch the file itself: `git lfs pull`",
            Hint::DownloadAgain => "a login or error page was saved instead; download it again, with a token if it is gated",
            Hint::UnsafeFile => "do not load this file with other tools either; ask for a safetensors version",
            Hint::UntrustedIndex => "the index is malicious or broken; fetch it again from a source you trust",
            Hint::FetchShard => "the download is incomplete; fetch the missing file into the same folder",
            Hint::FreeSpace => "free some space, or choose an output on another disk",
            Hint::WhatIsIt => "safetensors, GGUF and Torch files are read; this is none of them",
            Hint::ConvertedPartly => "the file was not converted completely, or is not of the family that it names",
            Hint::CheckPath => "check the path; nothing is downloaded",
            Hint::NotWhatItSays => "the file is damaged, or is not what its name says",
            Hint::DamagedFile => "the file is damaged, or was made by a broken tool; fetch or export it again",
        })
    }
}
