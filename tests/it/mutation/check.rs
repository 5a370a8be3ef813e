//! What must be true after a run, whatever its inputs.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lorakit_tensor::{Checkpoint, ReadMode, Reader, json};
use safetensors::tensor::SafeTensors;

use super::tree;

/// Everything at and below a path: what it is and what it holds.
pub(super) type Snapshot = BTreeMap<PathBuf, (u32, u64)>;

pub(super) fn snapshot(path: &Path) -> Snapshot {
    let mut snapshot = Snapshot::new();
    note(path, &mut snapshot);
    snapshot
}

fn note(path: &Path, snapshot: &mut Snapshot) {
    let Ok(meta) = path.symlink_metadata() else { return };
    let mut hasher = DefaultHasher::new();
    if meta.is_symlink() {
        fs::read_link(path).unwrap().hash(&mut hasher);
    } else if meta.is_file() {
        fs::read(path).unwrap().hash(&mut hasher);
    }
    snapshot.insert(path.to_path_buf(), (meta.mode(), hasher.finish()));
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| note(&entry.unwrap().path(), snapshot));
    }
}

/// Whether a strict reader accepts everything published at `out`; `stderr` mentions what was copied.
pub(super) fn published(out: &Path, inputs: &Snapshot, stderr: &str) -> Result<(), String> {
    let copied = |bytes: &[u8]| {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        inputs.values().any(|(_, other)| *other == hash)
    };
    for file in tree::files(out) {
        let bytes = fs::read(&file).unwrap();
        let name = file.display();
        let text = file.to_string_lossy();
        if text.ends_with(".safetensors") {
            SafeTensors::deserialize(&bytes).map_err(|e| format!("`{name}`: the safetensors crate: {e}"))?;
        }
        if text.ends_with(".safetensors") || text.ends_with(".gguf") {
            Checkpoint::open(&file, &Reader::new(ReadMode::Positioned)).map_err(|e| format!("{e}"))?;
        }
        if text.ends_with(".json") {
            let object = json::parse(&bytes).is_ok_and(|json| json.is_object());
            // An error in a file that is only copied must be reported.
            let said =
                copied(&bytes) && (stderr.contains("it is copied as it is") || json::parse(&bytes).is_ok());
            if !object && !said {
                return Err(format!("`{name}` is not a JSON object"));
            }
        }
        if text.ends_with(".html") && !bytes.trim_ascii_end().ends_with(b"</html>") {
            return Err(format!("`{name}` is not a page"));
        }
    }
    if out.is_dir() {
        Checkpoint::open(out, &Reader::new(ReadMode::Positioned)).map_err(|e| format!("{e}"))?;
    }
    Ok(())
}
