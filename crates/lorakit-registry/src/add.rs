//! Adding a folder or a file.

mod files;
pub(crate) mod look;

use std::path::{Path, PathBuf};

use lorakit::plan::Progress;
use lorakit::{Finding, Severity};
use serde_json::json;

use crate::artifact::{Parts, canonical};
use crate::problem::Problem;
use crate::store::{Change, Expected, Ingest};
use crate::{Artifact, Digest, Error, Facts, File, Kind, Result, Store, Tag, media};

/// How something is added.
#[derive(Debug, Clone, Default)]
pub struct AddOptions {
    /// The base, to be compared with what the adapter was trained on.
    pub base: Option<PathBuf>,
    /// Whether a base of other weights is only a warning.
    pub allow_base_mismatch: bool,
    /// Whether values that are not finite are only a finding.
    pub allow_non_finite: bool,
    /// What the tag must point to.
    pub expected: Expected,
    /// When it was made, in seconds since 1970, for builds that state it; otherwise nothing is said, so that the same
    /// folder has the same digest whenever it is added.
    pub epoch: Option<u64>,
}

/// What was added.
#[derive(Debug, Clone)]
pub struct Added {
    /// The artifact.
    pub artifact: Artifact,
    /// What the tag pointed to before.
    pub before: Option<Digest>,
    /// Bytes that other artifacts had already.
    pub shared: u64,
    /// Files that were left out, and why.
    pub left_out: Vec<(String, &'static str)>,
    /// What else is worth knowing.
    pub notes: Vec<Finding>,
}

/// Adds the adapter or model at `source` under `tag`. Its files are copied and summed, the copies are audited, and only
/// then does the tag point to them.
///
/// # Errors
/// `NoAdapter` if there is none; `Unsafe` for pickles and for paths that leave the folder; `NonFinite`; `BaseMismatch`;
/// `Moved` if the tag points to something else and may not be moved; whatever reading and writing turn up. The tag is
/// then as it was.
pub fn add(
    store: &Store,
    source: &Path,
    tag: &Tag,
    options: &AddOptions,
    progress: &dyn Progress,
) -> Result<Added> {
    let files::Found { files, left_out, name } = files::find(source)?;
    let before = store.tagged(tag)?;
    let ingest = Ingest::begin(store)?;
    progress.begin(files.iter().map(|file| file.bytes).sum());
    let (mut staged, mut shared) = (Vec::new(), 0);
    for file in &files {
        let copy = ingest.copy(&file.source, &file.path, progress)?;
        if store.has(copy.digest) {
            shared += copy.bytes;
        }
        staged.push(copy);
    }
    let place = name.map_or_else(|| ingest.folder().to_path_buf(), |name| ingest.folder().join(name));
    let mut notes = Vec::new();
    let facts = look::facts(&place, source, options, &mut notes, progress)?;
    staged.iter().try_for_each(|file| ingest.keep(file))?;
    let files: Vec<File> = staged
        .into_iter()
        .map(|file| File { path: file.path, digest: file.digest, bytes: file.bytes })
        .collect();
    let manifest = model_manifest(&ingest, tag, &files, &facts, options.epoch)?;
    let manifest = ingest.keep_bytes(&manifest)?;
    // Read as everybody will read it, before a tag points to it.
    let artifact = store.artifact(manifest.digest, &tag.to_string()).map_err(|error| error.at(source))?;
    let change = Change { tag: tag.to_string(), new: Some(manifest.digest), expected: options.expected };
    store.change(&[change], "add")?;
    Ok(Added {
        artifact,
        before: before.filter(|before| *before != manifest.digest),
        shared,
        left_out,
        notes,
    })
}

/// The manifest of an adapter or a model; its configuration becomes a blob.
fn model_manifest(
    ingest: &Ingest,
    tag: &Tag,
    files: &[File],
    facts: &Facts,
    epoch: Option<u64>,
) -> Result<Vec<u8>> {
    let config = ingest.keep_bytes(&model_config(tag, files, facts))?;
    let layers = files.iter().map(|file| (media::of_file(&file.path.to_string_lossy()), file));
    let mut annotations = facts.annotations();
    if let Some(time) = epoch.and_then(|epoch| jiff::Timestamp::from_second(epoch as i64).ok()) {
        annotations.insert(media::CREATED.to_string(), time.to_string());
    }
    Parts {
        artifact_type: media::MODEL,
        config: (media::MODEL_CONFIG, config.digest, config.bytes),
        layers: layers.collect(),
        subject: None,
        annotations,
    }
    .manifest()
}

/// The configuration as ModelPack's schema has it, which allows no other fields.
fn model_config(tag: &Tag, files: &[File], facts: &Facts) -> Vec<u8> {
    let mut descriptor = json!({ "name": tag.name.short() });
    if let Some(licence) = &facts.licence {
        descriptor["licenses"] = json!([licence]);
    }
    let is_gguf = facts.format.as_deref().is_some_and(|format| format.eq_ignore_ascii_case("gguf"));
    let mut config = json!({ "format": if is_gguf { "gguf" } else { "safetensors" } });
    if let Some(params) = facts.params {
        config["paramSize"] = size_of(params).into();
    }
    let words: Vec<&str> = facts.dtypes.iter().filter_map(|dtype| precision(dtype)).collect();
    if !words.is_empty() {
        config["precision"] = words.join(",").into();
    }
    let packed = facts.dtypes.iter().find(|dtype| precision(dtype).is_none());
    if let Some(dtype) = packed.filter(|_| is_gguf) {
        config["quantization"] = dtype.as_str().into();
    }
    let layers: Vec<String> = files.iter().map(|file| file.digest.to_string()).collect();
    let modelfs = json!({ "type": "layers", "diffIds": layers });
    canonical(json!({ "descriptor": descriptor, "config": config, "modelfs": modelfs }))
}

/// A dtype in ModelPack's words.
fn precision(dtype: &str) -> Option<&'static str> {
    Some(match dtype {
        "F64" => "float64",
        "F32" => "float32",
        "F16" => "float16",
        "BF16" => "bfloat16",
        "F8_E4M3" => "float8_e4m3",
        "F8_E5M2" => "float8_e5m2",
        "I8" => "int8",
        "U8" => "uint8",
        _ => return None,
    })
}

/// `1.2m`, `8b`: as ModelPack writes sizes.
fn size_of(params: u64) -> String {
    let (unit, suffix) = match params {
        0..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "m"),
        _ => (1e9, "b"),
    };
    let text = format!("{:.1}", params as f64 / unit);
    format!("{}{suffix}", text.strip_suffix(".0").unwrap_or(&text))
}

/// Refuses an audit that found values which are not finite.
fn refuse_non_finite(facts: &Facts, source: &Path) -> Result<()> {
    let found = facts.findings.iter().filter(|finding| finding.code == "non-finite");
    let findings: Vec<String> = found.map(|finding| finding.message.clone()).collect();
    if findings.is_empty() { Ok(()) } else { Err(Error::from(Problem::NonFinite { findings }).at(source)) }
}

/// A note about what was added.
fn note(code: &'static str, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Note, code, "", message)
}

#[cfg(test)]
mod tests {
    use super::size_of;

    #[test]
    fn sizes() {
        for (params, text) in [(1200, "1.2k"), (4_194_304, "4.2m"), (8_000_000_000, "8b"), (0, "0k")] {
            assert_eq!(size_of(params), text);
        }
    }
}
