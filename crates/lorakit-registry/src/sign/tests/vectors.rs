//! Bundles of the specification and of model-signing, and ours.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn oms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oms")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(oms().join(name)).unwrap()
}

fn public(name: &str) -> Vec<PublicKey> {
    PublicKey::from_pem(&String::from_utf8(fixture(name)).unwrap()).unwrap()
}

#[test]
fn bundles_of_the_specification_and_of_model_signing_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["signme-1", "signme-2"] {
        fs::write(folder.path().join(name), fixture(&format!("model/{name}"))).unwrap();
    }
    let check = |bundle: &str, key: &str| {
        let verified = verify(&fixture(bundle), &public(key), &Folder::new(folder.path())).unwrap();
        assert_eq!((verified.files(), verified.signer()), (2, &public(key)[0]), "{bundle}");
        verified
    };
    let p384 = "model-signing/p384-public.pem";
    // Of a version that wrote the whole key instead of a hint, and no ignored paths.
    assert_eq!(check("model-signing/1.0.1.sig", p384).subject(), "v1.0.1-elliptic-key");
    check("model-signing/1.1.0.sig", p384);
    check("model-signing/1.1.1-shards-p521.sig", "model-signing/p521-public.pem");
    fs::write(folder.path().join("ignore-me"), "x").unwrap();
    assert!(check("spec/valid-key.bundle.json", p384).ignored().covers("ignore-me"));

    let error = verify(&fixture("model-signing/1.0.1.sig"), &public(p384), &Folder::new(folder.path()));
    assert_eq!(error.unwrap_err().to_string(), "`ignore-me` is not signed");
    fs::remove_file(folder.path().join("ignore-me")).unwrap();
    fs::write(folder.path().join("signme-2"), "signme-3").unwrap();
    let error = verify(
        &fixture("model-signing/1.1.1-shards-p521.sig"),
        &public("model-signing/p521-public.pem"),
        &Folder::new(folder.path()),
    );
    insta::assert_snapshot!(told(&error.unwrap_err()), @"Untrusted: `signme-2` has the digest sha256:f52a315c8841749fb4904048364775f3b6b420d5278ce9b828eb464164271f36 from byte 5 to 8; signed was sha256:761d230a06e678ef0d18d4997dad6b33274e7c8a0416a3c4358abe3cd5c0d24e");
}

#[test]
fn bundles_that_the_specification_refuses_are_refused() {
    let mut names: Vec<_> = fs::read_dir(oms().join("spec"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "valid-key.bundle.json")
        .collect();
    names.sort();
    let refused = |name: &String| {
        let bundle = fixture(&format!("spec/{name}"));
        let error =
            verify(&bundle, &public("model-signing/p384-public.pem"), &Folder::new(&oms().join("model")));
        format!("{name}\n  {}", told(&error.unwrap_err()))
    };
    insta::assert_snapshot!(names.iter().map(refused).collect::<Vec<_>>().join("\n"), @"
        invalid-empty.bundle.json
          Corrupt: is not a bundle with a signature: EOF while parsing a value at line 1 column 0
        invalid-missing-envelope.bundle.json
          Corrupt: is not a bundle with a signature: missing field `dsseEnvelope` at line 9 column 1
        invalid-missing-tlog-entries.bundle.json
          Unsupported: is signed with a certificate; it must be signed with a key
        invalid-missing-verification-material.bundle.json
          Corrupt: is not a bundle with a signature: missing field `verificationMaterial` at line 13 column 1
        invalid-wrong-predicate.bundle.json
          Untrusted: its signature is not one of the key e8450dec4eb99dae995da9af1bc2cc9f76ed669ee2e744f57abba763df3e3f8e: payload or signature were changed
        valid-certificate.bundle.json
          Unsupported: is signed with a certificate; it must be signed with a key
        valid-sigstore.bundle.json
          Unsupported: is signed with a certificate; it must be signed with a key
        ");
}

#[test]
fn a_bundle_depends_on_files_key_and_name_only() {
    let bundle = sign(&model(), &key(), "acme/tiny").unwrap();
    let reversed: Vec<FileDigest> = model().into_iter().rev().collect();
    assert_eq!(bundle, sign(&reversed, &key(), "acme/tiny").unwrap());
    insta::assert_snapshot!(String::from_utf8(bundle.clone()).unwrap(), @r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"4975c03dd2ad43f3803bf943ca231389c41f26352bf098c930568797eff44dcc"},"tlogEntries":[]},"dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJuYW1lIjoiYWNtZS90aW55IiwiZGlnZXN0Ijp7InNoYTI1NiI6IjUzMTAzNDYwN2UxYmZhYmNhNWMyNzBiOWQ4MjkxYmU2Mjk3MTY4MTc1OGYyYTA5YzJiZDdkMjQxMzMwYTMzMjUifX1dLCJwcmVkaWNhdGVUeXBlIjoiaHR0cHM6Ly9tb2RlbF9zaWduaW5nL3NpZ25hdHVyZS92MS4wIiwicHJlZGljYXRlIjp7InJlc291cmNlcyI6W3sibmFtZSI6ImEuanNvbiIsImRpZ2VzdCI6IjQ0MTM2ZmEzNTViMzY3OGExMTQ2YWQxNmY3ZTg2NDllOTRmYjRmYzIxZmU3N2U4MzEwYzA2MGY2MWNhYWZmOGEiLCJhbGdvcml0aG0iOiJzaGEyNTYifSx7Im5hbWUiOiJiL3dlaWdodHMiLCJkaWdlc3QiOiI4NGQ4OTg3N2YwZDQwNDFlZmI2YmY5MWExNmYwMjQ4ZjJmZDU3M2U2YWYwNWMxOWY5NmJlZGI5Zjg4MmY3ODgyIiwiYWxnb3JpdGhtIjoic2hhMjU2In1dLCJzZXJpYWxpemF0aW9uIjp7Im1ldGhvZCI6ImZpbGVzIiwiaGFzaF90eXBlIjoic2hhMjU2IiwiYWxsb3dfc3ltbGlua3MiOmZhbHNlLCJpZ25vcmVfcGF0aHMiOlsiLmdpdCIsIi5naXRhdHRyaWJ1dGVzIiwiLmdpdGh1YiIsIi5naXRpZ25vcmUiXX19fQ==","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEUCIDJdfzdSVuqlXAEpoHYOZM0Y5hgmtZ+/kF3Hh0uLeFhcAiEAxPdFnn1SuhagSb3XZFzfbl4QEIi05QFLOvLOumtFrq8=","keyid":""}]}}"#);
    insta::assert_snapshot!(format!("{:#}", statement_of(&bundle)), @r#"
        {
          "_type": "https://in-toto.io/Statement/v1",
          "subject": [
            {
              "name": "acme/tiny",
              "digest": {
                "sha256": "531034607e1bfabca5c270b9d8291be62971681758f2a09c2bd7d241330a3325"
              }
            }
          ],
          "predicateType": "https://model_signing/signature/v1.0",
          "predicate": {
            "resources": [
              {
                "name": "a.json",
                "digest": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "algorithm": "sha256"
              },
              {
                "name": "b/weights",
                "digest": "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882",
                "algorithm": "sha256"
              }
            ],
            "serialization": {
              "method": "files",
              "hash_type": "sha256",
              "allow_symlinks": false,
              "ignore_paths": [
                ".git",
                ".gitattributes",
                ".github",
                ".gitignore"
              ]
            }
          }
        }
        "#);
}
