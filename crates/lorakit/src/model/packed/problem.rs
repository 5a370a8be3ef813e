//! What can be wrong with packed weights, or with packing them.

use lorakit_tensor::{DType, problems};

problems! {
    /// What can be wrong with packed weights, or with packing them.
    pub(crate) enum Problem {
        /// The weights are quantised by a scheme that cannot be decoded.
        Scheme {
            scheme: &'static str,
            tensor: String,
            dtype: DType,
            beside: Vec<&'static str>,
            method: Option<&'static str>,
        } = Unsupported / OriginalModel,
            "is quantised by {scheme}, whose weights cannot be decoded: `{tensor}` is {dtype}{}{}",
            beside_it(beside), method.map_or_else(String::new, |m| format!(", and `quant_method` is {m}"));
        /// Codes are in an order that only the GPU knows.
        Rearranged = File(Unsupported),
            "says that rows and columns are rearranged for a GPU, which only that GPU undoes";

        /// A tensor that belongs to another is missing.
        MissingPart { name: String } = File(Corrupt), "needs `{name}`, which is missing";
        /// A tensor that belongs to another has the wrong dtype or size.
        Values { dtype: DType, count: u64, needed: u64, as_dtype: DType } = File(Corrupt),
            "is {dtype} with {count} values; it must hold {needed} values of {as_dtype}";
        /// A description is longer than any valid one.
        LongDescription = File(Corrupt), "is too long for a description of a weight";
        /// There is not half a byte per value.
        CodeBytes { bytes: u64, needed: u64, shape: Vec<usize> } = File(Corrupt),
            "has {bytes} bytes, but {shape:?} 4-bit codes take {needed}";
        /// The table of codes is not that of the type.
        Table { kind: &'static str } = File(Corrupt), "is not the table of {kind}";
        /// 8-bit codes are not a matrix.
        NoMatrix { shape: Vec<usize> } = File(Corrupt), "has the shape {shape:?}; it must be a matrix";
        /// 8-bit codes have another dtype.
        CodeType { dtype: DType } = File(Corrupt), "is {dtype}; it must be I8, because it has scales (`SCB`)";
        /// Scales have a dtype that is not used for scales.
        ScaleType { dtype: DType } = File(Corrupt), "is {dtype}, which cannot hold scales";
        /// The shape of the scales does not match the weights.
        ScaleShape { shape: Vec<usize>, weights: Vec<usize> } = File(Corrupt),
            "has the shape {shape:?}, which does not fit weights {weights:?}";
        /// Two descriptions belong to the same weight.
        DescribedTwice = File(Corrupt), "is described twice, in different ways";
        /// A weight is stored both packed and unpacked.
        StoredTwice = File(Corrupt), "is stored twice: as it is, and packed";

        /// Values are stored in a dtype that cannot be read.
        NoDecoder { dtype: DType } = File(Unsupported), "is stored as {dtype}, which cannot be decoded";
        /// Weights should be shown in a dtype that cannot be written.
        NoEncoder { dtype: DType } = File(Unsupported), "cannot be seen as {dtype}: there is no encoder for it";

        /// There is no writer for a packing.
        NotWritten { packing: &'static str } = Unsupported, "cannot be written as {packing}";
        /// Layers are stored as `(in, out)`.
        Transposed { packing: &'static str } = Unsupported,
            "stores its layers transposed, which is not supported for {packing}";
        /// Only gpt-oss is read with its experts as MXFP4.
        Mxfp4Family { family: String } = Unsupported / OtherFourBit,
            "is of the family `{family}`; only gpt-oss stores its stacked experts as MXFP4";
        /// The model has no experts that could be packed.
        NoExperts { stack: &'static str } = Unsupported / OtherFourBit,
            "has no stacked experts (`*.experts.{stack}`); only those become MXFP4";
        /// Experts are given as bytes.
        Bytes = Unsupported, "is given as bytes, which cannot be packed";
        /// Experts are not stacked as gpt-oss stacks them.
        ExpertShape { shape: Vec<usize> } = Unsupported, "has the shape {shape:?}; it must be [experts, in, out]";
        /// The columns of an expert end within a group.
        Groups { values: usize, group: usize } = Unsupported / OtherFourBit,
            "has columns of {values} values, which do not divide into MXFP4 groups of {group}";
    }
}

/// The tensors by which a scheme is recognised, besides the first.
fn beside_it(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!(" beside {}", names.join(" and ")) }
}
