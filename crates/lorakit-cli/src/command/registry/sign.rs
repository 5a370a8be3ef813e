//! `lorakit registry sign` and `keygen`, and `verify` of a folder with its signature.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use lorakit::{ReadMode, Reader};
use lorakit_registry::sign::{self, Folder, MAX_BUNDLE_BYTES, Policy, PrivateKey, PublicKey};
use lorakit_registry::{Reference, Store};
use serde_json::json;

use crate::args;
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::ui::{self, Ui};
use crate::units;

/// Most bytes of a file of keys.
const MOST_OF_KEY: u64 = 1 << 20;

/// Signs an artifact.
pub(super) fn sign(store: &Store, args: &args::Sign, ui: &Ui) -> Result<(), Failure> {
    let reference = Reference::parse(&args.name.to_string_lossy())?;
    let key = private_key(&args.key)?;
    let bar = Bar::new(ui, "signing");
    let (tag, bundle) = store.sign(&reference, &key, &bar)?;
    bar.finish();
    if let Some(output) = &args.output {
        write(output, &bundle, 0o644)?;
    }
    let hint = key.public().hint();
    if ui.json {
        return ui.json("lorakit.registry.sign/1", json!({ "tag": tag, "key": hint, "output": args.output }));
    }
    ui.result(&format!("`{reference}` has the signature `{tag}`, of the key {}\n", &hint[..12]))
}

/// Signs a folder that is not in the registry.
pub(super) fn sign_folder(args: &args::Sign, ui: &Ui) -> Result<(), Failure> {
    let Some(output) = &args.output else {
        return Err(Failure::usage_at(
            &args.name,
            "is a path, and nothing says where its signature goes",
            "`-o model.sig` writes it to a file; what is in the registry is named `NAME:TAG`",
        ));
    };
    let key = private_key(&args.key)?;
    let folder = Folder::new(&args.name).signed_by(output);
    let name = fs::canonicalize(&args.name).ok();
    let name = name.as_deref().and_then(Path::file_name).unwrap_or(args.name.as_os_str());
    let bundle = sign::sign(&folder, &key, &name.to_string_lossy())?;
    write(output, &bundle, 0o644)?;
    let hint = key.public().hint();
    if ui.json {
        let tag: Option<&str> = None;
        return ui.json("lorakit.registry.sign/1", json!({ "tag": tag, "key": hint, "output": output }));
    }
    let (name, output) = (names::path(&args.name), names::path(output));
    ui.result(&format!("signed `{name}`: `{output}`, of the key {}\n", &hint[..12]))
}

/// Checks a folder against a signature beside it.
pub(super) fn verify_folder(args: &args::RegistryVerify, ui: &Ui) -> Result<(), Failure> {
    let ([folder], Some(signature)) = (&args.names[..], &args.signature) else {
        return Err(Failure::usage(
            "`--signature` belongs to one folder",
            "`lorakit registry verify FOLDER --signature FILE --key FILE`; signatures of artifacts are attached to them",
        ));
    };
    let keys = public_keys(&args.key)?;
    let bundle = reader().bytes(signature, MAX_BUNDLE_BYTES).map_err(lorakit::Error::from)?;
    let verified = sign::verify(&bundle, &keys, &Folder::new(folder).signed_by(signature))
        .map_err(|error| error.at(folder))?;
    let (name, hint) = (folder.display().to_string(), verified.signer().hint());
    if ui.json {
        let verified = json!([{ "name": name, "digest": null, "bytes": null, "signed_by": hint, "files": verified.files() }]);
        return ui.json("lorakit.registry.verify/1", json!({ "verified": verified }));
    }
    let files = units::plural(verified.files(), "file");
    ui.result(&format!(
        "{}: {files} of `{}`, signed by the key {}\n",
        ui::good("verified"),
        names::path(folder),
        &hint[..12]
    ))
}

/// Makes a pair of keys.
pub(super) fn keygen(output: &Path, ui: &Ui) -> Result<(), Failure> {
    let key = PrivateKey::generate()?;
    let public = output.with_added_extension("pub");
    if public.exists() {
        return Err(Failure::usage_at(&public, "exists; keys are never replaced", "name another file"));
    }
    write(output, key.to_pem()?.as_bytes(), 0o600)?;
    write(&public, key.public().to_pem().as_bytes(), 0o644)?;
    let hint = key.public().hint();
    if ui.json {
        return ui
            .json("lorakit.registry.keygen/1", json!({ "private": output, "public": public, "key": hint }));
    }
    ui.result(&format!(
        "wrote `{}`, which stays with you, and `{}`, which others verify with\n",
        names::path(output),
        names::path(&public)
    ))
}

/// The public keys in these files.
pub(super) fn public_keys(paths: &[std::path::PathBuf]) -> Result<Vec<PublicKey>, Failure> {
    let mut keys = Vec::new();
    for path in paths {
        keys.extend(PublicKey::from_pem(&text(path)?).map_err(|error| error.at(path))?);
    }
    Ok(keys)
}

/// The policy in a file.
pub(super) fn policy(path: &Path) -> Result<Policy, Failure> {
    Ok(Policy::read(path, &reader())?)
}

fn private_key(path: &Path) -> Result<PrivateKey, Failure> {
    Ok(PrivateKey::from_pem(&text(path)?).map_err(|error| error.at(path))?)
}

fn text(path: &Path) -> Result<String, Failure> {
    let bytes = reader().bytes(path, MOST_OF_KEY).map_err(lorakit::Error::from)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn reader() -> Reader {
    Reader::new(ReadMode::Positioned)
}

/// Writes a new file; nothing is replaced.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    super::super::refuse_existing(path)?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    Ok(written.map_err(|error| lorakit::Error::from(lorakit_tensor::Error::io("write", path, error)))?)
}
