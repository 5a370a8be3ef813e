//! What a sheet makes of its inputs' cards.

use super::licence::Licence;
use super::words::{bytes, code, count, number, percent, plain};
use super::*;
use crate::lineage::identity::Identity;

/// A sheet of a merge of a base and adapters, each with its card.
fn merge(base: (&str, &str), adapters: &[(&str, &str)]) -> Sheet {
    let mut record = Record::new("merge");
    let mut inputs = Vec::new();
    let named = |name: &str| Identity { name: name.into(), revision: None };
    for (role, (name, card)) in
        std::iter::once((Role::Base, base)).chain(adapters.iter().map(|a| (Role::Adapter, *a)))
    {
        record.parents.push(Parent::new(role, named(name)));
        let card = (!card.is_empty()).then(|| Card::parse(card.as_bytes()));
        inputs.push(Input { card, id: named(name).id(), name: name.into(), ..Input::default() });
    }
    Sheet::new(record, inputs, true)
}

fn front(sheet: &Sheet) -> String {
    let card = sheet.card(&Held { files: &[], side_files: &[], bytes: 0, retention: &[] });
    let text = String::from_utf8(card.bytes()).expect("it is text");
    let (front, _) = text.split_once("\n---\n").expect("it has metadata");
    front.trim_start_matches("---\n").to_string()
}

const MIT: &str = "---\nlicense: mit\n---\n";
const APACHE: &str = "---\nlicense: apache-2.0\n---\n";
const LLAMA: &str = "---\nlicense: other\nlicense_name: llama\nlicense_link: https://x\n---\n";

#[test]
fn a_licence_is_stated_if_all_that_state_one_agree() {
    let of = |base, adapters: &[_]| merge(("base", base), adapters).licence();
    assert_eq!(of("", &[("a", "# text\n")]), Licence::Unknown);
    assert_eq!(of("---\nlicense:\n---\n", &[("a", "---\nlicense: ~\n---\n")]), Licence::Unknown);
    let mit = Licence::Agreed(vec![("license", crate::card::Value::text("mit"))]);
    assert_eq!(of(MIT, &[("a", "")]), mit);
    assert_eq!(of("", &[("a", MIT), ("b", MIT)]), mit);
    assert_eq!(of(MIT, &[("a", "---\nlicense: [MIT]\n---\n")]), mit);
    assert!(matches!(of(LLAMA, &[("a", LLAMA)]), Licence::Agreed(values) if values.len() == 3));
    let differ = |stated: &[(&str, &str)]| {
        Licence::Differ(stated.iter().map(|(name, licence)| ((*name).into(), (*licence).into())).collect())
    };
    assert_eq!(of(APACHE, &[("a", MIT)]), differ(&[("base", "apache-2.0"), ("a", "mit")]));
    assert_eq!(
        of(LLAMA, &[("a", "---\nlicense: other\n---\n")]),
        differ(&[("base", "llama"), ("a", "other")])
    );
}

#[test]
fn licences_that_differ_are_removed_and_told() {
    let sheet = merge(("base", LLAMA), &[("style", MIT)]);
    assert_eq!(front(&sheet), "base_model_relation: merge\ntags:\n- merge\n- lorakit");
    let [note] = sheet.notes().try_into().expect("one note");
    assert_eq!(
        note.message,
        "what is made from inputs of different licences must comply with all of them: llama (`base`), mit (`style`); \
         a model card states none"
    );
    let text = String::from_utf8(sheet.page(&Held { files: &[], side_files: &[], bytes: 0, retention: &[] }));
    assert!(text.is_ok_and(|text| text.contains("all of which apply: llama (`base`) and mit (`style`).")));
}

#[test]
fn the_base_is_known_by_its_id_or_not_at_all() {
    let with = |base: (&str, &str), says: &[&str]| {
        let mut sheet = merge(base, &says.iter().map(|_| ("style", "")).collect::<Vec<_>>());
        for (parent, name) in sheet.record.parents[1..].iter_mut().zip(says) {
            parent.base_model = Some((*name).into());
        }
        front(&sheet).lines().next().expect("a line").to_string()
    };
    assert_eq!(with(("org/base", ""), &["other/base"]), "base_model: org/base");
    // The adapter's word counts if the folder has that name.
    assert_eq!(with(("Base", ""), &["org/base", "org/base"]), "base_model: org/base");
    for (name, says) in
        [("folder", &["org/base"][..]), ("base", &["org/base", "other/base"]), ("base", &["base"])]
    {
        assert_eq!(with((name, ""), says), "base_model_relation: merge", "{name} {says:?}");
    }
    // What the base's card names is the base of the base.
    assert_eq!(with(("folder", "---\nbase_model: org/root\n---\n"), &[]), "base_model_relation: merge");
    assert_eq!(with(("org/base", "---\nbase_model:\n- org/root\n---\n"), &[]), "base_model: org/base");
    // Unless the base is an output of an earlier step.
    let mut earlier = Card::parse(b"---\nbase_model: org/root\nbase_model_relation: merge\n---\n");
    earlier.set_section("text");
    let earlier = String::from_utf8(earlier.bytes()).expect("it is text");
    assert_eq!(with(("folder", &earlier), &[]), "base_model: org/root");
}

#[test]
fn the_name_in_a_configuration_needs_a_witness() {
    let of = |path: &str, name: &str, made_here| {
        let config = ModelConfig { json: serde_json::json!({ "_name_or_path": name }) };
        let input = Input::of_path(Path::new(path)).of_config(Some(&config), made_here);
        (input.id, input.claimed, input.name)
    };
    let id = || Some("org/model".to_string());
    assert_eq!(of("/x/Model", "org/model", false), (id(), id(), "org/model".into()));
    assert_eq!(of("/x/tuned", "org/model", false), (None, id(), "tuned".into()));
    assert_eq!(of("/x/model", "org/model", true), (None, None, "model".into()));
    assert_eq!(of("/x/model", "/home/me/model", false), (None, None, "model".into()));
    let cached = "/x/models--org--other/snapshots/1a2b";
    assert_eq!(of(cached, "org/model", false), (Some("org/other".into()), id(), "org/other".into()));
}

#[test]
fn text_from_elsewhere_is_never_markup() {
    for (text, expected) in [
        ("style", "`style`"),
        ("a`b\n# c", "`a b # c`"),
        ("a|b", "`a\\|b`"),
        ("<!-- x -->", "`<!-- x -->`"),
        ("", "(no name)"),
        (" \u{7}", "(no name)"),
    ] {
        assert_eq!(code(text), expected);
    }
    assert_eq!(
        (plain("Q4_K_M"), plain("apache-2.0"), plain("[x](y)")),
        ("`Q4_K_M`".into(), "apache-2.0".into(), "`[x](y)`".into())
    );
}

#[test]
fn numbers_are_short() {
    assert_eq!([2.0, 0.25, 2.0 / 3.0, 1e-9, 0.0].map(number), ["2", "0.25", "0.666667", "0.000000001", "0"]);
    assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([12, 1000, 98_512, 5_000_000_000].map(bytes), ["12 bytes", "1.00 kB", "98.5 kB", "5.00 GB"]);
    assert_eq!([1.0, 0.99987, 0.0, -0.5].map(percent), ["100 %", "99.99 %", "0 %", "-50 %"]);
}
