//! What can be wrong with a listing of the hub's cache, and with what it lists.

use lorakit_tensor::problems;

use super::Sum;

problems! {
    /// What can be wrong with a listing of the hub's cache, and with what it lists.
    pub(crate) enum Problem {
        /// The file has another size than the hub says.
        Size { found: u64, listed: u64 } = File(Corrupt) / FetchIntoCache,
            "is damaged in the hub cache: it has {found} bytes, and the hub lists {listed}";
        /// The file has other bytes than those that the hub has.
        Content { found: Sum, listed: Sum } = File(Corrupt) / FetchIntoCache,
            "is damaged in the hub cache: its {found}, and the hub lists {}", listed.digits();
        /// The listing is of a version that is not known.
        Version { found: String } = Unsupported, "has `format_version` {found}, and only 1 is known";
        /// The listing lacks something, or has it in another form.
        Entry { name: String } = File(Corrupt), "does not give size and sum of `{name}`";
        /// There is JSON, which lists no files.
        NoFiles = File(Corrupt), "lists no files";
    }
}
