//! GGUF models in several files: the header says whether a file is a part, and which.

use std::fs;
use std::path::Path;

use lorakit_tensor::format::gguf::Value;

use super::gguf::Gguf;
use crate::support::Sandbox;

/// What names a model in two parts.
const BOTH: &str = "tiny-00001-of-00002.gguf";

fn write(parts: &[Gguf; 2], folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (number, part) in parts.iter().enumerate() {
        part.write(&folder.join(format!("tiny-{:05}-of-00002.gguf", number + 1)));
    }
}

/// Parts as they should be in `parts/`, and the same model in one file.
fn sandbox() -> (Sandbox, [Gguf; 2]) {
    let (sandbox, whole) = (Sandbox::new(), Gguf::untied());
    let parts = whole.parts();
    write(&parts, &sandbox.path("parts"));
    whole.write(&sandbox.path("whole.gguf"));
    (sandbox, parts)
}

/// Whatever is made of the parts is made of the whole, and nothing in it says that it is a part.
#[test]
fn parts_are_read_whole() {
    let (sandbox, _) = sandbox();
    sandbox.run("quantize whole.gguf --type F16 --requantize -o one.gguf --lineage never", &[]).ok();
    for part in ["parts/tiny-00001-of-00002.gguf", "parts/tiny-00002-of-00002.gguf", "parts"] {
        let options = "--type F16 --requantize -o out.gguf --lineage never --force";
        sandbox.run(&format!("quantize {part} {options}"), &[]).ok();
        assert!(fs::read(sandbox.path("out.gguf")).unwrap() == fs::read(sandbox.path("one.gguf")).unwrap());
    }
    sandbox.run("diff parts whole.gguf", &[]).ok();
}

/// Every verb that reads a model refuses a file that is less than its header says, or more.
#[test]
fn renamed_joined_and_foreign_parts_are_refused_by_every_verb() {
    let (sandbox, parts) = sandbox();
    let file = |name: &str| fs::read(sandbox.path("parts").join(name)).unwrap();
    let (first, second) = (file(BOTH), file("tiny-00002-of-00002.gguf"));
    fs::write(sandbox.path("renamed.gguf"), &first).unwrap();
    // As a blob of the hub's cache is called.
    fs::write(sandbox.path("5f70bf18a086007016e948b04aed3b82"), &first).unwrap();
    fs::write(sandbox.path("joined.gguf"), [first.clone(), second].concat()).unwrap();
    fs::create_dir(sandbox.path("swapped")).unwrap();
    fs::write(sandbox.path("swapped/tiny-00001-of-00002.gguf"), &first).unwrap();
    fs::write(sandbox.path("swapped/tiny-00002-of-00002.gguf"), &first).unwrap();
    let mut few = parts.clone();
    few[1].weights.pop();
    write(&few, &sandbox.path("few"));
    fs::create_dir(sandbox.path("named")).unwrap();
    fs::copy(sandbox.path("whole.gguf"), sandbox.path("named/tiny-00001-of-00002.gguf")).unwrap();

    for (model, message) in [
        ("renamed.gguf", "is part 1 of 2 of a model by its header"),
        ("5f70bf18a086007016e948b04aed3b82", "is part 1 of 2 of a model by its header"),
        ("joined.gguf", "is two files in one: another GGUF file begins at byte"),
        ("swapped/tiny-00001-of-00002.gguf", "swapped/tiny-00002-of-00002.gguf`: is part 1 of 2"),
        ("few/tiny-00001-of-00002.gguf", "the 2 parts hold 20 tensors, and their headers say 21"),
        ("named/tiny-00001-of-00002.gguf", "is part 1 of 2 by its name, and a whole model by its header"),
    ] {
        for line in [
            "inspect MODEL",
            "convert MODEL -o out --to hf",
            "quantize MODEL -o out.gguf --type F16 --requantize",
            "diff MODEL whole.gguf",
            "diff whole.gguf MODEL",
            "extract whole.gguf MODEL -o out --rank 2",
            "extract MODEL whole.gguf -o out --rank 2",
        ] {
            let before = sandbox.entries();
            let run = sandbox.run(&line.replace("MODEL", model), &[]);
            assert_eq!(run.code, Some(1), "{line} {model}: {}", run.stdout);
            assert!(run.stderr.contains(message), "{line} {model}: {}", run.stderr);
            assert_eq!(sandbox.entries(), before);
        }
    }
}

#[test]
fn what_is_said_of_a_part() {
    let (sandbox, _) = sandbox();
    fs::rename(sandbox.path("parts").join(BOTH), sandbox.path("renamed.gguf")).unwrap();
    insta::assert_snapshot!(sandbox.refused("quantize renamed.gguf -o out.gguf --type Q8_0"), @"
    exit 1
    error: `renamed.gguf`: is part 1 of 2 of a model by its header (`split.no`, `split.count`), and its name says otherwise; it must be `NAME-00001-of-00002.gguf`, beside parts with the same NAME

    hint: give it that name; or join the parts with llama.cpp: `llama-gguf-split --merge FIRST-PART OUT.gguf`
    ");
    fs::create_dir(sandbox.path("named")).unwrap();
    for (name, count) in [("none", None), ("zero", Some(0)), ("one", Some(1))] {
        let mut whole = Gguf::untied();
        if let Some(count) = count {
            whole.set("split.count", Value::U16(count));
        }
        whole.write(&sandbox.path("named").join(format!("{name}-00001-of-00002.gguf")));
        let line = format!("quantize named/{name}-00001-of-00002.gguf -o out.gguf --type Q8_0");
        assert!(sandbox.refused(&line).contains("a whole model by its header (no `split.count` above 1)"));
    }
    insta::assert_snapshot!(sandbox.refused("inspect named"), @"
    exit 1
    error: `named`: holds 3 `.gguf` files (`none-00001-of-00002.gguf`, ...) and no index

    hint: name one of the files: `named/NAME`
    ");
    for line in [
        "quantize whole.gguf -o out-00001-of-00002.gguf --type F16 --requantize",
        "quantize whole.gguf -o out-00002-of-00002.gguf --type F16 --requantize --dry-run",
    ] {
        let refused = sandbox.refused(line);
        assert!(refused.contains("of 2 of a GGUF model, and the output is one whole file"), "{refused}");
        assert!(
            refused.contains("hint: choose a name without the numbers of parts: `-o NAME.gguf`"),
            "{refused}"
        );
    }
    sandbox.run("quantize whole.gguf -o out-00001-of-00001.gguf --type F16 --requantize", &[]).ok();
    sandbox.run("inspect out-00001-of-00001.gguf", &[]).ok();
    insta::assert_snapshot!(sandbox.refused("quantize parts -o out.gguf --type Q8_0"), @"
    exit 1
    error: `parts/tiny-00001-of-00002.gguf`: is missing; `tiny-00002-of-00002.gguf` is one of 2 parts

    hint: the download is incomplete; fetch the missing file into the same folder
    ");
}
