//! What the files of one folder are: which together make an adapter or a model, and which are neither.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::adapter::format;
use crate::plan::ADAPTER_CONFIG;

/// An adapter or a model, by the names of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The path it is listed under: a folder whose only adapter or model it is, or a file.
    pub(super) path: PathBuf,
    /// The path to open.
    pub(super) open: PathBuf,
    /// The files it is made of; the first are tensor files.
    pub(super) files: Vec<PathBuf>,
    /// Whether any tensor file counts, or only one that turns out to be an adapter: Torch files may be anything.
    pub(super) certain: bool,
    /// Whether its names are those of an adapter.
    pub(super) adapter: bool,
}

const CONFIG: &str = "config.json";
/// Tensor files of a model, by the preference of transformers, each with the beginning and ending of its shards.
const MODELS: &[(&str, &str, &str)] = &[
    ("model.safetensors", "model", ".safetensors"),
    ("model.safetensors.index.json", "model", ".safetensors"),
    ("pytorch_model.bin", "pytorch_model", ".bin"),
    ("pytorch_model.bin.index.json", "pytorch_model", ".bin"),
];
const INDEX: &str = ".safetensors.index.json";
/// Tensor files whose content is tensors for sure, and those that may hold anything.
const TENSORS: &[&str] = &[".safetensors", ".gguf"];
const PICKLES: &[&str] = &[".bin", ".pt", ".pth", ".ckpt"];
/// How files begin that trainers and quantisers put next to weights.
const NO_MODELS: &[&str] =
    &["optimizer", "scheduler", "scaler", "training_args", "rng_state", "random_states", "imatrix"];

/// The adapters and models among the files called `names` of `folder`.
pub(super) fn candidates(folder: &Path, names: &[String]) -> Vec<Candidate> {
    let mut group = Group { folder, left: names.iter().map(String::as_str).collect(), found: Vec::new() };
    let model = MODELS.iter().find(|(name, ..)| group.has(name));
    group.adapter(model.is_some());
    if let Some((name, stem, ending)) = model {
        group.model(name, stem, ending);
    }
    group.indexed();
    group.shards();
    group.single();
    group.found
}

struct Group<'g> {
    folder: &'g Path,
    /// Names that belong to no candidate yet.
    left: BTreeSet<&'g str>,
    found: Vec<Candidate>,
}

impl Group<'_> {
    fn has(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An adapter that has a configuration, or a file of a name that formats give to adapters.
    fn adapter(&mut self, beside_model: bool) {
        let configured = self.has(ADAPTER_CONFIG);
        let known = format::file_names().find(|name| self.has(name));
        let tensors: Vec<&str> = self.left.iter().copied().filter(|name| ends(name, TENSORS)).collect();
        let only = match tensors.as_slice() {
            [one] if configured && !beside_model && shard(one).is_none() => Some(*one),
            _ => None,
        };
        let Some(name) = known.or(only) else {
            if configured && !beside_model && tensors.is_empty() {
                self.push(self.folder.into(), self.folder.into(), vec![self.join(ADAPTER_CONFIG)], true);
            }
            return;
        };
        let file = self.join(name);
        // Next to a `config.json` the folder would be opened as a model.
        let open = if self.has(CONFIG) || beside_model { file.clone() } else { self.folder.into() };
        let path = if beside_model { file.clone() } else { self.folder.into() };
        let parts = [".safetensors", ".bin"]
            .into_iter()
            .find_map(|ending| Some((name.strip_suffix(".index.json")?.strip_suffix(ending)?, ending)));
        let mut files = parts.map_or_else(|| vec![file], |(stem, ending)| self.shards_of(stem, ending));
        files.extend(configured.then(|| self.join(ADAPTER_CONFIG)));
        self.push(path, open, files, true);
        if let Some((stem, ending)) = parts {
            self.take_shards(stem, ending);
        }
        for name in format::file_names() {
            self.left.remove(name);
        }
        if let Some(only) = only {
            self.left.retain(|name| *name != only);
        }
    }

    /// A model under the names of transformers.
    fn model(&mut self, name: &str, stem: &str, ending: &str) {
        let mut files: Vec<PathBuf> = vec![self.join(name)];
        if name.ends_with(".index.json") {
            files = self.shards_of(stem, ending);
        }
        files.extend(self.has(CONFIG).then(|| self.join(CONFIG)));
        let open = if self.has(ADAPTER_CONFIG) { self.join(name) } else { self.folder.into() };
        self.push(self.folder.into(), open, files, false);
        // Copies in an older format, and shards, are the same model.
        for (name, stem, ending) in MODELS {
            self.left.remove(name);
            self.take_shards(stem, ending);
        }
    }

    /// Shards with an index, under names of their own.
    fn indexed(&mut self) {
        let indices: Vec<&str> = self.left.iter().copied().filter(|name| name.ends_with(INDEX)).collect();
        for index in indices {
            let stem = index.trim_end_matches(INDEX);
            let whole = self.has(CONFIG) || self.has(ADAPTER_CONFIG);
            let path = if whole { self.folder.into() } else { self.join(index) };
            let files = self.shards_of(stem, ".safetensors");
            self.push(path, self.join(index), files, false);
            self.left.remove(index);
            self.take_shards(stem, ".safetensors");
        }
    }

    /// Parts of a GGUF file; and shards whose index is missing, which opening it reports.
    fn shards(&mut self) {
        while let Some((name, stem, ending)) = self
            .left
            .iter()
            .find_map(|name| shard(name).map(|(stem, ending)| (*name, stem.to_string(), ending.to_string())))
        {
            let open = match ending.as_str() {
                ".gguf" => self.join(name),
                _ => self.join(&format!("{stem}{ending}.index.json")),
            };
            let whole = self.has(CONFIG) && ending != ".gguf";
            let path = if whole { self.folder.into() } else { self.join(name) };
            let files = self.shards_of(&stem, &ending);
            if ending == ".gguf" || whole || ending == ".safetensors" {
                self.push(path, open, files, false);
            }
            self.take_shards(&stem, &ending);
        }
    }

    /// Files that stand alone.
    fn single(&mut self) {
        let tensors: Vec<&str> = self.left.iter().copied().filter(|name| ends(name, TENSORS)).collect();
        let whole = self.found.is_empty() && self.has(CONFIG) && tensors.len() == 1;
        for name in tensors {
            let file = self.join(name);
            let path = if whole && !ends(name, &[".gguf"]) { self.folder.into() } else { file.clone() };
            self.push(path, file.clone(), vec![file], false);
        }
        let pickles: Vec<&str> = self.left.iter().copied().filter(|name| ends(name, PICKLES)).collect();
        for name in pickles {
            let file = self.join(name);
            self.push(file.clone(), file.clone(), vec![file], false);
            if let Some(last) = self.found.last_mut() {
                last.certain = false;
            }
        }
    }

    fn push(&mut self, path: PathBuf, open: PathBuf, files: Vec<PathBuf>, adapter: bool) {
        self.found.push(Candidate { path, open, files, certain: true, adapter });
    }

    fn shards_of(&self, stem: &str, ending: &str) -> Vec<PathBuf> {
        let own = |name: &&&str| shard(name) == Some((stem, ending));
        self.left.iter().filter(own).map(|name| self.join(name)).collect()
    }

    fn take_shards(&mut self, stem: &str, ending: &str) {
        self.left.retain(|name| shard(name) != Some((stem, ending)));
    }
}

/// Whether a tensor file has one of these endings, and is not known to be something else.
fn ends(name: &str, endings: &[&str]) -> bool {
    let lower = name.to_ascii_lowercase();
    endings.iter().any(|ending| lower.ends_with(ending))
        && !NO_MODELS.iter().any(|other| lower.starts_with(other))
}

/// Of `model-00001-of-00003.safetensors` the beginning and the ending.
fn shard(name: &str) -> Option<(&str, &str)> {
    let ending = TENSORS.iter().chain(PICKLES).find(|ending| name.ends_with(**ending))?;
    let rest = name.strip_suffix(ending)?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    (digits(count) && digits(number)).then_some((stem, *ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each candidate as `PATH` or `PATH < OPENED`, of a folder `f`.
    fn found(names: &str) -> String {
        let names: Vec<String> = names.split(' ').map(str::to_string).collect();
        let shown = |c: Candidate| {
            let mut text = c.path.display().to_string();
            if c.open != c.path {
                text = format!("{text} < {}", c.open.display());
            }
            if c.certain { text } else { format!("{text}?") }
        };
        candidates(Path::new("f"), &names).into_iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn files_that_belong_together_are_one_candidate() {
        for (names, expected) in [
            (
                "adapter_config.json adapter_model.safetensors optimizer.pt training_args.bin rng_state_0.pth",
                "f",
            ),
            ("adapter_config.json README.md", "f"),
            ("adapter_config.json model-lora.gguf", "f"),
            ("adapter_config.json adapter_model.safetensors config.json", "f < f/adapter_model.safetensors"),
            (
                "adapter_config.json adapter_model.safetensors config.json model.safetensors",
                "f/adapter_model.safetensors, f < f/model.safetensors",
            ),
            ("adapter_config.json a.safetensors b.safetensors", "f/a.safetensors, f/b.safetensors"),
            (
                "adapter_config.json adapter_model.safetensors.index.json adapter_model-00001-of-00001.safetensors",
                "f",
            ),
            ("adapters.safetensors 0000100_adapters.safetensors", "f, f/0000100_adapters.safetensors"),
            ("config.json model.safetensors pytorch_model.bin", "f"),
            (
                "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json",
                "f",
            ),
            ("config.json model-00001-of-00002.safetensors", "f < f/model.safetensors.index.json"),
            ("config.json pytorch_model-00001-of-00002.bin pytorch_model.bin.index.json", "f"),
            ("config.json diffusion_pytorch_model.safetensors", "f < f/diffusion_pytorch_model.safetensors"),
            (
                "config.json x.safetensors.index.json x-00001-of-00001.safetensors",
                "f < f/x.safetensors.index.json",
            ),
            (
                "m-Q8_0.gguf m-00001-of-00002.gguf m-00002-of-00002.gguf",
                "f/m-00001-of-00002.gguf, f/m-Q8_0.gguf",
            ),
            ("detail.safetensors style.SAFETENSORS", "f/detail.safetensors, f/style.SAFETENSORS"),
            ("lora.pt embeddings.bin", "f/embeddings.bin?, f/lora.pt?"),
            ("config.json tokenizer.json imatrix.gguf notes.txt", ""),
        ] {
            assert_eq!(found(names), expected, "{names}");
        }
    }
}
