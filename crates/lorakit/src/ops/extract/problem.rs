//! What an extraction refuses.

use lorakit_tensor::problems;

use crate::error::one_or_many;

problems! {
    /// What an extraction refuses.
    pub(crate) enum Problem {
        /// Two models that are the same.
        Same = Unchanged / NameTuned, "is identical to the base, so there is nothing to extract";
        /// Changes that are all to be left out.
        NothingWanted { tensors: usize } = Unchanged,
            "differs from the base in {}, all of which are left out", counted(*tensors, "tensor");
        /// Changes that rounding explains.
        OnlyRounding { tensors: usize } = Unchanged,
            "differs from the base in {}, in none by more than rounding leaves; a fixed rank extracts them all the same",
            counted(*tensors, "tensor");
        /// Tensors that only the base has.
        Lacking { tensors: usize } = Unmatched,
            "lacks {} of the base; both models must have the same names",
            one_or_many(*tensors, "tensor");
        /// Tensors of another shape.
        Reshaped { tensors: usize } = Shape,
            "holds {} of another shape than the base",
            one_or_many(*tensors, "tensor");
        /// A difference whose square is infinite.
        TooFar = NonFinite, "differs from the base by more than f64 can square";
        /// A part that a merge would put elsewhere.
        NotPutBack = Verification, "was taken apart, and a merge would not put it together again";
    }
}

/// `1 module`, `2 modules`.
pub(super) fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
