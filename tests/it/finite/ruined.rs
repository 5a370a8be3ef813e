//! Merges in which nothing changes, and merges that leave nothing of the model.

use insta::assert_snapshot;
use serde_json::Value;

use super::report;
use crate::support::{Sandbox, TIMES, fixtures, peft};
use crate::weights::read_folder;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox
}

fn findings(report: &Value) -> Vec<(&str, &str)> {
    let text = |finding: &'_ Value, key: &str| finding[key].as_str().unwrap().to_string().leak() as &str;
    report["findings"].as_array().unwrap().iter().map(|f| (text(f, "severity"), text(f, "code"))).collect()
}

#[test]
fn a_weight_of_zero() {
    let sandbox = sandbox();
    let run = sandbox.run("merge base adapter=0 -o out", &[]).ok();
    assert_snapshot!(run.stderr, @"warning: `adapter`: weight 0 adds nothing: its deltas are left out");
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        assert_snapshot!(run.stdout, @"
        merged `adapter` (weight 0, 14 modules)
        into   `base`: 0 of 21 tensors changed
        unchecked: 21 tensors (657 kB) copied without a search for NaN and infinity; `--check-finite` searches them too
        wrote `out` (659 kB, 21 tensors, 1 file) in [TIME] ([RATE])
        ");
    });
    assert!(read_folder(&sandbox.path("out")) == read_folder(&sandbox.path("base")));

    let zero = report(&sandbox, "merge base adapter=0 -o again");
    assert_eq!((&zero["changed_tensors"], findings(&zero)), (&0.into(), vec![("warning", "weight-zero")]));
    let plan = report(&sandbox, "merge base adapter=0 -o plan -n");
    let recipes = plan["plan"]["tensors"].as_array().unwrap();
    assert!(recipes.iter().all(|tensor| tensor["recipe"].as_str().unwrap().ends_with("copy")));
    // Next to another adapter, the other one remains.
    sandbox.copy(&peft("adapters/all-r8-second"), "second");
    report(&sandbox, "merge base second -o one");
    let both = report(&sandbox, "merge base adapter=0 second -o both");
    assert_eq!(both["changed_tensors"], 14);
    assert!(read_folder(&sandbox.path("both")) == read_folder(&sandbox.path("one")));
}

/// Tied embeddings stay tied if nothing is added to either; tensors saved whole count at any weight.
#[test]
fn a_weight_of_zero_on_embeddings() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-tied-bf16"), "base");
    sandbox.copy(&peft("adapters/tied-head"), "head");
    let head = report(&sandbox, "merge base head=0 -o head0");
    assert_eq!(findings(&head), [("warning", "weight-zero")]);
    assert!(read_folder(&sandbox.path("head0")) == read_folder(&base));

    let base = sandbox.copy(&peft("bases/llama-bf16"), "untied");
    sandbox.copy(&peft("adapters/modules-to-save"), "saved");
    let saved = report(&sandbox, "merge untied saved=0 -o saved0");
    assert_eq!(findings(&saved), [("warning", "weight-zero"), ("warning", "weight-ignored")]);
    let (before, after) = (read_folder(&base), read_folder(&sandbox.path("saved0")));
    let changed = before.iter().filter(|(name, tensor)| after[*name] != **tensor).count();
    assert!(changed > 0 && !after.contains_key("nothing"));
    assert_eq!(saved["changed_tensors"], changed);
}

/// Into GGUF, blocks are copied as they are.
#[test]
fn a_weight_of_zero_on_blocks() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "adapter");
    sandbox.run("quantize model -o base.gguf --type Q4_K_M", &[]).ok();
    let zero = report(&sandbox, "merge base.gguf adapter=0 -o out.gguf --quantize keep");
    assert_eq!(zero["changed_tensors"], 0);
    let found = report(&sandbox, "diff base.gguf out.gguf");
    assert_eq!(found["differs"], false);
}

#[test]
fn deltas_that_dwarf_the_weights() {
    let sandbox = sandbox();
    let run = sandbox.run("merge base adapter=1e30 -o out", &[]).ok();
    assert_snapshot!(run.stderr, @"warning: `model.layers.1.mlp.down_proj.weight`: its delta is 2.397e30 times as large as the weights that it is added to (norms 1.882e31 and 7.851): nothing of the model is left in it, nor in 13 more with deltas above 10 times; is the adapter's weight the one that was meant?");
    let huge = report(&sandbox, "merge base adapter=1e30 -o again");
    assert_eq!(findings(&huge), [("warning", "large-delta")]);
    let of_type = &huge["retention"]["BF16"];
    let norm = |key: &str| of_type[key].as_f64().unwrap();
    assert!(norm("delta_norm") / norm("weight_norm") > 1e25, "{of_type}");
    for (weight, expected) in [("1", false), ("-3", false), ("1e3", true)] {
        let report = report(&sandbox, &format!("merge base adapter={weight} -o w{weight}"));
        assert_eq!(findings(&report).contains(&("warning", "large-delta")), expected, "{weight}");
    }
    // Beyond what F32 can hold, there is nothing to warn of.
    let run = sandbox.run("merge base adapter=1e40 -o beyond", &[]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("the largest number of F32"), "{}", run.stderr);
}

/// An adapter named twice, linked or copied: both count, and a note says so.
#[test]
fn one_adapter_twice() {
    let sandbox = sandbox();
    sandbox.copy(&sandbox.path("adapter"), "copy");
    std::os::unix::fs::symlink("adapter", sandbox.path("link")).unwrap();
    sandbox.copy(&peft("adapters/all-r8-second"), "second");
    let run = sandbox.run("merge base adapter=0.5 adapter -o out", &[]).ok();
    assert_snapshot!(run.stderr, @"note: `adapter`: is given twice (weights 0.5 and 1), and both count");
    let run = sandbox.run("merge base adapter second copy link -o out3", &[]).ok();
    assert_snapshot!(run.stderr, @"
    note: `copy`: holds the same tensors as `adapter` (weights 1 and 1), and both count
    note: `link`: is given twice (weights 1 and 1), and both count
    ");
    for line in [
        "merge base adapter second -o two",
        "merge base adapter adapter -o twice",
        "combine adapter copy -o sum",
        "verify twice --base base --adapter adapter --adapter ./adapter/",
    ] {
        let found = report(&sandbox, line);
        let notes = findings(&found);
        let noted = notes.contains(&("note", "same-adapter"));
        assert_eq!(noted, !line.contains("second"), "{line}: {notes:?}");
    }
}
