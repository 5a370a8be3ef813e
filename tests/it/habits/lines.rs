//! Lines that lorakit does not take: each is answered with one that it takes.

use std::fs;
use std::path::Path;

use crate::support::{Sandbox, peft};

/// A base, two adapters and files that have their names only.
fn desk() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox.copy(&peft("adapters/rslora"), "other");
    for name in ["in.gguf", "a.gguf", "a.safetensors", "b.safetensors"] {
        fs::write(sandbox.path(name), "").unwrap();
    }
    sandbox
}

/// The line in the last tip.
fn suggested(stderr: &str) -> Option<&str> {
    let tip = stderr.lines().rfind(|line| line.starts_with("  tip: "))?;
    tip.split('`').find(|part| part.starts_with("lorakit "))
}

/// What is typed, and the answer.
fn answer(line: &str) -> String {
    let sandbox = desk();
    let answer = sandbox.refused(line);
    assert!(answer.starts_with("exit 2\n"), "{line}: {answer}");
    answer
}

/// The table of the how-to: what is typed, and the line that is told.
#[test]
fn every_line_of_the_how_to_is_told() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to/come-from-other-programs.md");
    let page = fs::read_to_string(page).unwrap();
    let sandbox = desk();
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| `lorakit ")) {
        let cells: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let [typed, told] = cells[..] else { panic!("{row}") };
        let run = sandbox.run(typed.strip_prefix("lorakit ").unwrap(), &[]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{typed}");
        assert_eq!(suggested(&run.stderr), Some(told), "{typed}\n{}", run.stderr);
        rows += 1;
    }
    assert!(rows >= 15, "{rows}");
}

/// What is told can be typed: it does what was meant.
#[test]
fn a_told_line_works() {
    for typed in [
        "merge base adapter merged/",
        "merge --model base --adapter-path adapter --save-path merged --de-quantize",
        "combine --models adapter other --ratios 0.5 0.5 --save_to merged --save_precision fp16",
        "reduce adapter merged",
        "convert adapter merged",
    ] {
        let sandbox = desk();
        let run = sandbox.run(typed, &[]);
        let line = suggested(&run.stderr).unwrap_or_else(|| panic!("{typed}: {}", run.stderr));
        sandbox.run(line.strip_prefix("lorakit ").unwrap(), &[]).ok();
        assert!(sandbox.path("merged").is_dir(), "{line}");
    }
}

#[test]
fn a_forgotten_output() {
    insta::assert_snapshot!(answer("merge base adapter merged/"), @"
    exit 2
    error: the following required arguments were not provided:
      --output <OUT>

      tip: did you mean `-o merged/`? `lorakit merge base adapter -o merged/`

    Usage: lorakit merge --output <OUT> <BASE> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(answer("merge base adapter"), @"
    exit 2
    error: the following required arguments were not provided:
      --output <OUT>

      tip: name what to write: `lorakit merge base adapter -o merged/`

    Usage: lorakit merge --output <OUT> <BASE> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(answer("convert adapter out.gguf --base base"), @"
    exit 2
    error: unexpected argument 'out.gguf' found

      tip: did you mean `-o out.gguf`? `lorakit convert adapter -o out.gguf --base base --to gguf`

    Usage: lorakit convert [OPTIONS] --output <OUT> --to <FORMAT> <SOURCE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(answer("extract base adapter out"), @"
    exit 2
    error: unexpected argument 'out' found

      tip: did you mean `-o out`? `lorakit extract base adapter -o out --auto`

    Usage: lorakit extract [OPTIONS] --output <OUT> <--rank <N>|--energy <E>|--auto> <BASE> <TUNED>

    For more information, try '--help'.
    ");
}

#[test]
fn the_output_of_quantising() {
    insta::assert_snapshot!(answer("quantize in.gguf out.gguf Q4_K_M 8"), @"
    exit 2
    error: unexpected argument 'out.gguf' found

      tip: did you mean `-o out.gguf`? `lorakit quantize in.gguf -o out.gguf --type Q4_K_M -t 8`

    Usage: lorakit quantize [OPTIONS] --type <TYPE> --output <OUT> <MODEL>
           lorakit quantize --list

    For more information, try '--help'.
    ");
}

#[test]
fn devices() {
    insta::assert_snapshot!(answer("merge base adapter -o out --device cuda"), @"
    exit 2
    error: unexpected argument '--device' found

      tip: `--device`: lorakit computes on the CPU, on all cores: leave it out
      tip: the line to type: `lorakit merge base adapter -o out`

    Usage: lorakit merge --output <OUT> <BASE> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(answer("quantize in.gguf -o out.gguf --type Q8_0 --cuda"), @"
    exit 2
    error: unexpected argument '--cuda' found

      tip: `--cuda`: lorakit computes on the CPU, on all cores: leave it out
      tip: the line to type: `lorakit quantize in.gguf -o out.gguf --type Q8_0`

    Usage: lorakit quantize [OPTIONS] --type <TYPE> --output <OUT> <MODEL>
           lorakit quantize --list

    For more information, try '--help'.
    ");
}

#[test]
fn options_of_mergekit() {
    let line = "merge base adapter -o out --cuda --lora-merge-cache /tmp/cache --copy-tokenizer --allow-crimes \
                --out-shard-size 5B --lazy-unpickle";
    insta::assert_snapshot!(answer(line), @"
    exit 2
    error: unexpected argument '--cuda' found

      tip: `--cuda`: lorakit computes on the CPU, on all cores: leave it out
      tip: `--lora-merge-cache`: nothing is cached, a merge is a single pass: leave it out
      tip: `--copy-tokenizer`: the tokenizer and the other files of the base are always copied: leave it out
      tip: `--allow-crimes`: what does not fit is always refused, with the reason: leave it out
      tip: `--out-shard-size`: `--max-shard-size 5GB` counts bytes, not parameters (5B parameters in bf16 are 10GB)
      tip: `--lazy-unpickle`: files are always read lazily, and written as safetensors or GGUF: leave it out
      tip: the line to type: `lorakit merge base adapter -o out`

    Usage: lorakit merge --output <OUT> <BASE> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
}

#[test]
fn options_of_kohya() {
    let line = "combine --save_to out.safetensors --models a.safetensors b.safetensors --ratios 0.7 0.3 --save_precision fp16";
    insta::assert_snapshot!(answer(line), @"
    exit 2
    error: unexpected argument '--save_to' found

      tip: `--save_to`: it is `-o` here
      tip: `--models`: adapters are named without an option
      tip: `--ratios`: a weight follows its adapter: `ADAPTER=WEIGHT`
      tip: `--save_precision`: it is `--dtype` here
      tip: the line to type: `lorakit combine a.safetensors=0.7 b.safetensors=0.3 -o out.safetensors --dtype f16`

    Usage: lorakit combine [OPTIONS] --output <OUT> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
}

#[test]
fn options_of_llama_export_lora() {
    insta::assert_snapshot!(answer("merge -m base --lora a.gguf --lora-scaled adapter 0.5 -o out.gguf"), @"
    exit 2
    error: unexpected argument '-m' found

      tip: `-m`: the base comes first, without an option
      tip: `--lora`: adapters follow the base, without an option
      tip: `--lora-scaled`: a weight follows its adapter: `ADAPTER=WEIGHT`
      tip: the line to type: `lorakit merge base a.gguf adapter=0.5 -o out.gguf`

    Usage: lorakit merge [OPTIONS] --output <OUT> <BASE> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
}

#[test]
fn an_option_without_a_counterpart_names_no_line() {
    insta::assert_snapshot!(answer("merge base --allow-crimes"), @"
    exit 2
    error: unexpected argument '--allow-crimes' found

      tip: `--allow-crimes`: what does not fit is always refused, with the reason: leave it out

    Usage: lorakit merge --output <OUT> <BASE> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
}

#[test]
fn commands_of_other_programs() {
    insta::assert_snapshot!(answer("download Qwen/Qwen3-0.6B"), @"
    exit 2
    error: unrecognized subcommand 'download'

      tip: lorakit downloads nothing: `hf download OWNER/NAME --local-dir NAME`

    Usage: lorakit [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(answer("merg base adapter"), @"
    exit 2
    error: unrecognized subcommand 'merg'

      tip: a similar subcommand exists: 'merge'

    Usage: lorakit [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn the_answer_as_json() {
    insta::assert_snapshot!(answer("merge base adapter merged/ --device cuda --json"), @r#"
    exit 2
    {"error":{"kind":"Usage","message":"unexpected argument '--device' found","path":null,"tensor":null,"details":[],"causes":[],"hints":["`--device`: lorakit computes on the CPU, on all cores: leave it out","did you mean `-o merged/`? `lorakit merge base adapter -o merged/ --json`"],"exit_code":2}}
    "#);
}

/// A line that is wrong in another way is answered as before.
#[test]
fn other_mistakes_are_not_explained_away() {
    for line in ["merge base adapter -o out --outptu x", "inspect", "merge base adapter -o out --dtype bf15"]
    {
        let answer = answer(line);
        assert!(suggested(&answer).is_none() && !answer.contains("did you mean"), "{answer}");
    }
}

/// Paths with spaces can be typed as they are told.
#[test]
fn words_are_quoted() {
    let sandbox = desk();
    let run = Path::new("my merged");
    let run = sandbox.run("merge base adapter", &[run]);
    assert_eq!(suggested(&run.stderr), Some("lorakit merge base adapter -o 'my merged'"), "{}", run.stderr);
}
