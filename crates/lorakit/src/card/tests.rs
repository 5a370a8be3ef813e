//! Cards of every kind that people write, and of kinds that nobody should.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn edited(text: &str, edit: impl FnOnce(&mut Card)) -> String {
    let mut card = Card::parse(text.as_bytes());
    assert_eq!(card.bytes(), text.as_bytes(), "an unedited card keeps its bytes");
    edit(&mut card);
    let bytes = card.bytes();
    assert_eq!(Card::parse(&bytes).bytes(), bytes);
    String::from_utf8(bytes).unwrap()
}

fn completed(text: &str) -> String {
    edited(text, |card| {
        card.complete("license", &Value::text("mit")).unwrap();
        card.complete("tags", &Value::list(["lora", "lorakit"])).unwrap();
    })
}

#[test]
fn only_missing_keys_are_added() {
    let card = "---\n# mine\nlicense: gpl-3.0   # really\n\ntags: # none yet\n---\n# Title\n";
    assert_eq!(
        completed(card),
        "---\n# mine\nlicense: gpl-3.0   # really\n\ntags:\n- lora\n- lorakit\n---\n# Title\n"
    );
    assert_eq!(completed("---\ntags: [x]\n---"), "---\ntags: [x]\nlicense: mit\n---");
}

#[test]
fn a_card_without_front_matter_gets_one() {
    let front = "---\nlicense: mit\ntags:\n- lora\n- lorakit\n---\n";
    assert_eq!(completed(""), front);
    assert_eq!(completed("# Title\n"), format!("{front}\n# Title\n"));
    assert_eq!(completed("\n# Title\n"), format!("{front}\n# Title\n"));
    // Never closed: a rule, and then text.
    assert_eq!(completed("---\nlicense: x\n"), format!("{front}\n---\nlicense: x\n"));
    assert_eq!(completed("--- \nlicense: x\n---\n"), format!("{front}\n--- \nlicense: x\n---\n"));
    assert_eq!(completed("---\n---\nx"), format!("{front}x"));
    assert_eq!(
        completed("\n \n---\n# c\n---\nx"),
        "\n \n---\n# c\nlicense: mit\ntags:\n- lora\n- lorakit\n---\nx"
    );
}

#[test]
fn lines_end_as_they_did_and_a_byte_order_mark_goes() {
    let card = "\u{feff}---\r\na: 1\r\n---\r\n# Title\r\n";
    assert_eq!(
        completed(card),
        "---\r\na: 1\r\nlicense: mit\r\ntags:\r\n- lora\r\n- lorakit\r\n---\r\n# Title\r\n"
    );
    assert_eq!(Card::parse(card.as_bytes()).text("a"), Some("1"));
}

#[test]
fn keys_are_replaced_and_removed_where_they_stand() {
    let card = "---\na: 1\nbase_model:\n- x/y\n- z\n# after\nlicense: mit\n---\n";
    let set = |card: &mut Card| assert!(card.set("base_model", &Value::text("org/base")).unwrap());
    assert_eq!(edited(card, set), "---\na: 1\nbase_model: org/base\n# after\nlicense: mit\n---\n");
    let remove = |card: &mut Card| assert!(card.remove("base_model").unwrap());
    assert_eq!(edited(card, remove), "---\na: 1\n# after\nlicense: mit\n---\n");
    let nothing = |card: &mut Card| {
        assert!(!card.remove("absent").unwrap());
        assert!(!card.set("license", &Value::text("mit")).unwrap());
        assert!(!card.complete("license", &Value::text("gpl")).unwrap());
    };
    assert_eq!(edited(card, nothing), card);
}

#[test]
fn what_cannot_be_edited_stays() {
    let cards = [
        ("---\nlicense: [\n---\nx\n", "is not YAML"),
        ("---\n{license: mit}\n---\nx\n", "is written in braces"),
        ("---\n- a\n---\nx\n", "is not a list of keys with values"),
        (
            "---\nlicense: &l mit\nother: *l\n---\n",
            "cannot be edited line by line: other keys depend on `license`",
        ),
    ];
    for (text, reason) in cards {
        let mut card = Card::parse(text.as_bytes());
        let error = card.set("license", &Value::text("gpl")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(card.bytes(), text.as_bytes());
    }
    let mut binary = Card::parse(b"---\nlicense: \xff\n---\n");
    assert_eq!(binary.set("license", &Value::text("gpl")).unwrap_err().to_string(), "it is not UTF-8");
    binary.set_section("text");
    assert_eq!(binary.bytes(), b"---\nlicense: \xff\n---\n");
}

#[test]
fn a_section_goes_under_the_front_matter() {
    let text = edited("---\na: 1\n---\n\n# Title\n", |card| card.set_section("one"));
    assert_eq!(text, format!("---\na: 1\n---\n\n{}\none\n{}\n\n# Title\n", section::BEGIN, section::END));
    assert_eq!(edited(&text, |card| card.set_section("two")), text.replace("one", "two"));
}

#[test]
fn files_that_are_not_cards_are_noted_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CARD_FILE);
    let read = || {
        let mut notes = Vec::new();
        let card = Card::read(folder.path(), &Reader::default(), &mut notes);
        (card, notes.into_iter().map(|note| note.message).collect::<Vec<_>>().join("; "))
    };
    assert_eq!(read(), (None, String::new()));
    std::fs::create_dir(&path).unwrap();
    assert_eq!(read(), (None, String::new()));
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    let (card, note) = read();
    assert!(card.is_none() && note.starts_with("the model card is not read: "), "{note}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "x".repeat(5 << 20)).unwrap();
    let (card, note) = read();
    assert!(card.is_none() && note.contains("5242880 bytes"), "{note}");
    std::fs::write(&path, "---\na: [\n---\n").unwrap();
    let (card, note) = read();
    assert!(
        card.is_some() && note.starts_with("the model card is kept as it is: its front matter is not YAML"),
        "{note}"
    );
}
