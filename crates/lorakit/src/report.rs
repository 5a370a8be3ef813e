//! How reports serialise: types of other crates, and enums that have names.

use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Serialises types as the name that one of their methods returns.
macro_rules! by_name {
    ($($type:ty: $method:ident),*) => { $(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.$method())
            }
        }
    )* };
}
pub(crate) use by_name;

/// A path as text; anything in it that is not UTF-8 is replaced.
pub(crate) fn path<S: Serializer>(path: &impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.as_ref().display())
}

/// A path that may be missing.
pub(crate) fn optional_path<P: AsRef<Path>, S: Serializer>(
    path: &Option<P>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.as_ref().display().to_string()).serialize(serializer)
}

/// Several paths.
pub(crate) fn paths<P: AsRef<Path>, S: Serializer>(paths: &[P], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.as_ref().display().to_string()))
}

/// A time in seconds.
pub(crate) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    time.as_secs_f64().serialize(serializer)
}

/// A value as the text that [`ToString`] returns.
pub(crate) fn text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
