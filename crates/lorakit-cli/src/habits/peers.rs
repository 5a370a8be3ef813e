//! What people type who come from other programs: a row for each option, with what takes its place.

/// How many values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    None,
    One,
    Two,
    /// All up to the next option.
    Many,
}

/// What takes the place of an option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Becomes {
    /// Nothing: lorakit always does so, or has no use for it.
    Nothing,
    /// The first input: the base of a merge, or the only input.
    First,
    /// Inputs after the first.
    Inputs,
    /// An input and its weight.
    Weighted,
    /// The weights of the inputs, in their order.
    Weights,
    /// `-o`.
    Output,
    /// An option with the same value, or with none.
    Named(&'static str),
    /// An option whose value is spelt in another way: a dtype.
    Dtype,
    /// An option whose value counts gigabytes.
    Gigabytes(&'static str),
    /// An option with its value.
    Fixed(&'static [&'static str]),
}

/// An option of another program.
#[derive(Debug)]
pub(super) struct Habit {
    /// As it is typed, in every spelling.
    pub(super) names: &'static [&'static str],
    /// The verbs that it is typed with; none: any.
    pub(super) verbs: &'static [&'static str],
    pub(super) values: Values,
    pub(super) becomes: Becomes,
    /// What to say about it.
    pub(super) tip: &'static str,
}

impl Habit {
    /// The row of an option that is typed with a verb.
    pub(super) fn of(name: &str, verb: &str) -> Option<&'static Habit> {
        let fits = |habit: &&Habit| {
            habit.names.contains(&name) && (habit.verbs.is_empty() || habit.verbs.contains(&verb))
        };
        HABITS.iter().find(fits)
    }
}

/// A row; `any` verb, or some.
macro_rules! habits {
    ($($names:tt $verbs:tt $values:ident => $becomes:expr, $tip:literal;)*) => {
        /// Every option of other programs that has an answer.
        pub(super) const HABITS: &[Habit] = &[$(Habit {
            names: &$names, verbs: &$verbs, values: Values::$values, becomes: $becomes, tip: $tip,
        },)*];
    };
}

use Becomes::{Dtype, First, Fixed, Gigabytes, Inputs, Named, Nothing, Output, Weighted, Weights};

habits! {
    // Devices: PyTorch's scripts, mergekit-yaml, llama.cpp, kohya's.
    ["--device", "--export_device", "--device_map", "--device-map"] [] One => Nothing,
        "lorakit computes on the CPU, on all cores: leave it out";
    ["--cuda", "--gpu", "--no-cuda", "--cpu", "--mps", "--read-to-gpu", "--multi-gpu", "--gpu-rich", "--low-cpu-memory"]
        [] None => Nothing, "lorakit computes on the CPU, on all cores: leave it out";
    ["--n-gpu-layers", "--gpu-layers", "--gpus"] [] One => Nothing,
        "lorakit computes on the CPU, on all cores: leave it out";
    // mergekit-yaml.
    ["--lora-merge-cache", "--transformers-cache"] [] One => Nothing,
        "nothing is cached, a merge is a single pass: leave it out";
    ["--copy-tokenizer", "--no-copy-tokenizer"] [] None => Nothing,
        "the tokenizer and the other files of the base are always copied: leave it out";
    ["--allow-crimes"] [] None => Nothing, "what does not fit is always refused, with the reason: leave it out";
    ["--lazy-unpickle", "--no-lazy-unpickle", "--clone-tensors", "--no-lazy", "--use-temp-file", "--safe-serialization",
     "--safe_serialization"]
        [] None => Nothing, "files are always read lazily, and written as safetensors or GGUF: leave it out";
    ["--trust-remote-code", "--trust_remote_code"] [] None => Nothing,
        "no code of a model is ever run: leave it out";
    ["--out-shard-size"] [] One => Nothing,
        "`--max-shard-size 5GB` counts bytes, not parameters (5B parameters in bf16 are 10GB)";
    ["--random-seed"] ["combine"] One => Named("--seed"), "it is `--seed` here";
    // Scripts around PEFT and transformers, LLaMA-Factory.
    ["--base", "--base_model", "--base-model", "--base_model_name_or_path", "--model_name_or_path", "--base_model_path"]
        ["merge"] One => First, "the base comes first, without an option";
    ["--lora", "--adapter", "--lora_model", "--lora_path", "--lora_weights", "--peft_model", "--peft_model_path",
     "--peft_model_id", "--adapter_name_or_path", "--adapter_path", "--adapter-path", "--adapters"]
        ["merge"] Many => Inputs, "adapters follow the base, without an option";
    ["--lora", "--adapter", "--adapter-path", "--adapter_path", "--adapters", "--models"]
        ["combine", "inspect", "reduce", "convert"] Many => Inputs, "adapters are named without an option";
    ["--finetuning_type", "--template", "--torch_dtype_base"] [] One => Nothing,
        "the files say it: leave it out";
    ["--torch_dtype", "--torch-dtype", "--save_precision", "--save-precision"] [] One => Dtype,
        "it is `--dtype` here";
    ["--precision"] [] One => Nothing, "sums are computed in 32 bits or more, always: leave it out";
    ["--output_dir", "--output-dir", "--output_path", "--output-path", "--out", "--outfile", "--save_to", "--save-to",
     "--save_path", "--save-path", "--save_dir", "--export_dir", "--mlx-path", "--gguf-path", "--out_path", "--dest"]
        [] One => Output, "it is `-o` here";
    ["--push_to_hub", "--push-to-hub", "--upload-repo", "--hub-model-id", "--hub_model_id", "--export_hub_model_id"]
        [] One => Nothing, "lorakit uploads no models: `hf upload OWNER/NAME OUT` uploads what it wrote";
    ["--max_shard_size"] [] One => Named("--max-shard-size"), "it is `--max-shard-size` here";
    ["--export_size"] [] One => Gigabytes("--max-shard-size"), "it is `--max-shard-size` here, with a unit";
    // llama.cpp's converters.
    ["--outtype"] ["convert"] One => Dtype, "it is `--dtype` here; the other types are those of `lorakit quantize`";
    ["--base-model-id"] ["convert"] One => Named("--base"), "it is `--base` here, which takes OWNER/NAME too";
    ["--model-name"] ["convert"] One => Nothing, "the name comes from the files: leave it out";
    // llama-quantize.
    ["--allow-requantize"] ["quantize"] None => Named("--requantize"), "it is `--requantize` here";
    ["--leave-output-tensor"] ["quantize"] None => Fixed(&["--output-tensor-type", "F16"]),
        "`--output-tensor-type F16` leaves the output matrix in 16 bits";
    ["--keep-split"] ["quantize"] None => Nothing, "GGUF files are always written whole: leave it out";
    ["--quant", "--qtype", "--quantization", "--ftype"] ["quantize"] One => Named("--type"), "it is `--type` here";
    ["--type", "--qtype", "--quant", "--quantization"] ["merge"] One => Named("--quantize"),
        "it is `--quantize` here";
    // llama-export-lora.
    ["-m", "--model", "--model-base", "--sd_model"] ["merge"] One => First, "the base comes first, without an option";
    ["-m", "--model", "--hf-path", "--hf_path", "--input", "-i"]
        ["convert", "quantize", "reduce", "inspect"] One => First, "the input is named without an option";
    ["--lora-scaled"] ["merge", "combine"] Two => Weighted, "a weight follows its adapter: `ADAPTER=WEIGHT`";
    // kohya's merge_lora.py, svd_merge_lora.py and resize_lora.py.
    ["--models"] ["merge"] Many => Inputs, "adapters follow the base, without an option";
    ["--ratios", "--weights", "--scales"] ["merge", "combine"] Many => Weights,
        "a weight follows its adapter: `ADAPTER=WEIGHT`";
    ["--new_rank", "--new-rank", "--dim", "--r"] ["reduce", "combine", "extract"] One => Named("--rank"),
        "it is `--rank` here";
    ["--new_conv_rank", "--new_alpha"] [] One => Nothing, "`--rank` holds for every module: leave it out";
    ["--concat"] ["combine"] None => Fixed(&["--method", "cat"]), "it is `--method cat` here";
    ["--no_metadata", "--shuffle"] ["merge", "combine", "reduce"] None => Nothing, "leave it out";
    // mlx_lm.fuse.
    ["--de-quantize", "--dequantize"] ["merge"] None => Nothing,
        "a merge into a quantised base is written in 16 bits unless `--quantize` is given: leave it out";
    ["--export-gguf"] ["merge"] None => Fixed(&["--format", "gguf"]), "it is `--format gguf` here, with `-o NAME.gguf`";
    // Everybody's.
    ["--overwrite", "--yes", "--clobber"] [] None => Named("--force"), "it is `--force` here";
}
