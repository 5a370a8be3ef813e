//! SmolLM2 in the mixes of llama.cpp: files that equal those of `llama-quantize`, byte for byte.
//!
//! The digests are of files that the tool wrote; `fixtures/generate/smollm2_imatrix.py` says how.

use std::fs;
use std::path::Path;

use lorakit_tensor::{Checkpoint, Reader, TensorInfo, TensorSource};
use sha2::{Digest, Sha256};

use crate::smollm2::model;
use crate::support::Sandbox;

/// The model in 16 bits, from which all others are made.
const BF16: &str = "994c74505f109ce900a91772a38324b6635a16c1499111f1df4fb031233033d7";

/// A mix, and the SHA-256 of the file.
const MIXES: &[(&str, &str)] = &[
    ("F16", "31bf9fae2b90f041d7ae13539e1fc1e5d80a4c430713025fe55a5ab8debcd125"),
    ("Q8_0", "8ded268104ae3ff372f34bb3c8e7eb2cb95d5ec84b1a92e67c3dfedf1392eb20"),
    ("Q6_K", "4f8e2a724a76aaaad865784a14709edfe5f836a400a57867942f780bb705f4f3"),
    ("Q5_1", "729ddf6207cdfa852e5f74e4867b54af7feb3149ea91d2173475a88a68ddc61e"),
    ("Q5_K_M", "26c871f18015736763518c42735ceb7e4311996589aed3b74e0e112abb709157"),
    ("Q5_K_S", "0433e6f10f4e8534239a139a0f1cf6938ec9eac87fc4c2a32ebe54746240485e"),
    ("Q5_0", "049b741099c9326aae56c435a0a438a02282ea1ccbf0d12a68aa5e1ac6a80993"),
    ("Q4_1", "941f309b54caaad6747569ba43712bcde44a2be3bae16c3282ff499c37c54af5"),
    ("Q4_K_M", "cc1d26922568998661debe5cf1a277721e95641fa57e0fef3fc0b7c84a06c349"),
    ("Q4_K_S", "ffe0cb476ef4832cecb39db73e50b9b006b7207f4dd2b5d9cabbb68e46f25597"),
    ("IQ4_NL", "47bbc2c47c3373e9568e7626d7ad62226048fd5fc2e8b924c63b3edc7e9c1953"),
    ("Q4_0", "5334efb963feccb6b7ed6e60fc57b19aa845cec0a30854f1d68b20ab1862a9fb"),
    ("IQ4_XS", "9c72bd96facb5ca44c9b1b0e1c3ccca077eed29738f28c55521decb0eb8771e8"),
    ("Q3_K_L", "5add396538dc634b6d4ad4ca06d8cae59c2c59dccdd169f21140ea681eeaaba8"),
    ("Q3_K_M", "ca5c5aba30b06b3c7ba07889b6e685cf2f5a3d7def4ee03db9235b56f316a7d6"),
    ("Q3_K_S", "88fa189bd85bedacb2bdb8ad458c7fcfa1ece53866ae8f91540db26ab39ab2bd"),
    ("Q2_K", "8d3d8c8a37a2f2fd54c10c397e75654d9507bb4ca7fcad32f786b402289bd687"),
    ("MXFP4_MOE", "45c0c1509ad4ced99227e8c20686c801fbbf020c42124b3dbd047bbc110ee8a1"),
    ("TQ2_0", "e0dd7e155a82f07962f406886c432c73c78eed1a3720a6cb2dadb5eda34f5feb"),
    ("TQ1_0", "2adb95c272ae4a93ea8e89e6a98ec5886c33a1d3eb7b2d18dbb18a7ab233ec38"),
];

/// The same with the importance matrix of [`write_imatrix`].
const WEIGHED: &[(&str, &str)] = &[
    ("Q8_0", "6fade89cf7cdf22690ce41bde7e5a6d36e7d1a07665c5bb4ddeb696a2ff9a5a0"),
    ("Q6_K", "772f73e92b4476f2e94212ba06861c6aad5f4096867c2107eba02c0ae2e8edd4"),
    ("Q5_1", "a9702dd23b05e646a80a0f234e2edf82f0d3e80838bd31fbfcd427def98ee570"),
    ("Q5_K_M", "3df4c0794f8f9c65137ab6d0cf35a2d7a85195d2d647e7b94ee739d9b0a41802"),
    ("Q5_0", "ade0ab2611b28589fb629622398d7387e16d9cf32a8b02351ee5a7d1dedb88c8"),
    ("Q4_1", "3e3137ed00518a6a3b5832ef7eb9d2aad3077f3e9fbfc80f67952167881d11bd"),
    ("Q4_K_M", "4587a1386047d84a795665fdd440827843d33e6b6858dccfcb605b3b42ae5c23"),
    ("Q4_0", "2619198282c40bde324e1f23d0cf6cf4cb0e4583cb75426e4a035738f84fb391"),
    ("IQ4_XS", "af567a3723f3507cefd267995a6680e6baaecb02aa331f07d40ae3749e847b56"),
    ("Q3_K_M", "434ce73da6193085592c36846c6b82e1ffbf4fb454668ef1c355267ccef10b62"),
    ("Q2_K", "c2c84ca676dbe8292e6f8d7befc97e6b60301dae53b0d9c0c4d5529b40548701"),
    ("Q2_K_S", "278c76148cbd811fd82c9cfed90fb6cf7ec6032cef8a6ccfda5c0de8d804851b"),
];

#[test]
fn files_equal_llama_quantize() {
    let Some(model) = model() else { return };
    let sandbox = Sandbox::new();
    sandbox.run("quantize --type BF16 --requantize -o bf16.gguf", &[&model]).ok();
    assert_eq!(sha256(&sandbox.path("bf16.gguf")), BF16);
    for (mix, digest) in MIXES {
        sandbox.run(&format!("quantize bf16.gguf --type {mix} -o out.gguf --force"), &[]).ok();
        assert_eq!(sha256(&sandbox.path("out.gguf")), *digest, "{mix}");
    }
    let bf16 = Checkpoint::open(&sandbox.path("bf16.gguf"), &Reader::default()).unwrap();
    write_imatrix(bf16.tensors(), &sandbox.path("imatrix.dat"));
    for (mix, digest) in WEIGHED {
        let options = "--imatrix imatrix.dat -o out.gguf --force";
        sandbox.run(&format!("quantize bf16.gguf --type {mix} {options}"), &[]).ok();
        assert_eq!(sha256(&sandbox.path("out.gguf")), *digest, "{mix} with an importance matrix");
    }
}

/// Importances that follow a formula, as `smollm2_imatrix.py` writes them.
fn write_imatrix(tensors: &[TensorInfo], path: &Path) {
    let matrices: Vec<_> =
        tensors.iter().filter(|t| t.name.starts_with("blk.") && t.shape.len() == 2).collect();
    let mut bytes = (matrices.len() as i32).to_le_bytes().to_vec();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    for (entry, tensor) in matrices.iter().enumerate() {
        let columns = tensor.shape[1];
        text(&mut bytes, &tensor.name);
        bytes.extend(4i32.to_le_bytes());
        bytes.extend((columns as i32).to_le_bytes());
        for column in 0..columns {
            let importance = (1 + (column + entry) * 2_654_435_761 % 1000) as f32 / 128.0;
            bytes.extend((importance * 4.0).to_le_bytes());
        }
    }
    bytes.extend(7i32.to_le_bytes());
    text(&mut bytes, "formula");
    fs::write(path, bytes).unwrap();
}

fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}
