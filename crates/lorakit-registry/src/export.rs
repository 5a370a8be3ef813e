//! Artifacts put into folders, as servers want them.

use std::fs;
use std::path::{Path, PathBuf};

use lorakit_tensor::publish::{Existing, Staged, contents};
use serde::Serialize;

use crate::problem::Problem;
use crate::signed::SIGNATURE;
use crate::store::io;
use crate::{Artifact, Error, Kind, Result, Store};
use lorakit::plan::Progress;

/// Who loads an exported folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama.cpp's server, which loads GGUF.
    LlamaCpp,
    /// PEFT and transformers.
    Peft,
}

/// How something is exported.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Who loads it.
    pub server: Option<Server>,
    /// What the server calls the base: `base_model_name_or_path` becomes that.
    pub served_as: Option<String>,
    /// Whether an export that is there already is replaced.
    pub replace: bool,
}

/// What was exported.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// Where the files are.
    #[serde(serialize_with = "shown")]
    pub folder: PathBuf,
    /// What loads it, to be typed.
    pub command: Option<String>,
    /// The files whose content is not the artifact's.
    pub changed: Vec<String>,
    /// Its signature, as a file beside the others; none if it has none, or if a file was changed.
    pub signature: Option<&'static str>,
    /// Whether it has a signature that was left out because a file was changed.
    pub signature_omitted: bool,
}

fn shown<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Puts the artifact called `name` (`sql`) with the tag or digest `version` into `folder`: for servers into
/// `folder/NAME/VERSION`, so that two versions are served at once; otherwise into `folder` itself. The files are copies
/// that share their bytes where the file system can do that, in real folders: vLLM refuses links. The whole appears by
/// one rename.
///
/// # Errors
/// If a blob is missing or damaged; `Exists`; `Unsupported` if the server does not load its format.
pub fn export(
    store: &Store,
    artifact: &Artifact,
    (name, version): (&str, &str),
    folder: &Path,
    options: &ExportOptions,
    progress: &dyn Progress,
) -> Result<Exported> {
    if let Some(server) = options.server {
        server.takes(artifact, name)?;
    }
    progress.begin(artifact.bytes);
    for file in &artifact.files {
        store.require(file.digest, &format!("{name}:{version}"), progress)?;
    }
    let target = match options.server {
        Some(_) => folder.join(name).join(version),
        None => folder.to_path_buf(),
    };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|e| io("create", parent, e))?;
    }
    let existing = match options.replace && target.is_dir() {
        true => Existing::Replaced(contents(&target)?),
        false => Existing::Kept,
    };
    let staged = Staged::folder(&target, existing)?;
    store.copy_out(artifact, staged.path())?;
    let mut changed = Vec::new();
    if let Some(served) = &options.served_as
        && rename_base(&staged.path().join(CONFIG), served)?
    {
        changed.push(CONFIG.to_string());
    }
    let bundle = store.signature(artifact.digest)?;
    let signature = bundle.as_ref().filter(|_| changed.is_empty()).map(|_| SIGNATURE);
    if let (Some(name), Some(bundle)) = (signature, &bundle) {
        let path = staged.path().join(name);
        fs::write(&path, bundle).map_err(|e| io("write", &path, e))?;
    }
    let signature_omitted = bundle.is_some() && signature.is_none();
    let _ = staged.publish()?;
    let command = options.server.map(|server| server.command(artifact, name, version, folder, options));
    Ok(Exported { folder: target, command, changed, signature, signature_omitted })
}

const CONFIG: &str = "adapter_config.json";

/// Sets the base that a configuration names. Whether that changed it.
fn rename_base(path: &Path, served: &str) -> Result<bool> {
    let Ok(text) = fs::read(path) else { return Ok(false) };
    let wrong = |error: serde_json::Error| Error::from(Problem::Index { reason: error.to_string() }).at(path);
    let mut config: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
    if config["base_model_name_or_path"] == served {
        return Ok(false);
    }
    config["base_model_name_or_path"] = served.into();
    let text = serde_json::to_vec_pretty(&config).map_err(wrong)?;
    fs::remove_file(path).and_then(|()| fs::write(path, text)).map_err(|e| io("write", path, e))?;
    Ok(true)
}

impl Server {
    /// Refuses what the server cannot load.
    fn takes(self, artifact: &Artifact, name: &str) -> Result<()> {
        let format = artifact.facts.format.as_deref().unwrap_or("nothing known");
        let (server, takes, fits) = match self {
            Server::Vllm => ("vLLM", "peft", format == "peft"),
            Server::Sglang => ("SGLang", "peft", format == "peft"),
            Server::Peft => ("PEFT", "peft", format == "peft"),
            Server::LlamaCpp => ("llama.cpp", "gguf", format.eq_ignore_ascii_case("gguf")),
        };
        if fits || artifact.facts.kind == Kind::Merged && self != Server::Peft && self != Server::LlamaCpp {
            return Ok(());
        }
        let (name, format) = (name.to_string(), format.to_string());
        Err(Problem::Server { name, format, server, takes }.into())
    }

    /// The line that serves it.
    fn command(
        self,
        artifact: &Artifact,
        name: &str,
        version: &str,
        folder: &Path,
        options: &ExportOptions,
    ) -> String {
        let path = folder.join(name).join(version).display().to_string();
        let base = options.served_as.as_deref().or(artifact.facts.base.name.as_deref()).unwrap_or("BASE");
        let rank = artifact.facts.rank.as_deref().and_then(|rank| rank.rsplit("..").next());
        let is_model = artifact.facts.kind == Kind::Merged;
        match self {
            Server::Vllm if is_model => format!("vllm serve {path}"),
            Server::Sglang if is_model => format!("python -m sglang.launch_server --model-path {path}"),
            Server::Vllm => {
                // vLLM takes some ranks only, and 16 unless it is told.
                let ranks = [8, 16, 32, 64, 128, 256, 320, 512];
                let rank = rank.and_then(|rank| rank.parse::<u32>().ok()).unwrap_or(16);
                let most = ranks.into_iter().find(|most| *most >= rank).unwrap_or(512);
                format!("vllm serve {base} --enable-lora --max-lora-rank {most} --lora-modules {name}={path}")
            }
            Server::Sglang => {
                format!(
                    "python -m sglang.launch_server --model-path {base} --enable-lora --lora-paths {name}={path}"
                )
            }
            Server::LlamaCpp => {
                let file =
                    artifact.files.iter().find(|file| file.path.extension().is_some_and(|end| end == "gguf"));
                let file = file.map_or_else(String::new, |file| format!("/{}", file.path.display()));
                let flag = if is_model { "-m" } else { "-m BASE.gguf --lora" };
                format!("llama-server {flag} {path}{file}")
            }
            Server::Peft => format!(
                "python -c 'from peft import AutoPeftModelForCausalLM as M; M.from_pretrained(\"{path}\")'"
            ),
        }
    }
}
