//! Keys: pairs on the curves P-256, P-384 and P-521.

use std::fmt;

use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
};

use super::problem::Problem;
use crate::{Digest, Result};

const PUBLIC: &str = "PUBLIC KEY";
const PKCS8: &str = "PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// A key with which is signed, on P-256.
///
/// ```
/// use lorakit_registry::sign::PrivateKey;
///
/// # fn main() -> lorakit_registry::Result<()> {
/// let key = PrivateKey::generate()?;
/// assert_eq!(PrivateKey::from_pem(&key.to_pem()?)?.public().hint(), key.public().hint());
/// # Ok(())
/// # }
/// ```
pub struct PrivateKey(p256::ecdsa::SigningKey);

impl PrivateKey {
    /// A new key, from the random numbers of the system.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if the system has none.
    pub fn generate() -> Result<Self> {
        let key = p256::ecdsa::SigningKey::try_generate();
        key.map(PrivateKey).map_err(|e| Problem::NoRandomness { reason: e.to_string() }.into())
    }

    /// Reads a key from PEM: PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`). Other blocks of the text, such as the
    /// parameters that OpenSSL writes, are passed over.
    ///
    /// # Errors
    /// `ErrorKind::Usage` for anything else: a key on another curve, an encrypted one, a public one.
    pub fn from_pem(text: &str) -> Result<Self> {
        let blocks = blocks(text);
        let block = blocks.iter().find(|(label, _)| matches!(*label, PKCS8 | SEC1 | ENCRYPTED));
        let key = match block {
            None => return Err(no_block(&blocks, "a private key").into()),
            Some((ENCRYPTED, _)) => return Err(Problem::Encrypted.into()),
            Some((PKCS8, pem)) => p256::ecdsa::SigningKey::from_pkcs8_pem(pem).ok(),
            Some((_, pem)) => p256::SecretKey::from_sec1_pem(pem).ok().map(Into::into),
        };
        key.map(PrivateKey).ok_or_else(|| Problem::NotOnCurve { curves: "P-256" }.into())
    }

    /// The key as PEM, in PKCS#8.
    ///
    /// # Errors
    /// None in practice: what was read can be written.
    pub fn to_pem(&self) -> Result<String> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| Problem::NotOnCurve { curves: "P-256" })?;
        Ok(pem.to_string())
    }

    /// The key with which its signatures are verified.
    pub fn public(&self) -> PublicKey {
        PublicKey(Curve::P256(*self.0.verifying_key()))
    }

    /// The signature of a message, in DER. It is the same each time (RFC 6979).
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: p256::ecdsa::DerSignature = self.0.sign(message);
        signature.as_bytes().to_vec()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {}", self.public().hint())
    }
}

/// A key with which signatures are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(Curve);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// Reads every public key (`PUBLIC KEY`) of a PEM text. Text between them is passed over.
    ///
    /// # Errors
    /// `ErrorKind::Usage` if there is none, or one of another kind than ECDSA on P-256, P-384 or P-521.
    pub fn from_pem(text: &str) -> Result<Vec<Self>> {
        let blocks = blocks(text);
        let keys: Vec<&str> =
            blocks.iter().filter(|(label, _)| *label == PUBLIC).map(|(_, pem)| *pem).collect();
        if keys.is_empty() {
            return Err(no_block(&blocks, "a public key").into());
        }
        let read = |pem: &&str| {
            let p256 = || p256::ecdsa::VerifyingKey::from_public_key_pem(pem).ok().map(Curve::P256);
            let p384 = || p384::ecdsa::VerifyingKey::from_public_key_pem(pem).ok().map(Curve::P384);
            let p521 = || p521::ecdsa::VerifyingKey::from_public_key_pem(pem).ok().map(Curve::P521);
            let curve = p256().or_else(p384).or_else(p521);
            curve.map(PublicKey).ok_or_else(|| Problem::NotOnCurve { curves: "P-256, P-384 or P-521" }.into())
        };
        keys.iter().map(read).collect()
    }

    /// The key as PEM.
    pub fn to_pem(&self) -> String {
        let pem = match &self.0 {
            Curve::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Curve::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Curve::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        // Encoding fails for keys of more than 256 MB.
        pem.unwrap_or_default()
    }

    /// What bundles call the key: 64 hexadecimal digits, the SHA-256 of its PEM, as model-signing writes it.
    pub fn hint(&self) -> String {
        Digest::of(self.to_pem().as_bytes()).hex()
    }

    /// Whether `signature`, in DER, is one of this message by this key. The hash is that of the curve: SHA-256,
    /// SHA-384, SHA-512.
    pub(super) fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Curve::P256(key) => {
                p256::ecdsa::DerSignature::try_from(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
            Curve::P384(key) => {
                p384::ecdsa::DerSignature::try_from(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
            Curve::P521(key) => {
                p521::ecdsa::DerSignature::try_from(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
        }
    }
}

/// The PEM blocks of a text: label, and block with its first and last line.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    const BEGIN: &str = "-----BEGIN ";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start..];
        let Some(label) = block[BEGIN.len()..].split("-----").next() else { break };
        let last = format!("-----END {label}-----");
        let Some(end) = block.find(&last).map(|at| at + last.len()) else { break };
        found.push((label, &block[..end]));
        rest = &block[end..];
    }
    found
}

/// What is there instead of `needed`. No text of the file is shown but a known label.
fn no_block(blocks: &[(&str, &str)], needed: &'static str) -> Problem {
    let known = [PUBLIC, PKCS8, SEC1, ENCRYPTED, "CERTIFICATE", "EC PARAMETERS", "RSA PRIVATE KEY"];
    let label = blocks.iter().find_map(|(label, _)| known.iter().find(|known| *known == label));
    label.map_or(Problem::NotPem { needed }, |found| Problem::Label { found, needed })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The key of RFC 6979, A.2.5, which everyone knows.
    pub(in crate::sign) const SEC1_PEM: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49
AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8
maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==
-----END EC PRIVATE KEY-----
";
    const PKCS8_PEM: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgya+p2EW6dRZrXCFX
Z7HWk05Qw9s26JsSe4piKxIPZyGhRANCAARg/tS6JVqdMclh63TGNW1owEm4kjth
+mzmaWIuYPKftnkD/hAIuLyZpBrp6VYovGTy8bIMLX6fUXejwpTURiKZ
-----END PRIVATE KEY-----
";
    /// As `sha256sum` has it of the PEM that OpenSSL writes.
    const HINT: &str = "4975c03dd2ad43f3803bf943ca231389c41f26352bf098c930568797eff44dcc";

    #[test]
    fn both_forms_of_a_private_key_are_one_key() {
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let windows = PKCS8_PEM.replace('\n', "\r\n") + "\r\n\r\n";
        for text in [SEC1_PEM, PKCS8_PEM, &format!("{parameters}{SEC1_PEM}"), &format!("my key\n\n{windows}")]
        {
            let key = PrivateKey::from_pem(text).unwrap();
            assert_eq!((key.to_pem().unwrap().as_str(), key.public().hint().as_str()), (PKCS8_PEM, HINT));
            assert_eq!(format!("{key:?}"), format!("PrivateKey of {HINT}"), "nothing secret");
        }
    }

    #[test]
    fn keys_of_three_curves_stand_in_one_text() {
        let p384 = include_str!("../../../../fixtures/oms/model-signing/p384-public.pem");
        let p521 = include_str!("../../../../fixtures/oms/model-signing/p521-public.pem");
        let p256 = PrivateKey::from_pem(SEC1_PEM).unwrap().public().to_pem();
        let keys = PublicKey::from_pem(&format!("{p384}\n{p521}{p256}")).unwrap();
        let written: Vec<String> = keys.iter().map(PublicKey::to_pem).collect();
        assert!(p384.ends_with(&written[0]) && p521 == written[1] && p256 == written[2]);
        assert_eq!(keys[0].hint(), "e8450dec4eb99dae995da9af1bc2cc9f76ed669ee2e744f57abba763df3e3f8e");
    }

    #[test]
    fn the_signature_of_rfc_6979() {
        let signature = PrivateKey::from_pem(SEC1_PEM).unwrap().sign(b"sample");
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let r = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
        let s = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
        assert_eq!(hex, format!("3046022100{r}022100{s}"));
    }

    #[test]
    fn what_is_not_such_a_key_is_named() {
        let p384 = p384::SecretKey::generate().to_pkcs8_pem(LineEnding::LF).unwrap();
        let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAJJWNNNBtzi6G9nTfZCNsx3m5iFUIdnQsdmJloRQmwyo=\n\
                       -----END PUBLIC KEY-----\n";
        let public = PrivateKey::from_pem(SEC1_PEM).unwrap().public().to_pem();
        let secret = |text: &str| PrivateKey::from_pem(text).unwrap_err().to_string();
        let open = |text: &str| PublicKey::from_pem(text).unwrap_err().to_string();
        let told = [
            secret(""),
            secret(&public),
            secret(&p384),
            secret(&PKCS8_PEM.replace(" PRIVATE", " ENCRYPTED PRIVATE")),
            secret(&PKCS8_PEM.replace("MIGH", "MIGG")),
            secret(&SEC1_PEM[..100]),
            open("hunter2"),
            open(SEC1_PEM),
            open(&public.replace("PUBLIC KEY", "CERTIFICATE")),
            open(&public.replace("PUBLIC KEY", "\u{1b}[31m")),
            open(ed25519),
            open(&format!("{public}{}", public.replace("MFkw", "MFkx"))),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        is not PEM; it must hold a private key
        holds a PEM block `PUBLIC KEY`; it must hold a private key
        is not a key on P-256, or is damaged
        is a private key with a password; it must be one without
        is not a key on P-256, or is damaged
        is not PEM; it must hold a private key
        is not PEM; it must hold a public key
        holds a PEM block `EC PRIVATE KEY`; it must hold a public key
        holds a PEM block `CERTIFICATE`; it must hold a public key
        is not PEM; it must hold a public key
        is not a key on P-256, P-384 or P-521, or is damaged
        is not a key on P-256, P-384 or P-521, or is damaged
        ");
    }
}
