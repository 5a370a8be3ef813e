//! What an edit refuses.

use lorakit_tensor::{DType, problems};

use crate::error::one_or_many;
use crate::tensor::place;

problems! {
    /// What an edit refuses.
    pub(crate) enum Problem {
        /// No edit was asked for.
        Nothing = Usage, "nothing was asked to be edited";
        /// A format whose files are not edited in place.
        Closed { format: &'static str } = Unsupported / PeftHoldsIt,
            "is an adapter in the format `{format}`, whose files are only read";
        /// The format has no field for something.
        Placeless { format: &'static str, count: usize } = Inexpressible / PeftHoldsIt,
            "is an adapter in the format `{format}`, which has no place for {count} of the edits";

        /// A prefix with which no path begins.
        NoSuchPrefix { prefix: String, nearest: String } = Usage,
            "no module's path begins with `{prefix}`; the nearest is `{nearest}`";
        /// A prefix for an adapter without a path.
        NoPaths { prefix: String } = Usage, "no module's path begins with `{prefix}`: there are none";
        /// A new path that already is another's.
        Collision { one: String, other: String, path: String } = Usage,
            "`{one}` and `{other}` would both be called `{path}`";
        /// A path of which nothing would be left.
        NoPath { path: String } = Usage, "of the path `{path}`, nothing would be left";
        /// A name in which other components are between those of the path.
        Interrupted { path: String } = Unsupported, "is not spelled as its path, `{path}`, which cannot be renamed in it";
        /// A pattern of the configuration that no longer means the same modules.
        Pattern { field: &'static str, path: String } = Unsupported,
            "`{field}` would no longer give `{path}` what it gave it before, because of the new path";

        /// A configuration that gives a module another rank than its factors have.
        OtherRank { said: f64, rank: usize } = Config,
            "has rank {rank}, and the configuration says {said}, so its scale depends on who reads it";
        /// A module that is multiplied by zero.
        ZeroScale = Unsupported, "is multiplied by 0, which its factors would be too";
        /// Modules whose scale the files do not give one by one.
        NoScale = Unsupported, "is a factor of modules with different scales";
        /// A method whose factors are not multiplied.
        Expanded { method: &'static str } = Unsupported / MakePlain,
            "holds {method}, whose scale cannot be moved into its factors";
        /// An alpha that the format stores with fewer digits.
        Alpha { alpha: f64, stored: f32 } = Usage, "an alpha of {alpha} would be stored as {stored}";
        /// Values of a block type that would have to be multiplied.
        Blocks { dtype: DType } = Unsupported / GiveDtype,
            "is stored as {dtype}, in blocks that would be quantised a second time";
        /// A value that is too large for its dtype.
        TooLarge { value: f64, shape: Vec<usize>, element: u64, dtype: DType } = NonFinite / GiveDtype,
            "comes to {} {}, which {dtype} cannot hold", short(*value), place(shape, *element);
        /// A value that is too large for every dtype of factors.
        Beyond { value: f64, shape: Vec<usize>, element: u64 } = NonFinite,
            "comes to {} {}, which no dtype of factors can hold", short(*value), place(shape, *element);
        /// The configuration's text is not what it was read as.
        Text = Config, "is not a JSON object";
    }
}

/// A value of a tensor: with the digits of an f32, or a few.
fn short(value: f64) -> String {
    let narrow = value as f32;
    if narrow.is_finite() { format!("{narrow:e}") } else { format!("{value:.3e}") }
}

/// `3 tensors`, for reports.
pub(super) fn tensors(count: usize) -> String {
    one_or_many(count, "tensor")
}

/// `3 modules`, for reports.
pub(super) fn modules(count: usize) -> String {
    one_or_many(count, "module")
}
