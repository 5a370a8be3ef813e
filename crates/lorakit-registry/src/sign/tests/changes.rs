//! Files, payloads and keys that are others than those of the signature.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

#[test]
fn files_that_differ_are_named() {
    let bundle = sign(&model(), &key(), "m").unwrap();
    let refused = |files: Vec<FileDigest>| told(&verify(&bundle, &[key().public()], &files).unwrap_err());
    let [a, b] = <[FileDigest; 2]>::try_from(model()).unwrap();
    let told = [
        refused(vec![a.clone()]),
        refused(vec![a.clone(), b.clone(), file("c", b"")]),
        refused(vec![a.clone(), file("b/weights", b"0123456780")]),
        refused(vec![file("A.json", b"{}"), b.clone()]),
        refused(vec![file("a.json", b"[]"), file("b/weights", b"")]),
        refused(vec![a.clone(), a.clone(), b.clone()]),
    ];
    insta::assert_snapshot!(told.join("\n"), @"
        Untrusted: `b/weights` is signed but missing
        Untrusted: `c` is not signed
        Untrusted: `b/weights` has the digest sha256:387861473bdec7ee98095a4a03910b86a8a442c2f6f3f251fee1c865a74b44aa; signed was sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882
        Untrusted: 2 files differ from what was signed
            `a.json` is signed but missing
            `A.json` is not signed
        Untrusted: 2 files differ from what was signed
            `a.json` has the digest sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945; signed was sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
            `b/weights` has the digest sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855; signed was sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882
        Corrupt: lists `a.json` twice
        ");
}

#[test]
fn only_the_given_keys_are_trusted() {
    let bundle = sign(&model(), &key(), "m").unwrap();
    let other = PrivateKey::generate().unwrap().public();
    let both = verify(&bundle, &[other, key().public()], &model()).unwrap();
    assert_eq!(both.signer(), &key().public());
    let error = verify(&bundle, &[other], &model()).unwrap_err();
    let text =
        format!("is signed by the key {}; it must be signed by {}", key().public().hint(), other.hint());
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Untrusted, text));
    let none = verify(&bundle, &[], &model()).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Usage);
    // The hint is not signed: it neither admits nor refuses.
    let renamed = String::from_utf8(bundle).unwrap().replace(&key().public().hint(), &other.hint());
    assert!(verify(renamed.as_bytes(), &[key().public()], &model()).is_ok());
    assert!(verify(renamed.as_bytes(), &[other], &model()).is_err());
    let painted = renamed.replace(&other.hint(), "\\u001b[2J");
    let error = verify(painted.as_bytes(), &[other], &model()).unwrap_err();
    assert!(error.to_string().starts_with("is signed by the key \\u{1b}[2J;"), "{error}");
}

#[test]
fn a_signature_inside_the_folder_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let signature = folder.path().join("model.sig");
    let files = Folder::new(folder.path()).signed_by(&signature);
    let nothing = sign(&files, &key(), "m").unwrap_err();
    assert_eq!(nothing.to_string(), "there is no file to sign");
    fs::write(folder.path().join("a"), "a").unwrap();
    fs::write(&signature, "an older one").unwrap();
    let bundle = sign(&files, &key(), "m").unwrap();
    fs::write(&signature, &bundle).unwrap();
    assert_eq!(verify(&bundle, &[key().public()], &files).unwrap().files(), 1);
    // Others find it by the path that is recorded.
    assert!(verify(&bundle, &[key().public()], &Folder::new(folder.path())).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_changed_byte_of_a_file_is_refused(
        contents in prop::collection::btree_map("[a-c]{1,2}(/[a-c]){0,2}", prop::collection::vec(any::<u8>(), 1..40), 1..6),
        which: prop::sample::Index, at: prop::sample::Index, flip in 1..=255u8,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut written = Vec::new();
        for (name, content) in &contents {
            let path = folder.path().join(name);
            // One name may be the folder of another.
            if fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::write(&path, content)).is_ok() {
                written.push((path, content));
            }
        }
        let files = Folder::new(folder.path());
        let bundle = sign(&files, &key(), "m").unwrap();
        let keys = [key().public()];
        prop_assert_eq!(verify(&bundle, &keys, &files).unwrap().files(), written.len());
        let (path, content) = which.get(&written);
        let mut changed = content.to_vec();
        changed[at.index(content.len())] ^= flip;
        fs::write(path, changed).unwrap();
        prop_assert_eq!(verify(&bundle, &keys, &files).unwrap_err().kind(), ErrorKind::Untrusted);
    }

    #[test]
    fn any_changed_byte_of_the_payload_or_the_signature_is_refused(
        at: prop::sample::Index, flip in 1..=255u8, of_signature: bool,
    ) {
        let mut bundle: Value = serde_json::from_slice(&sign(&model(), &key(), "m").unwrap()).unwrap();
        let place = if of_signature { "/dsseEnvelope/signatures/0/sig" } else { "/dsseEnvelope/payload" };
        let text = bundle.pointer_mut(place).unwrap();
        let mut bytes = BASE64.decode(text.as_str().unwrap()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        *text = BASE64.encode(bytes).into();
        let error = verify(bundle.to_string().as_bytes(), &[key().public()], &model()).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Untrusted);
    }
}
