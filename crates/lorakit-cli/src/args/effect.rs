//! Options that have an effect only together with others: given elsewhere, they are refused.

use clap::ArgMatches;
use clap::parser::ValueSource;
use lorakit::ops::combine::{Method, Style};
use lorakit::ops::quantize::QuantType;
use lorakit::plan::Packer;
use lorakit_quant::mix::FileType;

use super::values::is_gguf_file;
use super::{Combine, Command, Convert, Format, Merge, MergeQuantize, Quantize};
use crate::error::Failure;

/// An option of one verb, and when it has an effect.
struct Rule<A> {
    /// Its id, which is its name with `_`.
    option: &'static str,
    /// Whether it has an effect beside the others.
    has_effect: fn(&A) -> bool,
    /// The choices with which it has one, as a hint.
    hint: &'static str,
}

/// What decides how a model is written.
#[derive(Debug, Clone, Copy)]
struct Written {
    form: Form,
    /// Whether it is read from a GGUF file, which names its pre-tokenizer.
    from_gguf: bool,
}

/// The rules of a verb that takes the form of its output from the option `$flag`.
#[rustfmt::skip] // It unindents some lines of macros.
macro_rules! of_form {
    ($name:ident, $flag:literal, pre: $pre:literal, shards: $shards:literal) => {
        const $name: &[Rule<Written>] = &[
            rule(
                "imatrix",
                |to| to.form.takes_importances(),
                concat!("it weighs errors of quantised GGUF types: `", $flag, " Q4_K_M`"),
            ),
            rule("tensor_type", |to| to.form.is_mix(), of_form!(@mix $flag)),
            rule("output_tensor_type", |to| to.form.chooses(), of_form!(@choice $flag)),
            rule("token_embedding_type", |to| to.form.chooses(), of_form!(@choice $flag)),
            rule("pure", |to| to.form.is_mix(), of_form!(@mix $flag)),
            rule("no_fallback", |to| to.form.is_mix(), of_form!(@mix $flag)),
            rule("pre", |to| to.form.is_gguf() && !to.from_gguf, $pre),
            rule("double_quant", |to| to.form == Form::FourBit, of_form!(@four_bit $flag)),
            rule("block_size", |to| to.form == Form::FourBit, of_form!(@four_bit $flag)),
            rule("max_shard_size", |to| !to.form.is_gguf(), $shards),
        ];
    };
    (@mix $flag:literal) => {
        concat!("it changes a mix of GGUF types: `", $flag, " Q4_K_M`")
    };
    (@choice $flag:literal) => {
        concat!("it changes a choice of GGUF types: `", $flag, " Q4_K_M`")
    };
    (@four_bit $flag:literal) => {
        concat!("it is for 4-bit types of transformers: `", $flag, " nf4` or `", $flag, " fp4`")
    };
}

of_form!(MERGE, "--quantize",
    pre: "it goes into GGUF files: `-o NAME.gguf`",
    shards: "a GGUF file has no shards; folders of safetensors have");
of_form!(QUANTIZE, "--type",
    pre: "it names the pre-tokenizer of a Hugging Face folder that becomes a GGUF file",
    shards: "a GGUF file has no shards; folders, such as those of `--type nf4`, have");

const CONVERT: &[Rule<Convert>] = &[
    rule("pre", |args| args.to == Format::GGUF, "it goes into GGUF files of models: `--to gguf`"),
    rule("max_shard_size", |args| args.to == Format::HF, "only folders of models have shards: `--to hf`"),
];

const COMBINE: &[Rule<Combine>] = &[
    rule(
        "majority_sign",
        |args| args.method.in_style(args.style).elects_signs(),
        "signs are elected by the methods in `ties`: `--method ties_svd --density 0.5`",
    ),
    rule(
        "style",
        |args| args.style != Style::Mergekit || !matches!(args.method, Method::Svd | Method::Cat),
        "mergekit's definitions differ for methods that mix entries: `--method ties --density 0.5`",
    ),
];

const fn rule<A>(option: &'static str, has_effect: fn(&A) -> bool, hint: &'static str) -> Rule<A> {
    Rule { option, has_effect, hint }
}

/// Refuses options on the command line that have no effect beside the others there.
pub(crate) fn check(matches: &ArgMatches, command: &Command) -> Result<(), Failure> {
    let Some((_, given)) = matches.subcommand() else { return Ok(()) };
    match command {
        Command::Merge(args) => refuse(MERGE, &merged(args), given),
        Command::Quantize(args) if !args.list => refuse(QUANTIZE, &quantised(args), given),
        Command::Convert(args) => refuse(CONVERT, args, given),
        Command::Combine(args) => refuse(COMBINE, args, given),
        _ => Ok(()),
    }
}

fn refuse<A>(rules: &[Rule<A>], args: &A, given: &ArgMatches) -> Result<(), Failure> {
    let typed = |rule: &&Rule<A>| given.value_source(rule.option) == Some(ValueSource::CommandLine);
    match rules.iter().filter(typed).find(|rule| !(rule.has_effect)(args)) {
        Some(Rule { option, hint, .. }) => {
            let message = format!("`--{}` has no effect here", option.replace('_', "-"));
            Err(Failure::usage(&message, hint))
        }
        None => Ok(()),
    }
}

/// The form of an output, as far as it decides which options have an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Safetensors without packed weights.
    Floats,
    /// NF4 or FP4.
    FourBit,
    /// Another packing.
    Packed,
    /// A GGUF file of this type.
    Gguf(FileType),
    /// A GGUF file whose tensors keep their types.
    Kept,
}

impl Form {
    fn of(kind: QuantType) -> Self {
        match kind {
            QuantType::Mix(file_type) => Form::Gguf(file_type),
            QuantType::Packed(Packer::FourBit { .. }) => Form::FourBit,
            QuantType::Packed(_) => Form::Packed,
        }
    }

    fn is_gguf(self) -> bool {
        matches!(self, Form::Gguf(_) | Form::Kept)
    }

    /// Whether a type is chosen for each tensor.
    fn chooses(self) -> bool {
        matches!(self, Form::Gguf(_))
    }

    /// Whether that is done by the rules of a mix. One of floats has none.
    fn is_mix(self) -> bool {
        matches!(self, Form::Gguf(file_type) if file_type.dtype().block().elements > 1)
    }

    fn takes_importances(self) -> bool {
        self.is_mix() || self == Form::Kept
    }
}

fn merged(args: &Merge) -> Written {
    let form = match args.quantize {
        Some(MergeQuantize::To(kind)) => Form::of(kind),
        Some(MergeQuantize::Keep) => Form::Kept,
        None if !args.is_to_gguf() => Form::Floats,
        None => args.float_type().map_or(Form::Kept, Form::Gguf),
    };
    Written { form, from_gguf: false }
}

fn quantised(args: &Quantize) -> Written {
    let from_gguf = args.model.as_deref().is_some_and(is_gguf_file);
    Written { form: args.kind.map_or(Form::Floats, Form::of), from_gguf }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::args::Cli;

    /// What is refused of a command line, with its hint.
    fn refused(line: &str) -> Option<String> {
        let line = ["lorakit"].into_iter().chain(line.split(' '));
        let matches = Cli::command().try_get_matches_from(line).unwrap();
        let failure = check(&matches, &Cli::from_arg_matches(&matches).unwrap().command).err()?;
        assert_eq!(failure.exit_code(), crate::exit::USAGE);
        Some(format!("{}; {}", failure.message(), failure.hint(None).unwrap_or_default()))
    }

    #[test]
    fn options_without_effect_are_refused() {
        for line in [
            "merge b a -o out --imatrix m",
            "merge b a -o out --pure",
            "merge b a -o out --tensor-type ffn=Q8_0",
            "merge b a -o out.gguf --tensor-type ffn=Q8_0",
            "merge b a -o out.gguf --dtype f16 --imatrix m",
            "merge b a -o out --quantize nf4 --imatrix m",
            "merge b a -o out --quantize nf4 --output-tensor-type Q8_0",
            "merge b a -o out.gguf --quantize keep --no-fallback",
            "merge b a -o out --double-quant",
            "merge b a -o out.gguf --quantize Q4_K_M --double-quant",
            "merge b a -o out --quantize int8 --block-size 64",
            "merge b a -o out --pre llama-bpe",
            "merge b a -o out.gguf --max-shard-size 1GB",
            "quantize m -o out --type nf4 --imatrix m",
            "quantize m -o out --type nf4 --pure",
            "quantize m -o out.gguf --type Q4_K_M --double-quant",
            "quantize m -o out.gguf --type Q4_K_M --block-size 128",
            "quantize m -o out.gguf --type Q8_0 --max-shard-size 1GB",
            "quantize m.gguf -o out.gguf --type Q8_0 --pre llama-bpe",
            "quantize m -o out.gguf --type F16 --pure",
            "convert m -o out --to hf --pre llama-bpe",
            "convert m -o out.gguf --to gguf --max-shard-size 1GB",
            "combine a b -o out --majority-sign frequency",
            "combine a b -o out --method dare_linear --density 0.5 --majority-sign total",
            "combine a b -o out --style mergekit",
        ] {
            assert!(refused(line).is_some(), "{line}");
        }
        insta::assert_snapshot!(refused("merge b a -o out --token-embedding-type Q8_0").unwrap(), @"`--token-embedding-type` has no effect here; it changes a choice of GGUF types: `--quantize Q4_K_M`");
        insta::assert_snapshot!(refused("quantize m -o out --type fp8 --double-quant").unwrap(), @"`--double-quant` has no effect here; it is for 4-bit types of transformers: `--type nf4` or `--type fp4`");
        insta::assert_snapshot!(refused("combine a b -o out --majority-sign total").unwrap(), @"`--majority-sign` has no effect here; signs are elected by the methods in `ties`: `--method ties_svd --density 0.5`");
    }

    #[test]
    fn options_with_an_effect_are_not() {
        for line in [
            "merge b a -o out --max-shard-size 1GB",
            "merge b a -o out.safetensors --max-shard-size 1GB",
            "merge b a -o out.gguf --quantize Q4_K_M --imatrix m --tensor-type ffn=Q8_0 --pure --no-fallback --pre gpt-2",
            "merge b a -o out.gguf --output-tensor-type Q8_0 --dtype f16 --token-embedding-type Q8_0",
            "merge b.gguf a -o out.gguf --imatrix m",
            "merge b a -o out --quantize fp4 --double-quant --block-size 128 --max-shard-size 1GB",
            "quantize m -o out --type nf4 --double-quant --block-size 128 --max-shard-size 1GB",
            "quantize m -o out.gguf --type IQ4_XS --imatrix m --pre llama-bpe --output-tensor-type Q8_0",
            "quantize --list",
            "convert m -o out --to hf --max-shard-size 1GB",
            "convert m -o out.gguf --to gguf --pre llama-bpe",
            "combine a b -o out --method ties --density 0.5 --majority-sign frequency",
            "combine a b -o out --method linear --style mergekit",
            "combine a b -o out --style peft",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
    }

    /// Each rule is about an option that the verb has.
    #[test]
    fn every_option_exists() {
        let cli = Cli::command();
        let has = |verb: &str, option: &str| {
            let verb = cli.find_subcommand(verb).unwrap();
            assert!(verb.get_arguments().any(|known| known.get_id() == option), "{option}");
        };
        MERGE.iter().for_each(|rule| has("merge", rule.option));
        QUANTIZE.iter().for_each(|rule| has("quantize", rule.option));
        CONVERT.iter().for_each(|rule| has("convert", rule.option));
        COMBINE.iter().for_each(|rule| has("combine", rule.option));
    }
}
