//! Which files are read where a folder or a file is named as a model or an adapter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lorakit_tensor::{Checkpoint, Reader};

use crate::model::folder::{files_beside, is_of_adapter};
use crate::plan::{ADAPTER_CONFIG, CONFIGURATION, Content, PROVENANCE_FILE, TOKENIZER};

/// What is read beside a single file, if it is there.
const BESIDE: &[&str] = &[ADAPTER_CONFIG, "README.md", PROVENANCE_FILE];

/// The files that verbs read where `path` is named as a model or an adapter, as far as names tell, sorted.
///
/// Of a folder these are the tensors that it stands for, those of an adapter in it, and everything that travels with
/// them to an output; weights in other formats are passed over, as they are when it is opened. Of a file, that file, its
/// shards or parts, and the configuration and tokenizer beside it. What is not there, or cannot be listed, is left out:
/// whoever opens it says so.
pub fn files_read(path: &Path) -> Vec<PathBuf> {
    let reader = &Reader::default();
    let mut files: BTreeSet<PathBuf> =
        Checkpoint::files_at(path, reader).unwrap_or_default().into_iter().collect();
    if path.is_dir() {
        let beside = files_beside(path, reader).unwrap_or_default().into_values();
        files.extend(beside.filter_map(|content| match content {
            Content::CopyOf(path) => Some(path),
            _ => None,
        }));
        let of_adapter =
            |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(is_of_adapter);
        files.extend(entries(path).filter(of_adapter));
    } else if let Some(folder) = path.parent() {
        files.extend(CONFIGURATION.iter().chain(TOKENIZER).chain(BESIDE).map(|name| folder.join(name)));
    }
    files.into_iter().filter(|path| path.is_file()).collect()
}

/// Every file in `folder` and below, sorted.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.is_file() {
                files.insert(path);
            }
        }
    }
    files.into_iter().collect()
}

/// What is in a folder; nothing if it cannot be listed.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Makes empty files, but for an index, and says which of them are read.
    fn read(names: &[&str], named: &str, below: bool) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let index = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
            fs::write(&path, if name.ends_with(".index.json") { index } else { "" }).unwrap();
        }
        let path = folder.path().join(named);
        let files = if below { files_below(&path) } else { files_read(&path) };
        let inside = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        files.iter().map(inside).collect()
    }

    #[test]
    fn of_a_folder() {
        let model = [
            "config.json",
            "README.md",
            "model.safetensors.index.json",
            "m-1.safetensors",
            "m-2.safetensors",
            "m-3.safetensors",
            "pytorch_model.bin",
            "onnx/config.txt",
            "templates/tools.jinja",
            ".gitattributes",
        ];
        assert_eq!(
            read(&model, "", false),
            [
                "README.md",
                "config.json",
                "m-1.safetensors",
                "m-2.safetensors",
                "model.safetensors.index.json",
                "templates/tools.jinja"
            ]
        );
        assert_eq!(read(&model, "", true).len(), model.len());
        let adapter = [
            "adapter_config.json",
            "adapter_model.safetensors",
            "optimizer.pt",
            "checkpoint-5/adapter_config.json",
        ];
        assert_eq!(read(&adapter, "", false), ["adapter_config.json", "adapter_model.safetensors"]);
        // None of these is meant, so opening the folder fails.
        assert_eq!(read(&["a.gguf", "b.gguf", "config.json"], "", false), ["config.json"]);
    }

    #[test]
    fn of_a_file() {
        let names = ["q4.gguf", "q8.gguf", "config.json", "tokenizer.json", "other.txt"];
        assert_eq!(read(&names, "q4.gguf", false), ["config.json", "q4.gguf", "tokenizer.json"]);
        let parts = ["q4-00001-of-00002.gguf", "q4-00002-of-00002.gguf", "q8.gguf"];
        assert_eq!(read(&parts, parts[1], false), parts[..2]);
        let index = ["model.safetensors.index.json", "m-1.safetensors", "m-3.safetensors"];
        assert_eq!(read(&index, index[0], false), [index[1], index[0]]);
    }
}
