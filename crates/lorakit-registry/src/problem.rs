//! What can go wrong in a registry.

use lorakit_tensor::problems;

problems! {
    /// What can go wrong in a registry.
    pub(crate) enum Problem {
        /// A text is not a name with a tag or a digest.
        NoName { text: String } = Usage,
            "`{text}` is not a name in the registry: expected `NAME:TAG` or `NAME@DIGEST`, the name in lower-case letters, digits, `.`, `_`, `-` and `/`";
        /// A name of one letter.
        Drive { text: String } = Usage,
            "`{text}` is not a name in the registry: a single letter before `:` is a drive; expected a longer name";
        /// A name lacks its tag.
        NoTag { text: String } = Usage, "`{text}` has no tag: expected `{text}:TAG`, such as `{text}:v1`";
        /// Nothing has that name.
        Absent { name: String, near: Option<String> } = File(NotFound) / ListNames,
            "the registry has no `{name}`{}", near.as_ref().map_or_else(String::new, |near| format!("; the nearest name is `{near}`"));
        /// A digest that is cut short fits several.
        SeveralDigests { name: String, count: usize } = Ambiguous,
            "`{name}` fits {count} artifacts: name more digits";
        /// A tag has moved fewer times than is asked for.
        NoMove { tag: String, moves: usize, known: usize } = File(NotFound),
            "`{tag}` has moved {known} times that the registry remembers, not {moves}";
        /// The tag points to something else.
        Moved { tag: String, found: String, expected: String } = Moved,
            "`{tag}` points to {found}, expected {expected}";
        /// The tag exists and was not to be moved.
        Taken { tag: String, found: String } = Moved / MoveTag, "`{tag}` points to {found} already";

        /// The folder is something else.
        NotAStore = File(Occupied), "is not a registry: it has files, but no `oci-layout`";
        /// The folder does not exist.
        NoStore = File(NotFound) / AddFirst, "there is no registry here yet";
        /// Another program's layout of another version.
        LayoutVersion { found: String } = Unsupported,
            "is an OCI layout of version {found}; version 1.0.0 is read";
        /// A later lorakit wrote it.
        LaterStore { found: u64, known: u64 } = Unsupported,
            "was written in form {found} by a later lorakit; this one knows form {known} and changes nothing";
        /// Somebody holds the lock.
        Locked { holder: String, seconds: u64 } = File(Io),
            "is locked by {holder}; waited {seconds} seconds";
        /// The index is damaged.
        Index { reason: String } = File(Corrupt) / RepairRegistry, "is damaged: {reason}";

        /// A blob is not there.
        NoBlob { digest: String, of: String } = File(Incomplete) / RepairRegistry,
            "`{of}` needs {digest}, which is not in the registry";
        /// A blob's bytes are others.
        Blob { digest: String, found: String, of: String, moved: bool } = File(Corrupt) / RepairRegistry,
            "the bytes of {digest}, which `{of}` needs, have become {found}{}",
            if *moved { "; they were moved to quarantine" } else { "" };
        /// The bytes that came are others.
        OtherBytes { digest: String, found: String, of: String } = File(Corrupt),
            "`{of}` names {digest}, and the bytes that came are {found}";
        /// A blob is not a plain file.
        Irregular { digest: String, of: String } = Unsafe / RepairRegistry,
            "{digest}, which `{of}` needs, is not a regular file";
        /// A blob that is read as a whole is too large.
        Large { what: &'static str, bytes: u64, limit: u64 } = Unsafe, "{what} has {bytes} bytes, at most {limit} are read";
        /// A manifest is not one.
        Manifest { digest: String, reason: String } = File(Corrupt), "the manifest {digest} {reason}";
        /// Not an artifact of ours.
        Foreign { name: String, found: String } = Unsupported,
            "`{name}` is {found}, not an adapter or a model";
        /// A path in a manifest leads out of its folder.
        LayerPath { digest: String, path: String } = Unsafe,
            "the manifest {digest} names a file `{path}`, which is not a plain path of at most four parts";
        /// Two layers have the same path.
        SameLayer { digest: String, path: String } = Unsafe, "the manifest {digest} has two files called `{path}`";

        /// There is nothing to add.
        Nothing = NoAdapter, "holds no adapter and no model";
        /// Pickles run code.
        Pickle { file: String } = Unsafe / ConvertPickle,
            "`{file}` is a pickle, which can hold code: the registry takes safetensors, GGUF and JSON";
        /// The file changed.
        SourceChanged = File(Changed), "changed while it was read; nothing was added";
        /// A file in the folder is a pipe or a device.
        NotPlain { file: String } = Unsafe, "`{file}` is not a regular file";
        /// A link in the folder leads elsewhere.
        LinkOut { file: String } = Unsafe, "`{file}` is a link that leads out of the folder";
        /// Values are not finite.
        NonFinite { findings: Vec<String> } = NonFinite,
            "holds values that are not finite: {}", findings.join("; ");
        /// The base is another one.
        Base { found: String, expected: String, by: String } = BaseMismatch,
            "the base's weights are {found}, but {by} says that the adapter was trained on {expected}";
        /// The base does not fit.
        BaseShape { reason: String } = BaseMismatch, "does not fit the base: {reason}";
        /// A manifest says other weights than there are.
        OtherWeights { name: String, found: String, stated: String } = File(Corrupt),
            "the weights of `{name}` are {found}, and its manifest says {stated}";
        /// A layout has no such tag.
        NoTagThere { tag: String, known: Vec<String> } = File(NotFound),
            "the layout has no `{tag}`{}", if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) };
        /// There is no signature.
        Unsigned { name: String } = Untrusted / SignFirst, "`{name}` is not signed";
        /// A server loads another format.
        Server { name: String, format: String, server: &'static str, takes: &'static str } = Unsupported / ConvertForServer,
            "`{name}` is in the format {format}; {server} loads {takes}";
        /// A file that is not an evaluation.
        NotAnEvaluation { reason: String } = File(Corrupt), "is not an evaluation: {reason}";
        /// A metric is not `NAME=VALUE`.
        Metric { text: String } = Usage, "`{text}` is not a metric: expected `NAME=VALUE`, such as `exact=0.95`";
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
