//! Lines that fit the terminal: every verb at every width, in a pipe, without colour.

mod names;
mod progress;

use unicode_width::UnicodeWidthStr;

use crate::support::{Run, Sandbox, TIMES, fixtures, peft};
use crate::terminal::Terminal;

const WIDTHS: [u16; 4] = [100, 80, 60, 40];

/// Models and adapters with short names, so that figures decide how wide a line is.
fn desk() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "json");
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "upper");
    sandbox.copy(&fixtures().join("smollm2-orders-lora"), "orders");
    sandbox.copy(&peft("adapters/patterns"), "patterns");
    sandbox.copy(&peft("adapters/moe-params"), "experts");
    sandbox.copy(&peft("bases/qwen3-moe-bf16"), "moe");
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    sandbox.run("merge base json -o merged", &[]).ok();
    sandbox.run("merge base json=0.5 upper -o both", &[]).ok();
    sandbox
}

/// What a terminal of that width shows, with the codes for colours.
fn shown(sandbox: &Sandbox, columns: u16, line: &str, setting: &[(&str, &str)]) -> String {
    let terminal = Terminal::new(columns);
    let mut command = sandbox.command();
    command.args(line.split_whitespace()).arg("--no-progress").envs(setting.iter().copied());
    let mut child = terminal.start(command);
    let text = terminal.text();
    child.wait().unwrap();
    text
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// Every verb, every kind of table and of message. Outputs are written at most once, or not at all.
const LINES: &[&str] = &[
    "inspect json",
    "inspect orders --norms --spectrum",
    "inspect orders -v --spectrum",
    "inspect json --base base -v",
    "inspect patterns experts --norms",
    "inspect experts --base moe",
    "inspect json --for vllm",
    "inspect experts --for llama.cpp",
    "inspect base merged",
    "inspect empty",
    "inspect nowhere json",
    "merge base json upper=0.5 -o out --force -v",
    "merge base json -o out.gguf --quantize Q8_0 -n",
    "merge base json -o base -n",
    "merge base json -o merged",
    "merge moe json -o x",
    "merge base base -o x",
    "convert json -o out --to mlx --force -v",
    "convert json -o a.gguf --to gguf -n --base base",
    "convert json -o a.gguf --to gguf",
    "convert base -o b.gguf --to gguf -n",
    "quantize base -o q.gguf --type Q4_K_M -n",
    "quantize base -o q.gguf --type Q8_0 -v --force",
    "quantize --list",
    "reduce json -o out --rank 2 --force",
    "reduce json -o out --energy 0.9 -n -v",
    "combine json=0.5 upper -o out --force",
    "combine json=0.5 upper=2 json -o out --method ties_svd --density 0.3 -n -v",
    "extract base merged -o out --rank 2 --force",
    "extract base both -o out --auto -n -v",
    "verify merged --base base --adapter json",
    "verify merged --base base --adapter upper -v",
    "diff json upper",
    "diff json upper -v",
    "diff merged both",
    "diff merged both --base base -v",
    "diff base merged --exit-code",
    "merge",
    "inspekt json",
    "inspect json --norm",
    "quantize base -o x --type q4km",
    "help",
    "help merge",
    "quantize --help",
];

#[test]
fn no_line_is_wider_than_the_terminal() {
    let sandbox = desk();
    for line in LINES {
        for columns in WIDTHS {
            let text = plain(&shown(&sandbox, columns, line, &[]));
            assert!(!text.trim().is_empty(), "{line}: nothing is shown");
            for shown in text.lines() {
                // A single word is not broken: it may be a path.
                let is_word = !shown.trim().contains(' ');
                // Nor is the line that clap begins a page with.
                let is_whole = is_word || shown.starts_with("Usage: ");
                let wide = shown.width() > usize::from(columns) && !is_whole;
                assert!(!wide, "`{line}` at {columns}: {} columns\n{shown}\n\n{text}", shown.width());
                // The parser of the command line lays out its own pages.
                assert!(shown == shown.trim_end() || line.contains("help"), "`{line}` at {columns}\n{text}");
            }
        }
    }
}

/// In a pipe, the width of the terminal means nothing: a fact is a line, and a name is whole.
#[test]
fn pipes_get_whole_lines() {
    let sandbox = desk();
    for line in LINES {
        let in_pipe = |columns: &str| {
            let mut command = sandbox.command();
            command.args(line.split_whitespace()).env("COLUMNS", columns);
            let Run { stdout, stderr, .. } = Run::new(&sandbox, &command.output().unwrap());
            assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "{line}: colours in a pipe");
            (without_times(&stdout), without_times(&stderr))
        };
        // The pages of help are laid out by their parser, for `COLUMNS` if that is all there is.
        if !line.contains("help") {
            assert_eq!(in_pipe("40"), in_pipe("200"), "{line}");
        }
    }
}

/// Without the lines that say how long something took, and what the run before had written.
fn without_times(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("wrote ") && !line.starts_with("replaced "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn colour_is_switched_off() {
    let sandbox = desk();
    for line in [
        "inspect json --norms",
        "diff json json",
        "merge moe json -o x",
        "verify merged --base base --adapter json",
    ] {
        let coloured = shown(&sandbox, 80, line, &[]);
        let none = shown(&sandbox, 80, line, &[("NO_COLOR", "1")]);
        assert!(coloured.contains('\u{1b}') && !none.contains('\u{1b}'), "{line}");
        assert_eq!(plain(&coloured), none, "{line}");
    }
}

/// `COLUMNS` counts more than what the terminal says, and nonsense counts for nothing.
#[test]
fn a_width_can_be_set() {
    let sandbox = desk();
    let widest = |columns: &str| {
        let text = plain(&shown(&sandbox, 80, "inspect json", &[("COLUMNS", columns)]));
        text.lines().map(UnicodeWidthStr::width).max().unwrap()
    };
    assert!(widest("50") <= 50);
    for nonsense in ["0", "-3", "wide", ""] {
        assert_eq!(widest(nonsense), widest("80"), "{nonsense}");
    }
}

fn snapshot(sandbox: &Sandbox, columns: u16, line: &str) -> String {
    format!("$ lorakit {line}\n{}", plain(&shown(sandbox, columns, line, &[])))
}

/// A few pages to read.
#[test]
fn transcripts() {
    let sandbox = desk();
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        for (name, line) in [
            ("inspect", "inspect json --norms --spectrum"),
            ("combine", "combine json=0.5 upper -o out --force"),
            ("diff", "diff json upper"),
            ("dry_run", "quantize base -o q.gguf --type Q4_K_M -n"),
            ("error", "merge moe json -o x"),
        ] {
            for columns in [100, 60] {
                insta::assert_snapshot!(format!("{name}_at_{columns}"), snapshot(&sandbox, columns, line));
            }
        }
        insta::assert_snapshot!("narrow_diff", snapshot(&sandbox, 40, "diff json upper"));
        let Run { stdout, .. } = sandbox.run("diff json upper", &[]);
        insta::assert_snapshot!("diff_in_a_pipe", stdout);
    });
}
