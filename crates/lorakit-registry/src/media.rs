//! Media types and annotations: those of the CNCF ModelPack specification 0.0.7, of OCI, and lorakit's own.

/// An OCI image manifest, the form of all artifacts here.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What an artifact of ModelPack is.
pub(crate) const MODEL: &str = "application/vnd.cncf.model.manifest.v1+json";
/// Its configuration.
pub(crate) const MODEL_CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
/// Weights, configuration and documents, each one file as it is.
pub(crate) const WEIGHTS: &str = "application/vnd.cncf.model.weight.v1.raw";
/// See [`WEIGHTS`].
pub(crate) const WEIGHTS_CONFIG: &str = "application/vnd.cncf.model.weight.config.v1.raw";
/// See [`WEIGHTS`].
pub(crate) const DOCUMENT: &str = "application/vnd.cncf.model.doc.v1.raw";
/// An evaluation of an adapter.
pub(crate) const EVALUATION: &str = "application/vnd.lorakit.eval.v1+json";
/// A signature, as sigstore bundles it.
pub(crate) const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The configuration of what has none.
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What an empty configuration holds.
pub(crate) const EMPTY_CONTENT: &[u8] = b"{}";

/// Where a layer's file goes, for programs that know ModelPack.
pub(crate) const FILE_PATH: &str = "org.cncf.model.filepath";
/// The same, for ORAS.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
/// The licence.
pub(crate) const LICENCES: &str = "org.opencontainers.image.licenses";

/// When it was made.
pub(crate) const CREATED: &str = "org.opencontainers.image.created";

/// The media type of the layer of a file.
pub(crate) fn of_file(name: &str) -> &'static str {
    if matches!(name, "merges.txt" | "vocab.txt") {
        return WEIGHTS_CONFIG;
    }
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "safetensors" | "gguf" => WEIGHTS,
        "md" | "txt" | "png" | "jpg" | "jpeg" | "webp" => DOCUMENT,
        "" => DOCUMENT,
        _ => WEIGHTS_CONFIG,
    }
}
