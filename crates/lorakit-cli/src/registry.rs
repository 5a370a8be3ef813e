//! Names of the registry on the command line: where the registry is, and the folders that inputs named `NAME:TAG` stand
//! for.
//!
//! What is printed names an input as it was typed, not by its place in the registry.

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use lorakit::{ErrorKind, Finding, Hint, Severity};
use lorakit_registry::add::{self, AddOptions};
use lorakit_registry::sign::Policy;
use lorakit_registry::{Expected, Reference, Signers, Store, Tag, Workbench};
use lorakit_tensor::ErrorKind as FileError;

use crate::args::Command;
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::ui::{self, Ui};

/// The folders that inputs stand for, and what was typed.
static INPUTS: RwLock<Vec<(PathBuf, String)>> = RwLock::new(Vec::new());

/// The folder of the registry.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = || set("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = || Some(set("HOME")?.join(".local/share"));
    let own = set("LORAKIT_HOME").or_else(|| Some(data().or_else(home)?.join("lorakit")));
    own.map(|own| own.join("store")).ok_or_else(|| {
        Failure::usage(
            "there is no folder for a registry: neither `LORAKIT_HOME`, `XDG_DATA_HOME` nor `HOME` is set",
            "name one with `--store DIR`, or set `LORAKIT_HOME`",
        )
    })
}

/// Replaces inputs that name an artifact by its folder, where there is no such path. Says which artifacts they are.
pub(crate) fn resolve(paths: &mut [&mut PathBuf], ui: &Ui) -> Result<Vec<Finding>, Failure> {
    let mut notes: Vec<Finding> = Vec::new();
    let mut found = Vec::new();
    for path in paths {
        let Some((reference, inside)) = reference(path) else { continue };
        // Without a place for a registry, a path that looks like a name is a path.
        let Ok(root) = folder() else { continue };
        let may_be_of_hub = is_revision(path);
        let store = match Store::open(&root) {
            Ok(store) => store,
            // What is not in a registry may still be a file that is missing: its error is the better one.
            Err(_) if !root.exists() => continue,
            Err(error) => return Err(error.into()),
        };
        let artifact = match store.find(&reference) {
            Err(error) if may_be_of_hub && error.kind() == ErrorKind::File(FileError::NotFound) => continue,
            artifact => artifact?,
        };
        let bar = Bar::new(ui, "checking");
        lorakit::plan::Progress::begin(&bar, artifact.bytes);
        let checked_out = store.checkout(&artifact, &reference, &bar)?;
        bar.finish();
        if let Some(policy) = trust(&root)? {
            let signers = Signers::Policy(&policy);
            store.check_signed(&artifact, reference.name().as_str(), &checked_out, signers)?;
        }
        let typed = path.display().to_string();
        found.push((checked_out.clone(), reference.to_string()));
        // A single file was added as a file.
        **path = match &artifact.files[..] {
            [only] if inside.is_none() => checked_out.join(&only.path),
            _ => checked_out,
        };
        path.extend(&inside);
        if !notes.iter().any(|note| note.subject == typed) {
            let message = format!("{}, from the registry", artifact.digest.short());
            notes.push(Finding::new(Severity::Note, "registry", &typed, message));
        }
    }
    if let Ok(mut known) = INPUTS.write() {
        known.extend(found);
    }
    Ok(notes)
}

/// Who must have signed what is used, if `trust.toml` beside the registry says so.
fn trust(root: &Path) -> Result<Option<Policy>, Failure> {
    let path = root.with_file_name("trust.toml");
    let reader = lorakit::Reader::new(lorakit::ReadMode::Positioned);
    Ok(path.exists().then(|| Policy::read(&path, &reader)).transpose()?)
}

/// Whether a path may be `OWNER/NAME@COMMIT` of the hub, which has the form of a name with a digest that is cut short.
fn is_revision(path: &Path) -> bool {
    let id = path.to_str().and_then(|text| text.split_once('@')).filter(|(_, commit)| !commit.contains(':'));
    id.is_some_and(|(id, _)| id.matches('/').count() == 1 && !id.contains(':'))
}

/// The artifact that a path names, and a file in it: `NAME:TAG/FILE`. A path that exists is a path.
fn reference(path: &Path) -> Option<(Reference, Option<PathBuf>)> {
    if path.symlink_metadata().is_ok() {
        return None;
    }
    let text = path.to_str()?;
    if let Some(reference) = Reference::of(text) {
        return Some((reference, None));
    }
    // The file begins after the first slash behind the tag or the digest.
    let at = text.find(['@', ':'])?;
    let slash = at + text[at..].find('/')?;
    let inside = &text[slash + 1..];
    let is_inside = !inside.split('/').any(|part| matches!(part, "" | "." | ".."));
    Reference::of(&text[..slash]).filter(|_| is_inside).map(|reference| (reference, Some(inside.into())))
}

/// Whether any input is read from the registry: then files are read by position.
pub(crate) fn is_read() -> bool {
    INPUTS.read().is_ok_and(|inputs| inputs.iter().any(|(_, typed)| !typed.starts_with(OUTPUT)))
}

/// An output named `registry:NAME:TAG`: what is written goes into a folder of the registry first.
pub(crate) struct Destination {
    /// The registry and the folder in it that the output goes to first; none if nothing is written.
    store: Option<(Store, Workbench)>,
    tag: Tag,
    /// Whether the tag may move.
    force: bool,
    output: PathBuf,
}

/// Lets a command whose output is `registry:NAME:TAG` write into the registry.
pub(crate) fn redirect(command: &mut Command) -> Result<Option<Destination>, Failure> {
    let Some(output) = command.output() else { return Ok(None) };
    let Some(name) = output.output.to_str().and_then(|text| text.strip_prefix(OUTPUT)) else {
        return Ok(None);
    };
    let Some(tag) = Tag::parse(name) else {
        return Err(Failure::usage(
            &format!("`{}` is not a name with a tag", names::shown(&format!("{OUTPUT}{name}"))),
            "an output in the registry is written `registry:NAME:TAG`, such as `-o registry:sql:v1`",
        ));
    };
    let (root, force) = (folder()?, output.force);
    let store = match output.dry_run {
        true if root.exists() => Some(Store::open(&root)?),
        true => None,
        false => Some(Store::create(&root)?),
    };
    let found = store.as_ref().map(|store| store.tagged(&tag)).transpose()?.flatten();
    if let Some(found) = found.filter(|_| !force) {
        return Err(Failure::usage(
            &format!("`{tag}` points to {} already", found.short()),
            "choose another tag, or move this one with `--force`: what it points to now stays, as `TAG@{1}`",
        ));
    }
    let (store, place) = match store.filter(|_| !output.dry_run) {
        Some(store) => {
            let bench = store.workbench()?;
            let place = bench.folder().join(tag.name.short());
            (Some((store, bench)), place)
        }
        // A place on the same disk, at which nothing appears.
        None => {
            let near = root.ancestors().find(|folder| folder.is_dir()).unwrap_or(&root);
            (None, near.join(format!(".dry-run-{}", std::process::id())))
        }
    };
    if let Ok(mut known) = INPUTS.write() {
        known.push((place.clone(), format!("{OUTPUT}{tag}")));
    }
    output.output = place.clone();
    Ok(Some(Destination { store, tag, force, output: place }))
}

impl Destination {
    /// Names the output as a file if `hint` says that it must be one. Whether it did.
    pub(crate) fn name(&mut self, hint: Option<Hint>, command: &mut Command) -> bool {
        let ending = match hint {
            Some(Hint::NameGgufFile) => "gguf",
            Some(Hint::NameSafetensorsFile) => "safetensors",
            _ => return false,
        };
        self.output = self.output.with_extension(ending);
        if let Ok(mut known) = INPUTS.write() {
            known.insert(0, (self.output.clone(), format!("{OUTPUT}{}", self.tag)));
        }
        command.output().map(|output| output.output = self.output.clone()).is_some()
    }

    /// Adds what was written.
    pub(crate) fn publish(self, ui: &Ui) -> Result<(), Failure> {
        let Some((store, _bench)) = self.store else { return Ok(()) };
        let expected = if self.force { Expected::Any } else { Expected::Nothing };
        let bar = Bar::new(ui, "adding");
        let options = AddOptions { expected, ..AddOptions::default() };
        let added = add::add(&store, &self.output, &self.tag, &options, &bar)?;
        bar.finish();
        if !ui.json && !ui.quiet {
            let digest = added.artifact.digest.short();
            ui::note(&format!("note: `{}` is {digest} in the registry", self.tag));
        }
        Ok(())
    }
}

/// What an output in the registry begins with.
const OUTPUT: &str = "registry:";

/// The text with every folder of the registry named as it was typed.
pub(crate) fn as_typed(text: Cow<'_, str>) -> Cow<'_, str> {
    let Ok(inputs) = INPUTS.read() else { return text };
    let mut text = text;
    for (place, typed) in inputs.iter() {
        let place = place.display().to_string();
        let quoted = serde_json::Value::from(place.as_str()).to_string();
        for place in [place.as_str(), quoted.trim_matches('"')] {
            if text.contains(place) {
                text = text.replace(place, typed).into();
            }
        }
    }
    text
}
