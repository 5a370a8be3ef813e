use std::fs;
use std::path::Path;

use super::*;
use crate::run::testing;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that `RecordWriter` and the messages of the package `tensorboard` 2.21 make.
#[test]
fn records_are_those_of_tensorboard() {
    let text = "ä".repeat(70);
    let scalars = vec![("train/loss", 0.75), ("train/epoch", 2.0)];
    let long = format!(
        "b800000000000000a0d1b53a09000000000000f83f10012aaa010aa7010a01614297010807120412020801428c01{}4a080a060a0474657874ac7ca788",
        "c3a4".repeat(70)
    );
    for (event, step, expected) in [
        (
            Event::Version,
            0,
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c",
        ),
        (Event::Start, 300, "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a"),
        (
            Event::Scalars(scalars),
            300,
            "3500000000000000d6c55de609000000000000f83f10ac022a270a110a0a747261696e2f6c6f7373150000403f0a120a0b747261696e2f65706f63681500000040ea908ac4",
        ),
        (Event::Text { tag: "a".into(), text }, 1, &long),
    ] {
        assert_eq!(hex(&record::framed(&event.encoded(1.5, step))), expected, "{event:?}");
    }
}

/// The data of a file's records.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let (bytes, mut records) = (fs::read(path).unwrap(), Vec::new());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = rest[12..12 + length].to_vec();
        assert_eq!(record::framed(&data), rest[..16 + length]);
        records.push(data);
        rest = &rest[16 + length..];
    }
    records
}

/// A run that goes on has a file after the others, whatever the clock says, which begins at the next step.
#[test]
fn files_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = testing::Tiny::with_validation();
    let run = |yaml: &str| {
        let settings = testing::settings(folder.path(), &format!("max_steps: 4\nsave_every: 2\n{yaml}"));
        tiny.run(&settings, &mut TensorBoard::default()).unwrap();
        let mut names = names_in(&folder.path().join(RUNS));
        names.sort();
        names
    };
    let first = run("");
    assert_eq!(first.len(), 1);
    let far = format!("{PREFIX}4000000000.host.1.0");
    fs::write(folder.path().join(RUNS).join(&far), "").unwrap();
    fs::remove_file(folder.path().join("adapter_config.json")).unwrap();
    let second = run(&format!("resume: {:?}\n", folder.path().join("checkpoint-2").display()));
    assert_eq!(second, [first[0].clone(), far, format!("{PREFIX}4000000001.lorakit")]);
    let of = |name: &str| records(&folder.path().join(RUNS).join(name));
    let has = |data: &[u8], text: &str| data.windows(text.len()).any(|window| window == text.as_bytes());
    let (first, second) = (of(&first[0]), of(&second[2]));
    // The version, the start, the settings; the loss before the first step; four steps with two losses.
    assert_eq!(first.iter().filter(|data| has(data, "train/loss")).count(), 4);
    assert_eq!(
        first.iter().filter(|data| has(data, "args/text_summary") && has(data, "max_steps: 4")).count(),
        1
    );
    assert_eq!(second.iter().filter(|data| has(data, "train/loss")).count(), 2);
    assert!(!second.iter().any(|data| has(data, "args/text_summary")));
    // Field 2, the step, is 3; field 7 is a log whose field 1 is 1.
    assert!(second[1].ends_with(&[0x10, 3, 0x3a, 2, 0x08, 1]));
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
