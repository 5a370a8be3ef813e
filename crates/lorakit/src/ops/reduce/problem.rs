//! What a reduction refuses.

use lorakit_tensor::problems;

use crate::error::one_or_many;
use crate::units::size;

problems! {
    /// What a reduction refuses.
    pub(crate) enum Problem {
        /// An adapter without low-rank factors.
        Nothing = Damaged, "holds no low-rank factors, so there is nothing to reduce";
        /// An adapter that holds other parts only.
        OnlyWhole { tensors: usize } = Inexpressible,
            "holds no low-rank factors, only {} that {} no rank to reduce",
            one_or_many(*tensors, "tensor"), if *tensors == 1 { "has" } else { "have" };
        /// A size of the output that even the lowest ranks exceed.
        Bytes { bytes: u64, least: u64 } = Usage / AllowLeastOrSmallerDtype,
            "does not fit into {}: rank 1 everywhere takes {least} B", size(*bytes);
        /// A budget that even the lowest ranks exceed.
        Budget { budget: u64, unit: String, least: u64 } = Usage / AllowLeast,
            "does not fit into {budget} {unit}: rank 1 everywhere takes {least} {unit}";
        /// Singular values that are not numbers.
        Spectrum { reason: String } = NonFinite, "{reason}";
    }
}
