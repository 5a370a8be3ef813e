//! What the metadata of a quantised GGUF file say, in the order in which llama-quantize writes them.

use lorakit_quant::mix::FileType;
use lorakit_tensor::format::gguf::{Metadata, Value};

use super::imatrix::Imatrix;

/// The version of the block types.
const QUANTIZATION_VERSION: u32 = 2;
/// The tool cuts strings that it adds to this many bytes.
const MAX_TEXT: usize = 127;

/// The metadata of `source`, for a file of `file_type`. Numbers of splits go, what says how it was quantised moves to
/// the end.
pub(super) fn quantized(source: Metadata, file_type: FileType, imatrix: Option<&Imatrix>) -> Metadata {
    let mut metadata = source;
    metadata.retain(|key| !key.starts_with("split."));
    let mut append = |key: &str, value: Value| {
        metadata.remove(key);
        metadata.set(key, value);
    };
    append("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    append("general.file_type", Value::U32(file_type.id()));
    if let Some(imatrix) = imatrix {
        let file = imatrix.path().display().to_string();
        append("quantize.imatrix.file", Value::String(cut(&file)));
        if let Some(dataset) = imatrix.dataset() {
            append("quantize.imatrix.dataset", Value::String(cut(dataset)));
        }
        append("quantize.imatrix.entries_count", Value::U32(imatrix.len() as u32));
        if imatrix.chunks() > 0 {
            append("quantize.imatrix.chunks_count", Value::U32(imatrix.chunks()));
        }
    }
    metadata
}

/// At most [`MAX_TEXT`] bytes of `text`, whole characters.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_quantised_stands_at_the_end() {
        let mut source = Metadata::default();
        for key in
            ["general.file_type", "split.count", "general.architecture", "general.quantization_version"]
        {
            source.set(key, Value::U32(1));
        }
        let written = quantized(source, FileType::Q4_K_M, None);
        let entries: Vec<_> = written.iter().map(|(key, value)| (key, value.as_u64().unwrap())).collect();
        assert_eq!(
            entries,
            [("general.architecture", 1), ("general.quantization_version", 2), ("general.file_type", 15)]
        );
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(100)).len(), 126);
    }
}
