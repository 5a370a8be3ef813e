//! Promises that every format of the table keeps, and the work that adding a format takes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::testing::{Folder, lora, read, tensors};
use super::{DraftOptions, FORMATS, by_name, detect, file_names, open};
use crate::ErrorKind;
use crate::ops::convert::adapter::{formats, is_adapter};
use crate::ops::inspect;
use crate::plan::Silent;

/// An adapter written by PEFT, and its base.
fn of_language() -> (PathBuf, PathBuf) {
    let peft = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/peft");
    (peft.join("adapters/attn-r4"), peft.join("bases/llama-bf16"))
}

/// An adapter of Stable Diffusion as kohya writes it.
fn of_images(folder: &Folder) -> PathBuf {
    let layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    folder.file("images.safetensors", &[], &lora(layer, 320, 320, 2, Some(1.0)))
}

#[test]
fn names_are_unique_and_titles_tell() {
    let names: HashSet<&str> = FORMATS.iter().map(|format| format.name()).collect();
    assert_eq!(names.len(), FORMATS.len());
    for format in FORMATS {
        let name = format.name();
        assert_eq!(by_name(name).unwrap().name(), name);
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
        assert!(format.title().len() > name.len() && !format.title().ends_with('.'), "{name}");
        assert_eq!(formats().iter().any(|listed| listed.name == name), format.is_written(), "{name}");
    }
    assert!(by_name("nothing").is_none());
}

/// Every format with a writer takes one of the samples, names its output as it promises, and is told apart from all
/// others when it is read again; the conversion itself compares the deltas.
#[test]
fn what_is_written_is_read() {
    let folder = Folder::new();
    let (adapter, base) = of_language();
    let images = of_images(&folder);
    for format in FORMATS.iter().filter(|format| format.is_written()) {
        let name = format.name();
        let ending = format.ending().map_or(String::new(), |ending| format!(".{ending}"));
        let out = format!("{name}-out{ending}");
        let (source, base) = match folder.convert(&adapter, &out, name, Some(&base)) {
            Ok(_) => (&adapter, Some(base.as_path())),
            Err(error) if error.kind() == ErrorKind::Inexpressible => {
                folder.convert(&images, &out, name, None).unwrap_or_else(|e| panic!("{name}: {e}"));
                (&images, None)
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let written = folder.path(&out);
        assert_eq!(written.is_dir(), format.ending().is_none(), "{name}");
        assert!(is_adapter(&written, Default::default()).unwrap(), "{name}");
        let files = open(&written, &Default::default()).unwrap();
        assert_eq!(detect(&files).unwrap().unwrap().name(), name);
        let file = files.source.path().file_name().unwrap().to_str().unwrap();
        assert!(format.ending().is_some() || format.files().first() == Some(&file), "{name}: {file}");
        let base = base.map(|base| crate::Base::open(base, &Default::default()).unwrap());
        let (before, after) = (read(source, base.as_ref()).unwrap(), read(&written, base.as_ref()).unwrap());
        assert_eq!((after.format, after.modules.len()), (name, before.modules.len()));
        if !format.needs_base() {
            assert_eq!(read(&written, None).unwrap().modules.len(), before.modules.len(), "{name}");
        }
        // A name for the other kind of output is refused.
        let wrong = if ending.is_empty() { "wrong.safetensors" } else { "wrong" };
        let refused = folder.plan(source, wrong, name, base.as_ref().map(|base| base.path.as_path()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage, "{name}");
    }
}

#[test]
fn what_is_only_read_is_not_written() {
    let (adapter, _) = of_language();
    let adapter = read(&adapter, None).unwrap();
    for format in FORMATS.iter().filter(|format| !format.is_written()) {
        let error = format.write(&adapter, &DraftOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{format:?}");
    }
}

#[test]
fn folders_are_searched_for_every_name() {
    for name in file_names() {
        assert!(!name.contains('/') && name.contains('.'), "{name}");
    }
    assert_eq!(file_names().next(), Some("adapter_model.safetensors"));
}

/// `dummy` is in `dummy.rs` and in one line of the table, and nowhere else.
#[test]
fn one_more_format_is_one_module_and_one_line() {
    let folder = Folder::new();
    let adapter = folder.path("adapter");
    folder.adapter(
        "adapter",
        "adapter_model.safetensors",
        serde_json::json!({ "peft_type": "LORA", "r": 1, "lora_alpha": 2 }),
        &[
            ("base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", &[1, 2], &[1.0, 2.0]),
            ("base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", &[2, 1], &[3.0, 4.0]),
        ],
    );
    // It is written, and found in its folder among files that do not belong to it.
    let written = folder.convert(&adapter, "written", "dummy", None).unwrap();
    std::fs::write(written.join("other.safetensors"), b"no tensors").unwrap();
    let path = "dummy/model.layers.0.mlp.down_proj";
    assert_eq!(
        tensors(&written.join("dummy_weights.safetensors")),
        [
            (format!("{path}/a"), vec![1, 2], vec![1.0, 2.0]),
            (format!("{path}/b"), vec![2, 1], vec![6.0, 8.0]),
        ]
    );
    // It is read wherever adapters are read, and can be converted to any other format.
    let options = inspect::InspectOptions::default();
    let inspect::Inspection::Adapter(report) = inspect::inspect(&written, &options, &Silent).unwrap() else {
        panic!("it is an adapter");
    };
    assert_eq!((report.format, report.modules.len()), ("dummy", 1));
    let back = folder.convert(&written, "back", "peft", None).unwrap();
    assert_eq!(read(&back, None).unwrap().modules.len(), 1);
    // It can be chosen, and messages name it.
    assert!(formats().iter().any(|format| format.name == "dummy"));
    let error = folder.plan(&adapter, "out", "dumy", None).unwrap_err();
    assert!(error.to_string().contains("dummy"), "{error}");
    let biased = folder.adapter(
        "biased",
        "adapter_model.safetensors",
        serde_json::json!({ "peft_type": "LORA", "r": 1, "lora_alpha": 2, "use_dora": true }),
        &[
            ("base_model.model.q_proj.lora_A.weight", &[1, 2], &[1.0, 2.0]),
            ("base_model.model.q_proj.lora_B.weight", &[2, 1], &[3.0, 4.0]),
            ("base_model.model.q_proj.lora_magnitude_vector", &[2], &[1.0, 1.0]),
        ],
    );
    let error = folder.plan(&biased, "out", "dummy", None).unwrap_err();
    assert!(error.to_string().contains("that dummy cannot store"), "{error}");
    // A file that mixes it with another format is reported.
    let mixed = folder.adapter(
        "mixed",
        "dummy_weights.safetensors",
        serde_json::Value::Null,
        &[
            ("dummy/q_proj/a", &[1, 2], &[1.0, 2.0]),
            ("lora_unet_conv_in.lora_up.weight", &[2, 1], &[3.0, 4.0]),
        ],
    );
    let error = read(&mixed, None).unwrap_err();
    assert!(error.to_string().contains("`dummy/q_proj/a` is spelled as in dummy files"), "{error}");
}
