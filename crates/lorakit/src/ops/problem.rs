//! What verbs refuse that nothing else refused before.

use std::path::PathBuf;

use lorakit_tensor::DType;
use lorakit_tensor::problems;

problems! {
    /// What verbs refuse.
    pub(crate) enum Problem {
        /// A weight that values computed in f32 cannot be multiplied by.
        Weight { adapter: PathBuf, weight: f64 } = Usage,
            "`{}` has the weight {weight:e}; a weight must be finite, and at most {:e}, the largest number of F32",
            adapter.display(), f32::MAX;
        /// A GGUF model would be written under another name.
        NotGgufName = Usage / NameGgufFile, "does not end in `.gguf`, and a GGUF model is a single file";
        /// A packed model would be written to what looks like a file.
        PackedFile { extension: String } = Usage / NameFolder,
            "names a `.{extension}` file, and a packed model is a folder";
        /// A Hugging Face model would be written to what looks like a file.
        HfFile { extension: String } = Usage / NameFolder,
            "names a `.{extension}` file, and a Hugging Face model is a folder";
        /// A merge would be written in a format that can only be read.
        MergedFile { extension: String } = Usage / NameFolder,
            "names a `.{extension}` file, and merges are written as safetensors or GGUF";
        /// A GGUF model should become one.
        GgufAlready = Usage / QuantizeInstead, "is a GGUF model already";
        /// A Hugging Face checkpoint should become one.
        HfAlready { format: &'static str } = Usage / NothingToConvert,
            "is a {format} checkpoint already; only GGUF models are converted to Hugging Face folders";
        /// A block type that cannot be decoded yet.
        NoDecoder { dtype: DType } = Unsupported, "is stored as {dtype}, for which there is no decoder yet";
        /// DoRA should be turned into LoRA, but there is none.
        NoDora = Usage / LeaveItOut, "does not use DoRA, so there is nothing to turn into LoRA";
        /// DoRA should be turned into LoRA without the base.
        DoraWithoutBase = NeedsBase,
            "uses DoRA, whose magnitudes mean nothing without the weights that they belong to";
        /// DoRA along columns, which has no nearest LoRA.
        DoraOverColumns = Inexpressible, "uses DoRA with norms over columns, which only a merge can follow";
        /// An adapter without any part.
        NothingToConvert = Damaged, "holds nothing to convert: no low-rank factors and no saved tensors";
        /// Another method's deltas, which as LoRA would be larger than the matrices.
        Inflated { method: &'static str } = Inexpressible / Approximate,
            "holds {method}, which is exact only as a LoRA of a higher rank than its matrix has";
        /// An option of an adapter that changes what its factors mean.
        NotAProduct { option: String } = Unmergeable,
            "uses `{option}`, so its delta is not the product of its factors";
        /// An initialisation that depends on ranks and scales, which would become others.
        Repeated { init: String } = MutatedBase,
            "was initialised with `{init}`, which PEFT repeats with its rank and scale whenever it loads the adapter: with \
             other factors, it would take something else out of the base than was taken out before training";
        /// Parts of an adapter that are more than a product.
        NotProducts { count: usize, total: usize } = Unsupported / MergeOrNearestLora,
            "{count} of {total} parts of the adapter are not products of factors on whole weights, and only these are \
             trained";
        /// A tensor with another number of dimensions.
        NotAMatrix = File(Corrupt), "is not a matrix";
        /// A folder without a file.
        EmptyFolder = NoAdapter / NameEither, "is an empty folder";
        /// A folder with files of other kinds.
        NeitherKind = NoAdapter / NameEither, "holds neither an adapter nor a model";
        /// A runtime was asked about a model.
        RuntimeForModel { runtime: &'static str } = NoAdapter,
            "is not an adapter; whether {runtime} loads it can only be said of adapters";
        /// An adapter should be compared with a model.
        TwoKinds { model: PathBuf } = WrongRole / CompareTwoOfAKind,
            "is an adapter and `{}` is a model; only two of a kind can be compared", model.display();
        /// The base of a comparison shares no tensor with what is compared.
        OtherBase { shared: usize, name: String, here: String, there: String } = Unmatched,
            "has none of the {shared} tensors that A and B have in common, by name and shape: `{name}` {here}, and is \
             {there} in A; it must be the model that both come from";
        /// A tensor of a merge's plan that is given, not computed.
        NotASum = Unsupported, "is not a sum";
        /// Rows that the blocks of the merged model's dtype do not fill.
        RowsNotFilled { columns: usize, dtype: DType } = Shape,
            "has rows of {columns} values, which blocks of {dtype} do not fill";
    }
}

problems! {
    /// Why a part of an adapter is no product on a whole weight: a line among the details of a [`Problem`].
    pub(crate) enum Foreign {
        /// Magnitudes.
        Dora = Unsupported, "uses DoRA";
        /// An initialisation that is taken out of the base first.
        Initial = Unsupported, "was initialised with a part of the weight";
        /// A part of a weight, or several products on it.
        Part { weight: String } = Unsupported, "changes a part of `{weight}`";
        /// A second module for the same weight.
        Second { weight: String } = Unsupported, "changes `{weight}`, which another part changes too";
        /// A parameter that is saved whole.
        Whole = Unsupported, "is saved whole";
        /// A weight that is multiplied.
        Multiplied = Unsupported, "multiplies its weight";
        /// Token rows.
        TokenRows = Unsupported, "replaces rows of tokens";
    }
}
