//! `lorakit registry verify`, `fsck`, `repair` and `gc`.

use std::fmt::Write as _;
use std::path::Path;

use lorakit::plan::Progress as _;
use lorakit_registry::{Fault, GcOptions, Harm, Reference, Repaired, Signers, Store};
use serde::Serialize;

use serde_json::json;

use super::sign;
use crate::args;
use crate::error::Failure;
use crate::names::shown;
use crate::progress::Bar;
use crate::ui::{self, Ui};
use crate::units;

/// Reads artifacts whole, and checks who signed them if that is asked for. The first that is not right is the error.
pub(super) fn verify(store: &Store, args: &args::RegistryVerify, ui: &Ui) -> Result<(), Failure> {
    let mut artifacts = Vec::new();
    if args.names.is_empty() {
        let catalog = store.catalog()?;
        if let Some((_, error)) = catalog.damaged.into_iter().next() {
            return Err(error.into());
        }
        artifacts.extend(catalog.entries.into_iter().map(|entry| (entry.tag, entry.artifact)));
    } else {
        for name in &args.names {
            let reference = Reference::parse(&name.to_string_lossy())?;
            artifacts.push((reference.to_string(), store.find(&reference)?));
        }
    }
    let keys = sign::public_keys(&args.key)?;
    let policy = args.trust.as_deref().map(sign::policy).transpose()?;
    let signers = match &policy {
        Some(policy) => Some(Signers::Policy(policy)),
        None if keys.is_empty() => None,
        None => Some(Signers::Keys(&keys)),
    };
    let bar = Bar::new(ui, "verifying");
    bar.begin(artifacts.iter().map(|(_, artifact)| artifact.bytes).sum());
    let (mut verified, mut signed) = (Vec::new(), 0);
    for (name, artifact) in &artifacts {
        let by = match signers {
            Some(signers) => {
                let reference = Reference::parse(name)?;
                let folder = store.checkout(artifact, &reference, &bar)?;
                let found = store.check_signed(artifact, reference.name().as_str(), &folder, signers)?;
                found.map(|found| found.signer().hint())
            }
            None => {
                store.verify(artifact, name, &bar)?;
                None
            }
        };
        signed += usize::from(by.is_some());
        verified.push(json!({
            "name": name, "digest": artifact.digest, "bytes": artifact.bytes, "signed_by": by,
        }));
    }
    bar.finish();
    let bytes: u64 = artifacts.iter().map(|(_, artifact)| artifact.bytes).sum();
    if ui.json {
        return ui.json("lorakit.registry.verify/1", json!({ "verified": verified }));
    }
    let count = units::plural(artifacts.len(), "artifact");
    let mut text =
        format!("{}: {count}, {}, every byte as its digest says", ui::good("verified"), units::size(bytes));
    if signers.is_some() {
        let _ = write!(text, "; {signed} signed by a trusted key");
    }
    ui.result(&(text + "\n"))
}

pub(super) fn fsck(store: &Store, read_data: bool, ui: &Ui) -> Result<(), Failure> {
    let bar = Bar::new(ui, "checking");
    let fsck = store.fsck(read_data, &bar)?;
    bar.finish();
    if ui.json {
        ui.json("lorakit.registry.fsck/1", &fsck)?;
    } else {
        let looked = format!(
            "{}, {}, {}{}",
            units::plural(fsck.tags, "tag"),
            units::plural(fsck.blobs, "blob"),
            units::size(fsck.bytes),
            if read_data { ", every byte read" } else { "; `--read-data` reads every byte" },
        );
        let text = match &fsck.faults[..] {
            [] => format!("{}: {looked}\n", ui::good("no damage")),
            faults => format!("{}of {looked}\n", told(faults)),
        };
        ui.result(&text)?;
    }
    match fsck.faults.is_empty() {
        true => Ok(()),
        false => Err(Failure::Differs("the registry is damaged; see above")),
    }
}

pub(super) fn repair(root: &Path, ui: &Ui) -> Result<(), Failure> {
    let (store, layout) = Store::open_to_repair(root)?;
    let bar = Bar::new(ui, "checking");
    let repaired = store.repair(&bar)?;
    bar.finish();
    if ui.json {
        ui.json("lorakit.registry.repair/1", Told { layout, repaired: &repaired })?;
    } else {
        let mut text = String::new();
        if layout {
            text += "what says that it is a registry was torn, and was written anew\n";
        }
        if repaired.index {
            text += "index.json was written anew\n";
        }
        if !repaired.quarantined.is_empty() {
            let count = units::plural(repaired.quarantined.len(), "blob");
            let _ = writeln!(text, "{count} moved to quarantine");
        }
        text += &told(&repaired.lost);
        if text.is_empty() {
            text = "nothing had to be mended\n".into();
        }
        ui.result(&text)?;
    }
    match repaired.lost.is_empty() {
        true => Ok(()),
        false => Err(Failure::Differs("what is lost must be added or imported again; see above")),
    }
}

/// What was mended.
#[derive(Serialize)]
struct Told<'r> {
    layout: bool,
    #[serde(flatten)]
    repaired: &'r Repaired,
}

/// A line for each fault.
fn told(faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        let word = match fault.harm {
            Harm::Mendable => "mendable",
            Harm::Lost => "lost",
        };
        let tags = match &fault.tags[..] {
            [] => String::new(),
            tags => format!("; needed by {}", tags.join(", ")),
        };
        let _ =
            writeln!(text, "{}: {} {}{}", ui::bad(word), fault.subject, shown(&fault.message), shown(&tags));
    }
    text
}

pub(super) fn gc(store: &Store, args: &args::Sweep, ui: &Ui) -> Result<(), Failure> {
    let options = GcOptions { apply: args.apply, grace: args.grace, history: args.history, now: None };
    let gc = store.gc(&options)?;
    if ui.json {
        return ui.json("lorakit.registry.gc/1", &gc);
    }
    let word = if gc.applied { "removed" } else { "would remove" };
    let mut text = format!("{word} {}, {}", units::plural(gc.blobs, "blob"), units::size(gc.bytes));
    if gc.leftovers > 0 {
        let _ =
            write!(text, ", and {} of processes that ended early", units::plural(gc.leftovers, "leftover"));
    }
    if gc.spared > 0 {
        let _ = write!(text, "; {} are too young to go", units::size(gc.spared));
    }
    text.push('\n');
    ui.result(&text)?;
    if !gc.applied && gc.blobs + gc.leftovers > 0 && !ui.quiet {
        ui::note("note: `lorakit registry gc --apply` removes it");
    }
    Ok(())
}
