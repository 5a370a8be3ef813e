//! Bundles and statements that are not what they should be.

use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ErrorKind;

#[test]
fn a_bundle_that_is_none_is_refused() {
    let good: Value = serde_json::from_slice(&sign(&model(), &key(), "m").unwrap()).unwrap();
    let refused = |edit: &dyn Fn(&mut Value)| {
        let mut bundle = good.clone();
        edit(&mut bundle);
        let error = verify(bundle.to_string().as_bytes(), &[key().public()], &model()).unwrap_err();
        told(&error)
    };
    let signature = &good["dsseEnvelope"]["signatures"][0];
    let told = [
        refused(&|b| *b = json!([1, 2])),
        refused(&|b| b["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1".into()),
        refused(&|b| b["more"] = 1.into()),
        refused(&|b| b["verificationMaterial"] = json!({})),
        refused(&|b| b["verificationMaterial"] = json!({ "certificate": {} })),
        refused(&|b| b["dsseEnvelope"]["payloadType"] = "text/plain".into()),
        refused(&|b| b["dsseEnvelope"]["payload"] = "e30".into()),
        refused(&|b| b["dsseEnvelope"]["payload"] = "e30=".into()),
        refused(&|b| b["dsseEnvelope"]["signatures"] = json!([])),
        refused(&|b| b["dsseEnvelope"]["signatures"] = json!([signature, signature])),
        refused(&|b| b["dsseEnvelope"]["signatures"][0]["sig"] = "MEQ=".into()),
        refused(&|b| b["dsseEnvelope"]["signatures"][0]["sig"] = 1.into()),
    ];
    insta::assert_snapshot!(told.join("\n"), @"
        Corrupt: is not a bundle with a signature: invalid type: integer `1`, expected a string at line 1 column 2
        Unsupported: is a bundle of the type `application/vnd.dev.sigstore.bundle+json;version=0.1`; it must be `application/vnd.dev.sigstore.bundle.v0.3+json`
        Corrupt: is not a bundle with a signature: unknown field `more`, expected one of `mediaType`, `verificationMaterial`, `dsseEnvelope` at line 1 column 1225
        Corrupt: names neither a key nor a certificate
        Unsupported: is signed with a certificate; it must be signed with a key
        Unsupported: signs a payload of the type `text/plain`; it must be `application/vnd.in-toto+json`
        Corrupt: `payload` is not Base64: Invalid padding
        Untrusted: its signature is not one of the key 4975c03dd2ad43f3803bf943ca231389c41f26352bf098c930568797eff44dcc: payload or signature were changed
        Corrupt: has 0 signatures; it must have one
        Corrupt: has 2 signatures; it must have one
        Untrusted: its signature is not one of the key 4975c03dd2ad43f3803bf943ca231389c41f26352bf098c930568797eff44dcc: payload or signature were changed
        Corrupt: is not a bundle with a signature: invalid type: integer `1`, expected a string at line 1 column 1107
        ");

    let twice = good.to_string().replacen("{\"payload\"", "{\"payload\":\"\",\"payload\"", 1);
    let error = verify(twice.as_bytes(), &[key().public()], &model()).unwrap_err();
    assert!(error.to_string().contains("duplicate field `payload`"), "{error}");
    let deep = vec![b'['; 1 << 20];
    verify(&deep, &[key().public()], &model()).unwrap_err();
    let large = vec![b' '; MAX_BUNDLE_BYTES as usize + 1];
    let error = verify(&large, &[key().public()], &model()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File(lorakit_tensor::ErrorKind::Limit));
}

#[test]
fn a_statement_that_is_not_one_on_a_model_is_refused() {
    let refused = |edit: &dyn Fn(&mut Value)| {
        told(&verify(&edited(|s| edit(s)), &[key().public()], &model()).unwrap_err())
    };
    let resource = |change: &'static dyn Fn(&mut Value)| {
        refused(&|s| {
            change(&mut s["predicate"]["resources"]);
            rooted(s);
        })
    };
    let serialization =
        |change: &dyn Fn(&mut Value)| refused(&|s| change(&mut s["predicate"]["serialization"]));
    let told = [
        refused(&|s| *s = json!(null)),
        refused(&|s| s["_type"] = "https://in-toto.io/Statement/v0.1".into()),
        refused(&|s| s["predicateType"] = "https://slsa.dev/provenance/v1".into()),
        refused(&|s| s["subject"] = json!([])),
        refused(&|s| s["subject"][0]["digest"]["sha256"] = "0".repeat(64).into()),
        refused(&|s| s["predicate"]["more"] = 1.into()),
        refused(&|s| s["predicate"]["resources"].as_array_mut().unwrap().reverse()),
        refused(&|s| s["predicate"]["resources"][0]["digest"] = "A".repeat(64).into()),
        resource(&|r| *r = json!([])),
        resource(&|r| r[1] = r[0].clone()),
        resource(&|r| r[0]["name"] = "../a.json".into()),
        resource(&|r| r[0]["name"] = "/a.json".into()),
        resource(&|r| r[0]["algorithm"] = "blake3".into()),
        serialization(&|s| s["method"] = "tensors".into()),
        serialization(&|s| s["method"] = "shards".into()),
        serialization(&|s| s["shard_size"] = 5.into()),
        serialization(&|s| s["hash_type"] = "blake2b".into()),
        serialization(&|s| s["allow_symlinks"] = true.into()),
        serialization(&|s| s["ignore_paths"] = json!(["."])),
        serialization(&|s| s["ignore_paths"] = json!(["*.py"])),
        serialization(&|s| s["ignore_paths"] = json!(["a.json"])),
    ];
    insta::assert_snapshot!(told.join("\n"), @"
        Corrupt: its payload is not a statement on a model: invalid type: null, expected a statement at line 1 column 4
        Unsupported: its payload is of the type `https://in-toto.io/Statement/v0.1`; it must be `https://in-toto.io/Statement/v1`
        Unsupported: it states `https://slsa.dev/provenance/v1`; a signature of a model states `https://model_signing/signature/v1.0`
        Corrupt: its payload must be a statement on one model
        Corrupt: says that its digests have the digest 0000000000000000000000000000000000000000000000000000000000000000; it is 531034607e1bfabca5c270b9d8291be62971681758f2a09c2bd7d241330a3325
        Corrupt: its payload is not a statement on a model: unknown field `more`, expected `resources` or `serialization` at line 1 column 619
        Corrupt: says that its digests have the digest 531034607e1bfabca5c270b9d8291be62971681758f2a09c2bd7d241330a3325; it is 93c91b3285ca833020b37b731c854ed5b6d25b0690592231731479f738bc6313
        Corrupt: the digest of `a.json` is `AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA...`; it must be 64 lower-case hexadecimal digits
        Corrupt: signs no file
        Corrupt: lists `a.json` twice
        Corrupt: names the file `../a.json`; it must be a path inside the model, in its shortest form
        Corrupt: names the file `/a.json`; it must be a path inside the model, in its shortest form
        Unsupported: has digests of the type `blake3`; only `sha256` is read
        Unsupported: lists files by the method `tensors`; it must be `files` or `shards`
        Corrupt: `shard_size` is absent with the method `shards`
        Corrupt: `shard_size` is 5 with the method `files`
        Unsupported: has digests of the type `blake2b`; only `sha256` is read
        Unsafe: was made by following symbolic links; a model must consist of regular files
        Corrupt: would ignore `.`; it must be a path inside the model, without `*`, `?` or `[`
        Corrupt: would ignore `*.py`; it must be a path inside the model, without `*`, `?` or `[`
        Untrusted: `a.json` is signed but missing
        ");
}

/// The bundle of a model in shards of four bytes.
fn sharded(names: &[(&str, &[u8])], size: Value) -> Vec<u8> {
    edited(|s| {
        let resource = |(name, bytes): &(&str, &[u8])| json!({ "name": name, "digest": Digest::of(bytes).hex(), "algorithm": "sha256", "uri": "ignored" });
        s["predicate"]["resources"] = names.iter().map(resource).collect();
        let serialization = &mut s["predicate"]["serialization"];
        serialization["method"] = "shards".into();
        serialization["shard_size"] = size;
        rooted(s);
    })
}

#[test]
fn shards_must_cover_their_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("w:1"), "0123456789").unwrap();
    // An empty file has no shards, so the statement cannot list it.
    fs::write(folder.path().join("empty"), "").unwrap();
    let shards: [(&str, &[u8]); 3] = [("w:1:0:4", b"0123"), ("w:1:4:8", b"4567"), ("w:1:8:10", b"89")];
    let check = |names: &[(&str, &[u8])], size: Value| {
        verify(&sharded(names, size), &[key().public()], &Folder::new(folder.path()))
    };
    assert_eq!(check(&shards, 4.into()).unwrap().files(), 1);
    assert_eq!(check(&[shards[2], shards[0], shards[1]], json!(4.0)).unwrap().files(), 1);
    // Of files whose digests are known, those of one shard can be verified.
    let whole = sharded(&[("b:0:3", b"abc")], 4.into());
    assert!(verify(&whole, &[key().public()], &vec![file("b", b"abc")]).is_ok());
    let refused = |names: &[(&str, &[u8])], size: Value| told(&check(names, size).unwrap_err());
    let told = [
        refused(&shards, json!(0)),
        refused(&shards, json!(4.5)),
        refused(&shards, json!(-4)),
        refused(&shards, 5.into()),
        refused(&shards[1..], 4.into()),
        refused(&shards[..2], 4.into()),
        refused(&[shards[0], shards[2]], 4.into()),
        refused(&[shards[0], ("w:1:0:2", b"01")], 4.into()),
        refused(&[("w:1:0:18446744073709551615", b"")], json!(u64::MAX)),
        refused(&[("w:1:18446744073709551614:18446744073709551615", b"")], json!(u64::MAX)),
        refused(&[("w:1:0:18446744073709551616", b"")], json!(u64::MAX)),
        refused(&[("w:1:4:4", b"")], 4.into()),
        refused(&[("w:1:+0:4", b"0123")], 4.into()),
        refused(&[("w:1", b"0123")], 4.into()),
        refused(&[shards[0], shards[1], ("w:1:8:10", b"88")], 4.into()),
    ];
    insta::assert_snapshot!(told.join("\n"), @"
        Corrupt: `shard_size` is 0 with the method `shards`
        Corrupt: `shard_size` is 4.5 with the method `shards`
        Corrupt: `shard_size` is -4 with the method `shards`
        Corrupt: the ranges of `w:1` are not consecutive pieces of 5 bytes from its beginning
        Corrupt: the ranges of `w:1` are not consecutive pieces of 4 bytes from its beginning
        Untrusted: `w:1` has 10 bytes; signed were 8
        Corrupt: the ranges of `w:1` are not consecutive pieces of 4 bytes from its beginning
        Corrupt: lists `w:1:0:2` twice
        Untrusted: `w:1` has 10 bytes; signed were 18446744073709551615
        Corrupt: the ranges of `w:1` are not consecutive pieces of 18446744073709551615 bytes from its beginning
        Corrupt: names the shard `w:1:0:18446744073709551616`; it must be `path:start:end` of a file inside the model
        Corrupt: the ranges of `w:1` are not consecutive pieces of 4 bytes from its beginning
        Corrupt: names the shard `w:1:+0:4`; it must be `path:start:end` of a file inside the model
        Corrupt: names the shard `w:1`; it must be `path:start:end` of a file inside the model
        Untrusted: `w:1` has the digest sha256:cd70bea023f752a0564abb6ed08d42c1440f2e33e29914e55e0be1595e24f45a from byte 8 to 10; signed was sha256:8b940be7fb78aaa6b6567dd7a3987996947460df1c668e698eb92ca77e425349
        ");
    let shards = sharded(&shards, 4.into());
    let error = verify(&shards, &[key().public()], &vec![file("w:1", b"0123456789")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_bundle_is_an_error_or_says_the_same(at: prop::sample::Index, byte: u8, cut: bool) {
        let mut bundle = sign(&model(), &key(), "m").unwrap();
        let whole = verify(&bundle, &[key().public()], &model()).unwrap();
        let at = at.index(bundle.len());
        bundle[at] = byte;
        if cut {
            bundle.truncate(at);
        }
        if let Ok(verified) = verify(&bundle, &[key().public()], &model()) {
            prop_assert_eq!(verified, whole);
        }
    }

    #[test]
    fn no_statement_makes_the_reader_panic(names in prop::collection::vec("[a./]{0,3}(:[0-9]{0,20}){0,3}", 0..4), size: u64) {
        let shards: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        _ = verify(&sharded(&shards, size.into()), &[key().public()], &vec![file("a", b"x")]);
    }
}
