//! Artifacts: a manifest, and the files it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oci_spec::image::{Descriptor, DescriptorBuilder, ImageManifest, ImageManifestBuilder, MediaType};
use serde::Serialize;
use serde_json::Value;

use crate::problem::Problem;
use crate::{Digest, Error, Facts, Kind, Result, media};

/// Most layers of an artifact, and most parts of the path of one.
const MOST_LAYERS: usize = 1024;
const DEEPEST: usize = 4;

/// What a manifest describes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Artifact {
    /// The digest of the manifest, which names the artifact.
    pub digest: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files, sorted by path.
    pub files: Vec<File>,
    /// What it is attached to.
    pub subject: Option<Digest>,
    /// What the manifest says about them.
    #[serde(flatten)]
    pub facts: Facts,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its path in the folder: at most four plain parts.
    #[serde(serialize_with = "path")]
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: u64,
}

fn path<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl Artifact {
    /// The artifact that the manifest in `content` describes; an index is one of another kind, without files.
    ///
    /// # Errors
    /// `Corrupt` if it is not a manifest; `Unsafe` if a path leaves the folder, or is there twice.
    pub fn parse(digest: Digest, content: &[u8]) -> Result<Self> {
        let name = digest.to_string();
        let damaged = |reason: String| Error::from(Problem::Manifest { digest: name.clone(), reason });
        let manifest: ImageManifest = match serde_json::from_slice(content) {
            Ok(manifest) => manifest,
            Err(_) if is_index(content) => {
                let facts = Facts { kind: Kind::Other, ..Facts::default() };
                return Ok(Artifact { digest, bytes: 0, files: Vec::new(), subject: None, facts });
            }
            Err(error) => {
                return Err(damaged(format!("cannot be read: {}", error.to_string().escape_debug())));
            }
        };
        if manifest.layers().len() > MOST_LAYERS {
            return Err(damaged(format!(
                "has {} layers, at most {MOST_LAYERS} are read",
                manifest.layers().len()
            )));
        }
        let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
        for layer in manifest.layers() {
            let Some(path) = path_of(layer) else { continue };
            if !is_plain(path) {
                return Err(Problem::LayerPath { digest: name, path: path.escape_debug().to_string() }.into());
            }
            if !seen.insert(path.to_lowercase()) {
                return Err(Problem::SameLayer { digest: name, path: path.to_string() }.into());
            }
            let digest = digest_of(layer)
                .ok_or_else(|| damaged("names a layer by another digest than SHA-256".into()))?;
            files.push(File { path: path.into(), digest, bytes: layer.size() });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let annotations: BTreeMap<String, String> =
            manifest.annotations().clone().unwrap_or_default().into_iter().collect();
        let kind = manifest.artifact_type().as_ref().map(ToString::to_string);
        Ok(Artifact {
            digest,
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
            subject: manifest.subject().as_ref().and_then(digest_of),
            facts: Facts::read(kind.as_deref(), &annotations),
        })
    }

    /// The file of that path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path.as_os_str() == path)
    }
}

/// What a manifest is made of.
pub(crate) struct Parts<'a> {
    pub(crate) artifact_type: &'static str,
    /// Media type, digest and size.
    pub(crate) config: (&'static str, Digest, u64),
    /// Media type and file of each layer.
    pub(crate) layers: Vec<(&'static str, &'a File)>,
    pub(crate) subject: Option<(Digest, u64)>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Parts<'_> {
    /// The bytes of the manifest: keys sorted, no spaces, so that equal parts have one digest.
    pub(crate) fn manifest(self) -> Result<Vec<u8>> {
        let wrong = |error: oci_spec::OciSpecError| Problem::Manifest {
            digest: "to be written".into(),
            reason: format!("cannot be made: {error}"),
        };
        let layers = self.layers.into_iter().map(|(media_type, file)| {
            let path = file.path.to_string_lossy().into_owned();
            let places = [media::FILE_PATH, media::TITLE].map(|key| (key.to_string(), path.clone()));
            descriptor(media_type, file.digest, file.bytes)
                .annotations(std::collections::HashMap::from(places))
                .build()
        });
        let (media_type, digest, bytes) = self.config;
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::from(media::MANIFEST))
            .artifact_type(MediaType::from(self.artifact_type))
            .config(descriptor(media_type, digest, bytes).build().map_err(wrong)?)
            .layers(layers.collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?);
        if let Some((digest, bytes)) = self.subject {
            manifest = manifest.subject(descriptor(media::MANIFEST, digest, bytes).build().map_err(wrong)?);
        }
        if !self.annotations.is_empty() {
            manifest = manifest
                .annotations(self.annotations.into_iter().collect::<std::collections::HashMap<_, _>>());
        }
        let manifest = manifest.build().map_err(wrong)?;
        Ok(canonical(serde_json::to_value(manifest).unwrap_or_default()))
    }
}

fn descriptor(media_type: &str, digest: Digest, bytes: u64) -> DescriptorBuilder {
    // A digest of ours is one that the parser takes.
    let digest: oci_spec::image::Sha256Digest = digest.hex().parse().unwrap_or_else(|_| unreachable!());
    DescriptorBuilder::default().media_type(MediaType::from(media_type)).digest(digest).size(bytes)
}

/// JSON with sorted keys and without spaces.
pub(crate) fn canonical(value: Value) -> Vec<u8> {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<String, Value> =
                    fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
                Value::Object(fields.into_iter().collect())
            }
            Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    sorted(value).to_string().into_bytes()
}

fn path_of(layer: &Descriptor) -> Option<&str> {
    let annotations = layer.annotations().as_ref()?;
    annotations.get(media::FILE_PATH).or_else(|| annotations.get(media::TITLE)).map(String::as_str)
}

fn digest_of(descriptor: &Descriptor) -> Option<Digest> {
    descriptor.as_digest_sha256().and_then(Digest::from_hex)
}

/// Whether it is an index, such as an image of several platforms has.
fn is_index(content: &[u8]) -> bool {
    let index: Value = serde_json::from_slice(content).unwrap_or_default();
    index["schemaVersion"] == 2 && index["manifests"].is_array()
}

/// Whether a path names a file within its folder, on every system.
pub(crate) fn is_plain(path: &str) -> bool {
    const RESERVED: &[&str] =
        &["con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "lpt1", "lpt2", "lpt3"];
    let parts: Vec<&str> = path.split('/').collect();
    let is_part = |part: &&str| {
        let stem = part.split('.').next().unwrap_or_default().to_ascii_lowercase();
        !matches!(*part, "" | "." | "..")
            && part.len() <= 255
            && !part.ends_with(['.', ' '])
            && !part
                .chars()
                .any(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'))
            && !RESERVED.contains(&stem.as_str())
    };
    parts.len() <= DEEPEST && parts.iter().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_their_folder() {
        for path in ["a", "unet/model.safetensors", "a b", "ü", "a/b/c/d"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "/a",
            "../a",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "c:a",
            "a\0b",
            "nul",
            "NUL.txt",
            "a.",
            "a/b/c/d/e",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn a_manifest_has_one_spelling() {
        let file = File { path: "adapter_model.safetensors".into(), digest: Digest::of(b"x"), bytes: 1 };
        let parts = || Parts {
            artifact_type: media::MODEL,
            config: (media::MODEL_CONFIG, Digest::of(b"{}"), 2),
            layers: vec![(media::WEIGHTS, &file)],
            subject: Some((Digest::of(b"s"), 3)),
            annotations: [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_string(), v.to_string())).into(),
        };
        let (one, other) = (parts().manifest().expect("made"), parts().manifest().expect("made"));
        assert_eq!(one, other);
        let read = Artifact::parse(Digest::of(&one), &one).expect("it is read");
        assert_eq!((read.files, read.subject), (vec![file], Some(Digest::of(b"s"))));
        let text = String::from_utf8(one).expect("it is text");
        assert!(
            text.starts_with(r#"{"annotations":{"a":"1","b":"2"},"artifactType":"application/vnd.cncf"#),
            "{text}"
        );
    }

    #[test]
    fn an_index_is_of_another_kind() {
        let text = br#"{"schemaVersion":2,"manifests":[]}"#;
        let read = Artifact::parse(Digest::of(text), text).expect("it is read");
        assert_eq!((read.facts.kind, read.files), (Kind::Other, Vec::new()));
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let manifest = |layers: &str| {
            let config = format!(r#"{{"mediaType":"x/y","digest":"{}","size":2}}"#, Digest::of(b"{}"));
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)
        };
        let layer = |path: &str, digest: &str| {
            format!(
                r#"{{"mediaType":"x/y","digest":"{digest}","size":1,"annotations":{{"{}":"{path}"}}}}"#,
                media::TITLE
            )
        };
        let digest = Digest::of(b"x").to_string();
        let twice = format!("{},{}", layer("a", &digest), layer("A", &digest));
        for (layers, says) in [
            (layer("../a", &digest), "which is not a plain path"),
            (twice, "has two files called"),
            (layer("a", "sha256:../../x"), "cannot be read"),
            (layer("a", &digest).replace(":1,", ":-1,"), "cannot be read"),
            (vec![layer("a", &digest); 1025].join(","), "has 1025 layers"),
        ] {
            let text = manifest(&layers);
            let error =
                Artifact::parse(Digest::of(text.as_bytes()), text.as_bytes()).expect_err("it is refused");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
