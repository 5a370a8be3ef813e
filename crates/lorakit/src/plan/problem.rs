//! What can be wrong with a plan, and with running it.

use lorakit_tensor::{DType, problems};

use crate::tensor::place;

problems! {
    /// What can be wrong with a plan, and with running it.
    pub(crate) enum Problem {
        /// Two tensors of the output have the same name.
        Twice = Conflict, "would be written twice";
        /// The output would be taken for a part of a model.
        PartOfName { index: usize, count: usize } = Usage / AnotherName,
            "is the name of part {index} of {count} of a GGUF model, and the output is one whole file: nothing would read it \
             by that name";
        /// The tensors do not fit into the one file that is asked for.
        Shards { count: usize } = Usage / OneFile, "needs {count} shards, but the output is a single file";
        /// The output is larger than the free space.
        NoSpace { needed: u64, free: u64 } = File(NoSpace),
            "needs {needed} bytes, and the file system has {free} free";
        /// A tensor is asked for in a dtype that is not written.
        NoEncoder { dtype: DType } = Unsupported, "cannot be written as {dtype}: there is no encoder for it";
        /// Values of a copied tensor should be checked, but cannot be.
        Unchecked { dtype: DType } = Unsupported, "is copied as {dtype}, whose values cannot be checked";

        /// A tensor that is given as bytes would have to be rearranged.
        Bytes = Unsupported, "is given as bytes, which cannot be rearranged";
        /// A stack is made of nothing.
        EmptyStack = File(Corrupt), "would be a stack of no tensors";
        /// Tensors of a stack differ in shape.
        StackShape { shape: Vec<usize>, first: String, first_shape: Vec<usize> } = File(Corrupt),
            "has the shape {shape:?}, `{first}` {first_shape:?}";
        /// An expert that DoRA changes would have to be stacked.
        StackedDora = Unsupported, "is changed by DoRA, which cannot follow it into a stack of experts";
        /// Factors would have to move into a stack of experts.
        StackedFactors = Unsupported,
            "is multiplied by factors, which cannot follow it into a stack of experts";
        /// A tensor that is changed as one matrix is stored as another.
        OtherMatrix { rows: usize, cols: usize, stored_rows: usize, stored_cols: usize } = Unsupported,
            "is changed as a matrix of {rows} x {cols} values, and is stored as {stored_rows} x {stored_cols} in the \
             output's format";
        /// Rows that DoRA needs for its norms are dropped.
        DroppedRows = Unsupported,
            "is changed by DoRA with norms over columns, of which the output's format drops values";

        /// The columns that an initialisation began with do not tell what it took out of a weight.
        DependentColumns { rank: usize, column: usize, share: f64 } = Unmergeable,
            "has a column {column} that all but depends on those before it ({share:.0e} of it is its own): what OLoRA's \
             initialisation takes out by the first {rank} columns is then decided by the rounding of PEFT's QR \
             decomposition";
        /// Columns of which no basis is found.
        NoBasis { reason: String } = NonFinite,
            "has first columns that cannot be decomposed, as OLoRA's initialisation does: {reason}";
        /// The parts of a weight that an initialisation changed are apart in the output.
        ScatteredInitial = Unsupported,
            "is one weight to OLoRA's initialisation, and in the output's format its rows are not together";

        /// The deltas make a value infinite or NaN.
        LargeDeltas { value: f32, shape: Vec<usize>, element: u64 } = NonFinite / LowerWeights,
            "comes to {value} {} when the deltas are added, which are too large for it", place(shape, *element);
        /// A factor makes a value infinite.
        LargeFactor { value: f32, shape: Vec<usize>, element: u64, factor: f64 } = NonFinite,
            "comes to {value} {} when it is multiplied by {factor}", place(shape, *element);
        /// A value of the input is beyond the range of the stored type.
        LargeValue { value: f32, shape: Vec<usize>, element: u64, stored_as: String } = NonFinite,
            "holds {value:e} {}, which {stored_as} cannot hold", place(shape, *element);
        /// A value of the sum is beyond the range of the stored type.
        LargeSum { value: f32, shape: Vec<usize>, element: u64, stored_as: String } = NonFinite,
            "comes to {value:e} {}, which {stored_as} cannot hold", place(shape, *element);
        /// Every value is below the smallest of the stored type.
        Vanishes { stored_as: String } = Unsupported,
            "would be all zeros: its values are below the smallest that {stored_as} can hold; BF16 and F32 hold them";
        /// Every importance is zero, so that every value is as good as another.
        Unweighted { stored_as: String } = Imatrix / OtherImportances,
            "would be all zeros: all of its importances are zero, so no value matters to {stored_as}";
        /// Given bytes hold a NaN or an infinity.
        GivenNonFinite { dtype: DType } = NonFinite, "would hold NaN or infinity ({dtype})";

        /// The threads cannot be started.
        Threads { count: usize, reason: String } = Unsupported, "cannot start {count} threads: {reason}";
        /// The caller asked to stop before the end of a step.
        Stopped { before: &'static str } = Interrupted, "stopped before {before}";
        /// The caller asked to stop while tensors are written.
        Interrupted = Interrupted, "interrupted";
        /// The staged output does not hold as many tensors as planned.
        Reread { found: usize, planned: usize } = Damaged, "holds {found} tensors after writing {planned}";
    }
}
