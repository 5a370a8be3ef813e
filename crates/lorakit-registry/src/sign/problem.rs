//! Why a model cannot be signed, or a signature is refused.

use lorakit_tensor::problem::excerpt;
use lorakit_tensor::problems;

/// What should be 64 digits, which are shown whole, and may be any text.
fn shown(digest: &str) -> String {
    if digest.len() == 64 {
        digest.escape_debug().to_string()
    } else {
        excerpt(digest).escape_debug().to_string()
    }
}

problems! {
    /// Why a model cannot be signed, or a signature is refused. No text shows a key but by its hint.
    pub(crate) enum Problem {
        /// A text is not PEM.
        NotPem { needed: &'static str } = Usage, "is not PEM; it must hold {needed}";
        /// A PEM block is of another kind.
        Label { found: &'static str, needed: &'static str } = Usage, "holds a PEM block `{found}`; it must hold {needed}";
        /// A private key has a password.
        Encrypted = Usage, "is a private key with a password; it must be one without";
        /// A key is of another kind.
        NotOnCurve { curves: &'static str } = Usage, "is not a key on {curves}, or is damaged";
        /// The system has no random numbers.
        NoRandomness { reason: String } = Unsupported, "the system gives no random numbers for a key: {reason}";

        /// A bundle is too large.
        Bundle { size: u64, limit: u64 } = File(Limit), "is a bundle of {size} bytes, at most {limit} are read";
        /// A bundle is not one.
        NotABundle { reason: String } = File(Corrupt), "is not a bundle with a signature: {reason}";
        /// A bundle is of another version.
        MediaType { found: String, expected: &'static str } = File(Unsupported),
            "is a bundle of the type `{}`; it must be `{expected}`", excerpt(found).escape_debug();
        /// A bundle is signed with a certificate.
        Certificate = File(Unsupported), "is signed with a certificate; it must be signed with a key";
        /// A bundle does not say who signed it.
        NoKey = File(Corrupt), "names neither a key nor a certificate";
        /// A bundle has none or several signatures.
        Signatures { count: usize } = File(Corrupt), "has {count} signatures; it must have one";
        /// The envelope holds something else.
        PayloadType { found: String, expected: &'static str } = File(Unsupported),
            "signs a payload of the type `{}`; it must be `{expected}`", excerpt(found).escape_debug();
        /// Bytes are not Base64.
        NotBase64 { field: &'static str, reason: String } = File(Corrupt), "`{field}` is not Base64: {reason}";
        /// No keys are given.
        NoKeys = Usage, "there is no key to verify the signature with";
        /// Another key has signed.
        OtherKey { hint: String, given: Vec<String> } = Untrusted,
            "is signed by the key {}; it must be signed by {}", shown(hint), given.join(" or ");
        /// The named key has not signed this.
        Signature { hint: String } = Untrusted,
            "its signature is not one of the key {}: payload or signature were changed", shown(hint);
        /// None of the keys has signed this.
        NoSigner { given: Vec<String> } = Untrusted, "its signature is not one of {}", given.join(" or ");

        /// The payload is not a statement.
        NotAStatement { reason: String } = File(Corrupt), "its payload is not a statement on a model: {reason}";
        /// The statement is of another type.
        StatementType { found: String, expected: &'static str } = File(Unsupported),
            "its payload is of the type `{}`; it must be `{expected}`", excerpt(found).escape_debug();
        /// The statement says something else.
        PredicateType { found: String, expected: &'static str } = File(Unsupported),
            "it states `{}`; a signature of a model states `{expected}`", excerpt(found).escape_debug();
        /// The statement is on several models, or none.
        Subjects = File(Corrupt), "its payload must be a statement on one model";
        /// Files are hashed otherwise.
        HashType { found: String } = File(Unsupported),
            "has digests of the type `{}`; only `sha256` is read", excerpt(found).escape_debug();
        /// Files are listed otherwise.
        Method { found: String } = File(Unsupported),
            "lists files by the method `{}`; it must be `files` or `shards`", excerpt(found).escape_debug();
        /// Shards have no size, or files have one.
        ShardSize { method: String, found: String } = File(Corrupt), "`shard_size` is {found} with the method `{method}`";
        /// Links were followed.
        Symlinks = Unsafe, "was made by following symbolic links; a model must consist of regular files";
        /// A digest is not one.
        DigestText { name: String, found: String } = File(Corrupt),
            "the digest of `{}` is `{}`; it must be 64 lower-case hexadecimal digits",
            name.escape_debug(), excerpt(found).escape_debug();
        /// A name is not that of a file in a folder.
        Name { name: String } = File(Corrupt),
            "names the file `{}`; it must be a path inside the model, in its shortest form", excerpt(name).escape_debug();
        /// A name is not that of a shard.
        ShardName { name: String } = File(Corrupt),
            "names the shard `{}`; it must be `path:start:end` of a file inside the model", excerpt(name).escape_debug();
        /// A file is listed twice.
        Twice { name: String } = File(Corrupt), "lists `{}` twice", name.escape_debug();
        /// The ranges of a file do not cover it.
        Ranges { name: String, size: u64 } = File(Corrupt),
            "the ranges of `{}` are not consecutive pieces of {size} bytes from its beginning", name.escape_debug();
        /// The statement contradicts itself.
        Root { found: String, expected: String } = File(Corrupt),
            "says that its digests have the digest {}; it is {expected}", shown(found);
        /// A path to leave out is not one.
        IgnoredPath { path: String } = File(Corrupt),
            "would ignore `{}`; it must be a path inside the model, without `*`, `?` or `[`", excerpt(path).escape_debug();
        /// Nothing is signed.
        Nothing = File(Corrupt), "signs no file";

        /// There is nothing to sign.
        NoFiles = Usage, "there is no file to sign";
        /// A model has no name.
        NoSubject = Usage, "the name of what is signed is empty";
        /// A name cannot be written.
        NotUtf8 = Unsafe, "its name is not UTF-8, so a signature cannot name it";
        /// A file is a link.
        Link = Unsafe, "is a symbolic link; a signed model must consist of regular files";
        /// A file is something else.
        Special = Unsafe, "is neither a file nor a folder; a signed model must consist of regular files";
        /// A file became shorter.
        Short { end: u64 } = File(Changed), "changed while it was read: it had {end} bytes";
        /// Only whole files are known.
        OnlyWhole { name: String, start: u64, end: u64 } = Unsupported,
            "the digest of bytes {start} to {end} of `{}` is not known", name.escape_debug();

        /// A signed file is absent.
        Missing { name: String } = Untrusted, "`{}` is signed but missing", name.escape_debug();
        /// A file is not signed.
        Unsigned { name: String } = Untrusted, "`{}` is not signed", name.escape_debug();
        /// A file has another size.
        Size { name: String, found: u64, expected: u64 } = Untrusted,
            "`{}` has {found} bytes; signed were {expected}", name.escape_debug();
        /// A file has another content.
        Changed { name: String, found: String, expected: String } = Untrusted,
            "`{}` has the digest {found}; signed was {expected}", name.escape_debug();
        /// A range of a file has another content.
        ChangedRange { name: String, start: u64, end: u64, found: String, expected: String } = Untrusted,
            "`{}` has the digest {found} from byte {start} to {end}; signed was {expected}", name.escape_debug();
        /// Several files differ.
        Differences { count: usize } = Untrusted, "{count} files differ from what was signed";

        /// A policy is not text.
        PolicyText = Usage, "is not UTF-8 text";
        /// A policy is not TOML.
        Toml { line: usize, reason: String } = Usage, "line {line}: is not TOML: {reason}";
        /// A key of a policy is unknown.
        UnknownKey { line: usize, key: String, known: Vec<String> } = Usage,
            "line {line}: `{}` must be one of {}", key.escape_debug(), known.join(", ");
        /// A value of a policy is not one.
        Value { line: usize, key: String, found: String, needed: &'static str } = Usage,
            "line {line}: `{key}` is {found}; it must be {needed}";
        /// An item of a list is not one.
        Item { line: usize, key: String, item: String, reason: String } = Usage,
            "line {line}: `{key}` holds `{}`: {reason}", excerpt(item).escape_debug();
        /// A rule lacks a key.
        Lacks { line: usize, key: &'static str } = Usage, "line {line}: the rule has no `{key}`";
        /// A name has no signature.
        NoSignature { name: String, given: Vec<String> } = Untrusted,
            "`{}` is not signed; the policy requires a signature of {}", name.escape_debug(), given.join(" or ");
        /// A name has no rule.
        NoRule { name: String } = Untrusted,
            "no rule of the policy is for `{}`, and the policy requires one", name.escape_debug();
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;
    use crate::error::Problem as _;

    #[test]
    fn every_message() {
        let line = |problem: Problem| format!("{}: {problem}", problem.kind().name());
        let lines: Vec<String> = Problem::samples().into_iter().map(line).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
