//! Manual pages: one for the command, one for each of its commands.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::Sandbox;

fn page(line: &str) -> String {
    Sandbox::new().run(line, &[]).ok().stdout
}

#[test]
fn a_page_for_each_command() {
    let whole = page("man");
    assert!(whole.contains(".TH lorakit 1") && whole.contains("lorakit\\-merge(1)"), "{whole}");
    assert_eq!(whole.matches(".TH ").count(), 1, "one page");
    let merge = page("man merge");
    assert!(merge.contains(".TH lorakit-merge 1") && merge.contains("\\-\\-quantize"), "{merge}");
    assert!(merge.contains(".SH \"SEE ALSO\"\n\\fBlorakit\\fR(1),\n"), "{merge}");
    assert!(merge.contains("LORAKIT_LINEAGE") && merge.contains("LORAKIT_THREADS"), "{merge}");
    assert_eq!(page("man quantise"), page("man quantize"));
}

#[test]
fn all_pages_in_a_folder() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("man --dir share/man1", &[]).ok();
    let mut names = crate::support::entries(&sandbox.path("share/man1"));
    names.sort();
    assert_eq!(run.stdout, format!("wrote {} pages to `share/man1`\n", names.len()));
    insta::assert_snapshot!(names.join(" "), @"lorakit-combine.1 lorakit-completions.1 lorakit-convert.1 lorakit-diff.1 lorakit-edit.1 lorakit-env.1 lorakit-eval.1 lorakit-extract.1 lorakit-generate.1 lorakit-inspect.1 lorakit-man.1 lorakit-merge.1 lorakit-quantize.1 lorakit-reduce.1 lorakit-registry-add.1 lorakit-registry-diff.1 lorakit-registry-dup.1 lorakit-registry-eval.1 lorakit-registry-export.1 lorakit-registry-fsck.1 lorakit-registry-gc.1 lorakit-registry-import.1 lorakit-registry-keygen.1 lorakit-registry-lineage.1 lorakit-registry-list.1 lorakit-registry-log.1 lorakit-registry-repair.1 lorakit-registry-rm.1 lorakit-registry-show.1 lorakit-registry-sign.1 lorakit-registry-stats.1 lorakit-registry-tag.1 lorakit-registry-untag.1 lorakit-registry-verify.1 lorakit-registry.1 lorakit-trace-push.1 lorakit-trace.1 lorakit-train.1 lorakit-verify.1 lorakit-version.1 lorakit.1");
    let merge = fs::read_to_string(sandbox.path("share/man1/lorakit-merge.1")).unwrap();
    assert_eq!(merge, page("man merge"));
    // Every page that another one names is there.
    for name in &names {
        let text = fs::read_to_string(sandbox.path("share/man1").join(name)).unwrap();
        let also = text.split("SEE ALSO").nth(1).unwrap();
        for other in also.lines().filter_map(|line| line.strip_prefix("\\fB")) {
            let other = other.split("\\fR").next().unwrap().replace("\\-", "-");
            assert!(names.contains(&format!("{other}.1")), "{name} names {other}");
        }
    }
    let object: Value = serde_json::from_str(&page("man --json merge")).unwrap();
    assert_eq!(object["pages"][0]["name"], "lorakit-merge.1");
    assert_eq!(object["pages"][0]["text"], merge);
}

/// `man` itself finds nothing to complain about.
#[test]
fn pages_are_well_formed() {
    let sandbox = Sandbox::new();
    sandbox.run("man --dir man1", &[]).ok();
    let mut lint = Command::new("groff");
    lint.args(["-man", "-Tutf8", "-ww", "-z"]);
    lint.args(fs::read_dir(sandbox.path("man1")).unwrap().map(|entry| entry.unwrap().path()));
    let Ok(output) = lint.output() else {
        eprintln!("skipped: no groff here");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_page_that_does_not_exist() {
    let misspelt = Sandbox::new().refused("man mergee");
    assert!(misspelt.starts_with("exit 2\nerror: invalid value 'mergee'"), "{misspelt}");
    assert!(misspelt.contains("a similar value exists: 'merge'"), "{misspelt}");
    insta::assert_snapshot!(Sandbox::new().refused("man merge --dir x"), @"
    exit 2
    error: the argument '[COMMAND]' cannot be used with '--dir <DIR>'

    Usage: lorakit man <COMMAND>

    For more information, try '--help'.
    ");
}
