//! What can be wrong with the values of tensors, and with views of them.

use lorakit_tensor::{DType, problems};

problems! {
    /// What can be wrong with the values of tensors, and with views of them.
    pub(crate) enum Problem {
        /// A stored value is NaN or infinite.
        Stored { value: f32, shape: Vec<usize>, element: u64, dtype: DType } = NonFinite,
            "holds {value} {} ({dtype})", place(shape, *element);
        /// A value that a view computes is NaN or infinite.
        Decoded { value: f32, shape: Vec<usize>, element: u64, dtype: DType } = NonFinite,
            "decodes to {value} {} ({dtype})", place(shape, *element);
        /// A stored number is beyond those of F32.
        Wide { value: f64, shape: Vec<usize>, element: u64, dtype: DType } = NonFinite,
            "holds {value:e} {} ({dtype}), and values are computed as F32", place(shape, *element);
        /// A computed value is NaN or infinite.
        Computed { value: f32, shape: Vec<usize>, element: u64 } = NonFinite / LowerWeights,
            "comes to {value} {} when it is computed", place(shape, *element);
        /// A computed value is beyond those of its dtype.
        Beyond { value: f32, shape: Vec<usize>, element: u64, dtype: DType } = NonFinite,
            "comes to {value:e} {}, which {dtype} cannot hold", place(shape, *element);

        /// Values in memory are too few or too many for their shape.
        Unfilled { values: usize, shape: Vec<usize> } = Usage,
            "is given {values} values, which do not fill the shape {shape:?}";
        /// The stored values are of a dtype that is not read.
        NoDecoder { dtype: DType } = Unsupported, "is stored as {dtype}, which cannot be decoded to numbers";
        /// Values are asked for in a dtype that does not hold them one by one.
        NoSingleValues { dtype: DType } = Unsupported, "cannot be computed as {dtype}; F32, F16 and BF16 can";

        /// Rows are gathered from no tensor at all.
        NoRows = File(Corrupt), "would have no rows";
        /// Rows of different dtypes are gathered.
        RowTypes { dtype: DType, others: DType } = Unsupported,
            "is {dtype}, and is stacked with tensors of {others}";
        /// Gathered rows end within a block.
        PartOfBlock { cols: usize, dtype: DType } = Unsupported,
            "has rows of {cols} values, which are not whole blocks of {dtype}";
        /// A constant should be written.
        Constant = File(Corrupt), "is a constant, which is not part of any file";
        /// A tensor is put together from nothing.
        NoValues = File(Corrupt), "would have no values";
        /// Values of different dtypes, or of blocks, are put together.
        ValueTypes { dtype: DType, others: DType } = Unsupported,
            "is stored as {dtype}, and its values would have to be moved together with {others} values";
    }
}

/// Where value `element` of a tensor is, for messages: `at row 3, column 7`.
pub(crate) fn place(shape: &[usize], element: u64) -> String {
    let mut rest = element;
    let mut indices: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&size| {
            let index = rest % size.max(1) as u64;
            rest /= size.max(1) as u64;
            index
        })
        .collect();
    indices.reverse();
    match indices.as_slice() {
        [row, col] => format!("at row {row}, column {col}"),
        [] | [_] => format!("at index {element}"),
        many => format!("at {many:?}"),
    }
}
