//! What every runtime of the table promises, and what adding one takes.

use std::collections::HashSet;
use std::path::Path;

use super::{Runtime, TargetReport};
use crate::adapter::format;
use crate::ops::inspect::{InspectOptions, Inspection, inspect};
use crate::plan::Silent;
use crate::{Choice, ErrorKind, Severity};

fn ask(path: &Path, runtime: Runtime) -> TargetReport {
    let options = InspectOptions::default().with_runtime(Some(runtime));
    match inspect(path, &options, &Silent).unwrap_or_else(|e| panic!("{runtime:?}: {e}")) {
        Inspection::Adapter(report) => report.target.unwrap(),
        Inspection::Model(_) => panic!("{} is an adapter", path.display()),
    }
}

#[test]
fn names_are_unique_and_found() {
    let mut names = HashSet::new();
    for runtime in Runtime::all() {
        for name in runtime.aliases().iter().chain([&runtime.name()]) {
            assert!(names.insert(*name), "{name}");
            assert_eq!(Runtime::from_name(name), Some(*runtime));
        }
        assert!(!runtime.title().is_empty() && !runtime.about().is_empty());
        let format = format::by_name(runtime.0.format);
        assert!(format.is_some_and(|format| format.is_written()), "{runtime:?}");
    }
    assert_eq!(Runtime::from_name("nothing"), None);
}

/// Every runtime has an answer for every golden adapter, and says what to do about what it refuses.
#[test]
fn every_runtime_judges_every_golden() {
    let adapters = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/peft/adapters");
    let mut asked = 0;
    for entry in std::fs::read_dir(adapters).unwrap() {
        let path = entry.unwrap().path();
        for runtime in Runtime::all() {
            let report = ask(&path, *runtime);
            assert_eq!(report.runtime, *runtime);
            let grave = report.verdicts.iter().any(|verdict| verdict.severity == Severity::Error);
            assert_eq!(report.is_accepted(), !grave);
            assert!(report.verdicts.is_sorted_by(|a, b| a.severity >= b.severity));
            let told = |text: &str| !text.is_empty() && !text.ends_with('.');
            assert!(report.verdicts.iter().all(|v| told(&v.reason) && !v.code.is_empty()), "{report:?}");
            asked += 1;
        }
    }
    assert!(asked > 10 * Runtime::all().len(), "only {asked} were asked");
}

/// `dummy` is in `dummy.rs` and in one line of the table, and nowhere else.
#[test]
fn one_more_runtime_is_one_module_and_one_line() {
    let peft = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/peft");
    let dummy = Runtime::from_name("dumb").unwrap();
    let report = ask(&peft.join("adapters/attn-r4"), dummy);
    assert!(!report.is_accepted());
    assert_eq!(
        report.verdicts[0].reason,
        "Dummy reads folders of its own format, and this is in the format `peft`"
    );
    let fix = report.verdicts[0].fix.as_deref().unwrap();
    assert!(fix.ends_with("-o adapter-dummy --to dummy`"), "{fix}");
    // What its format cannot hold is reported part by part.
    let report = ask(&peft.join("adapters/dora"), dummy);
    assert!(report.verdicts.iter().all(|verdict| verdict.code == "inexpressible"), "{report:?}");
    // Messages name it.
    let options = InspectOptions::default().with_runtime(Some(dummy));
    let error = inspect(&peft.join("bases/llama-bf16"), &options, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoAdapter);
    assert!(error.to_string().contains("Dummy"), "{error}");
}
