//! A store against a model of it: whatever is done, by whom, and whatever is torn, tags are what they were set to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lorakit::plan::Silent;
use lorakit_registry::add::{AddOptions, add};
use lorakit_registry::{Digest, ErrorKind, Evaluation, Expected, GcOptions, Reference, Store, Tag};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Tags and adapters that are drawn from.
const TAGS: [&str; 4] = ["sql:v1", "sql:v2", "team/sql:v1", "other:latest"];
const ADAPTERS: usize = 3;

/// Something that is done to a store.
#[derive(Debug, Clone)]
enum Step {
    /// An adapter is added under a tag, which may move.
    Add { adapter: usize, tag: usize, force: bool },
    /// A tag is made to point to what another does.
    Tag { from: usize, to: usize, force: bool },
    /// A tag goes.
    Untag { tag: usize },
    /// An artifact goes, with all of its tags.
    Remove { tag: usize },
    /// An evaluation is attached.
    Evaluate { tag: usize, figure: u8 },
    /// What nothing needs is swept; `at_once` spares nothing.
    Sweep { at_once: bool },
    /// Another program reads the index,
    Read,
    /// and writes back what it read, whatever happened meanwhile.
    WriteBack,
    /// Another program tags an artifact, without a lock.
    Foreign { tag: usize },
    /// A line of the reflog is torn by a crash.
    TearLog { bytes: usize },
    /// The index is torn, and mended.
    TearIndex,
    /// The store is mended although nothing is wrong.
    Repair,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tag = || 0..TAGS.len();
    let step = prop_oneof![
        4 => (0..ADAPTERS, tag(), any::<bool>()).prop_map(|(adapter, tag, force)| Step::Add { adapter, tag, force }),
        4 => (tag(), tag(), any::<bool>()).prop_map(|(from, to, force)| Step::Tag { from, to, force }),
        2 => tag().prop_map(|tag| Step::Untag { tag }),
        1 => tag().prop_map(|tag| Step::Remove { tag }),
        1 => (tag(), any::<u8>()).prop_map(|(tag, figure)| Step::Evaluate { tag, figure }),
        2 => any::<bool>().prop_map(|at_once| Step::Sweep { at_once }),
        1 => Just(Step::Read),
        2 => Just(Step::WriteBack),
        1 => tag().prop_map(|tag| Step::Foreign { tag }),
        1 => (1..60_usize).prop_map(|bytes| Step::TearLog { bytes }),
        1 => Just(Step::TearIndex),
        1 => Just(Step::Repair),
    ];
    proptest::collection::vec(step, 1..24)
}

/// What a store must be.
#[derive(Debug, Default)]
struct Model {
    tags: BTreeMap<String, Digest>,
    /// Everything that each tag pointed to.
    past: BTreeMap<String, Vec<Option<Digest>>>,
    /// Evaluations and what they are about.
    subjects: BTreeMap<Digest, Digest>,
    /// Tags of other programs that no move of lorakit's has remembered yet.
    foreign: BTreeSet<String>,
}

impl Model {
    fn set(&mut self, tag: &str, new: Option<Digest>) {
        if self.tags.get(tag).copied() == new {
            return;
        }
        self.past.entry(tag.to_string()).or_default().push(new);
        match new {
            Some(new) => drop(self.tags.insert(tag.to_string(), new)),
            None => drop(self.tags.remove(tag)),
        }
    }
}

fn options(force: bool) -> (AddOptions, Expected) {
    let expected = if force { Expected::Any } else { Expected::Nothing };
    (AddOptions { expected, ..AddOptions::default() }, expected)
}

fn tag(number: usize) -> (Tag, &'static str) {
    (Tag::parse(TAGS[number]).unwrap(), TAGS[number])
}

/// An adapter of one module, whose values tell it from others.
fn adapter(folder: &Path, number: usize) -> PathBuf {
    let folder = folder.join(format!("adapter-{number}"));
    fs::create_dir(&folder).unwrap();
    let module = "base_model.model.model.layers.0.self_attn.q_proj";
    let header = json!({
        format!("{module}.lora_A.weight"): { "dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32] },
        format!("{module}.lora_B.weight"): { "dtype": "F32", "shape": [4, 2], "data_offsets": [32, 64] },
    })
    .to_string();
    let values = (0..16).flat_map(|i| ((i + number + 1) as f32).to_le_bytes());
    let bytes: Vec<u8> =
        (header.len() as u64).to_le_bytes().into_iter().chain(header.bytes()).chain(values).collect();
    fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
    let config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"] });
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    folder
}

/// Folders on a disk in memory if there is one: every step waits for its disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

struct World {
    root: PathBuf,
    adapters: Vec<PathBuf>,
    model: Model,
    /// The index that another program has read, with the foreign tags that it had then.
    read: Option<Vec<u8>>,
    count: usize,
}

impl World {
    /// Opened anew for every step, as another process would.
    fn store(&self) -> Store {
        Store::open(&self.root).unwrap()
    }

    fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn step(&mut self, step: Step) {
        let store = self.store();
        match step {
            Step::Add { adapter, tag: at, force } => {
                let ((options, _), (tag, name)) = (options(force), tag(at));
                let before = self.model.tags.get(name).copied();
                match add(&store, &self.adapters[adapter], &tag, &options, &Silent) {
                    Ok(added) => {
                        assert!(force || before.is_none_or(|before| before == added.artifact.digest));
                        self.moved(name, Some(added.artifact.digest));
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Moved);
                        assert!(!force && before.is_some());
                    }
                }
            }
            Step::Tag { from, to, force } => {
                let ((from, source), (to, name)) = (tag(from), tag(to));
                let (found, before) =
                    (self.model.tags.get(source).copied(), self.model.tags.get(name).copied());
                match (store.tag(&Reference::Tag(from), &to, options(force).1), found) {
                    (Ok((digest, was)), Some(found)) => {
                        assert_eq!((digest, was), (found, before));
                        assert!(force || before.is_none_or(|before| before == found));
                        self.moved(name, Some(digest));
                    }
                    (Err(error), None) => assert!(matches!(error.kind(), ErrorKind::File(_)), "{error}"),
                    (Err(error), Some(found)) => {
                        assert_eq!(error.kind(), ErrorKind::Moved);
                        assert!(!force && before.is_some_and(|before| before != found));
                    }
                    (Ok(_), None) => panic!("{source} points to nothing"),
                }
            }
            Step::Untag { tag: at } => {
                let (tag, name) = tag(at);
                let before = self.model.tags.get(name).copied();
                assert_eq!(store.untag(&tag, Expected::Any).ok(), before);
                if before.is_some() {
                    self.moved(name, None);
                }
            }
            Step::Remove { tag: at } => {
                let (tag, name) = tag(at);
                let Some(digest) = self.model.tags.get(name).copied() else { return };
                let removed = store.remove(&Reference::Tag(tag)).unwrap();
                let goes =
                    |other: &Digest| *other == digest || self.model.subjects.get(other) == Some(&digest);
                let expected: BTreeMap<String, Digest> = self
                    .model
                    .tags
                    .iter()
                    .filter(|(_, other)| goes(other))
                    .map(|(n, d)| (n.clone(), *d))
                    .collect();
                assert_eq!(removed, expected);
                removed.keys().for_each(|name| self.moved(name, None));
            }
            Step::Evaluate { tag: at, figure } => {
                let (tag, name) = tag(at);
                let Some(digest) = self.model.tags.get(name).copied() else { return };
                let metrics = BTreeMap::from([("exact".to_string(), f64::from(figure))]);
                let evaluation = Evaluation { metrics, report: None };
                let (made, artifact) = store.evaluate(&Reference::Tag(tag), &evaluation).unwrap();
                assert!(made.starts_with(&format!("{name}-eval-")));
                self.model.subjects.insert(artifact.digest, digest);
                self.moved(&made, Some(artifact.digest));
            }
            Step::Sweep { at_once } => {
                // At once: as if all of it were long ago.
                let (spare, now) = if at_once { (0, Some(u64::MAX / 2)) } else { (3600, None) };
                let spare = Duration::from_secs(spare);
                let options = GcOptions { apply: true, grace: spare, history: spare, now };
                // An old index that somebody wrote back still names what it names.
                let index: Value = serde_json::from_slice(&fs::read(self.index()).unwrap()).unwrap();
                let named: Vec<Digest> = index["manifests"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|entry| entry["digest"].as_str().unwrap().parse().unwrap())
                    .collect();
                let swept = store.gc(&options).unwrap();
                assert!(at_once || swept.blobs == 0, "what is young stays");
                if at_once {
                    let tagged = |digest: &Digest| {
                        named.contains(digest) || self.model.tags.values().any(|other| other == digest)
                    };
                    for digest in self.model.past.values().flatten().flatten() {
                        let is_kept = store.artifact(*digest, "it").is_ok();
                        let subject = self.model.subjects.get(digest);
                        assert_eq!(is_kept, tagged(digest) || subject.is_some_and(tagged), "{digest}");
                    }
                }
            }
            Step::Read if self.model.foreign.is_empty() => self.read = Some(fs::read(self.index()).unwrap()),
            Step::Read => {}
            Step::WriteBack => {
                let Some(read) = &self.read else { return };
                fs::write(self.index(), read).unwrap();
                // What no move has remembered is lost with the index that said it.
                for name in std::mem::take(&mut self.model.foreign) {
                    self.model.tags.remove(&name);
                    self.model.past.remove(&name);
                }
            }
            Step::Foreign { tag: at } => {
                let Some(digest) = self.model.tags.get(tag(at).1).copied() else { return };
                let name = format!("foreign-{}", self.count);
                let mut index: Value = serde_json::from_slice(&fs::read(self.index()).unwrap()).unwrap();
                let entry = json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
                    "annotations": { "org.opencontainers.image.ref.name": name },
                });
                index["manifests"].as_array_mut().unwrap().push(entry);
                fs::write(self.index(), index.to_string()).unwrap();
                self.model.set(&name, Some(digest));
                self.model.foreign.insert(name);
            }
            Step::TearLog { bytes } => {
                let path = self.root.join("lorakit/reflog");
                let torn = r#"1f3a09c2 {"at":1764547200,"tag":"sql:v1","new":"sha256:00000000"#;
                let mut log = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
                log.write_all(&torn.as_bytes()[..bytes]).unwrap();
            }
            Step::TearIndex => {
                let content = fs::read(self.index()).unwrap();
                fs::write(self.index(), &content[..content.len() / 2]).unwrap();
                assert!(store.refs().is_err());
                assert!(store.repair(&Silent).unwrap().index);
                for name in std::mem::take(&mut self.model.foreign) {
                    self.model.tags.remove(&name);
                    self.model.past.remove(&name);
                }
            }
            Step::Repair => {
                assert_eq!(store.repair(&Silent).unwrap().lost, []);
                self.model.foreign.clear();
            }
        }
    }

    /// A move succeeded, and with it everything that other programs set is remembered.
    fn moved(&mut self, name: &str, new: Option<Digest>) {
        self.model.set(name, new);
        self.model.foreign.clear();
    }

    fn check(&self, step: &Step) {
        let store = self.store();
        assert_eq!(store.refs().unwrap(), self.model.tags, "{step:?}");
        for (name, past) in &self.model.past {
            if let Some(tag) = Tag::parse(name) {
                assert_eq!(store.past(&tag).unwrap(), *past, "{name} after {step:?}");
            }
        }
        let fsck = store.fsck(true, &Silent).unwrap();
        assert_eq!(fsck.faults, [], "{step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn a_store_is_what_was_done_to_it(steps in steps()) {
        let folder = folder();
        let adapters = (0..ADAPTERS).map(|number| adapter(folder.path(), number)).collect();
        let root = folder.path().join("store");
        Store::create(&root).unwrap();
        let mut world = World { root, adapters, model: Model::default(), read: None, count: 0 };
        for step in steps {
            world.count += 1;
            world.step(step.clone());
            world.check(&step);
        }
    }
}
