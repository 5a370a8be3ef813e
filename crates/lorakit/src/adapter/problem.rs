//! What can be wrong with an adapter, whatever its format.

use lorakit_tensor::problems;

use crate::error::one_or_many;

/// The configuration file next to the tensors: PEFT's, MLX's, torchtune's.
pub(crate) use crate::plan::ADAPTER_CONFIG as CONFIG;

problems! {
    /// What can be wrong with an adapter.
    pub(crate) enum Problem {
        /// A folder has a configuration, but no tensor file that goes with it.
        NoTensors = NoAdapter, "has no `adapter_model.safetensors` and no `adapter_model.bin`";
        /// A folder has more than one tensor file, and none has a known name.
        ManyTensorFiles { count: usize } = NoAdapter,
            "holds {count} tensor files, and no name says which is the adapter";
        /// A file is one part of an adapter, and the index of all parts is beside it.
        OnePart { parts: usize } = NoAdapter / NameInnerFolder, "is one of the {parts} parts of an adapter";
        /// A file is one part of an adapter, and there is no index.
        PartWithoutIndex { parts: usize } = NoAdapter / FetchShard,
            "is one of the {parts} parts of an adapter, and their index is not beside it";
        /// A folder holds parts of an adapter, and no index.
        PartsWithoutIndex { parts: usize } = NoAdapter / FetchShard,
            "holds {parts} parts of an adapter, and not their index";
        /// A folder or file is neither an adapter nor a model.
        NoConfiguration = NoAdapter, "holds no adapter: `{CONFIG}` is missing";
        /// A model is given where an adapter is expected.
        FullModel = WrongRole / NameAdapter,
            "is a full model (it has `config.json` and no `{CONFIG}`), not an adapter";

        /// The configuration is JSON, but not an object.
        NotAnObject = Config, "is not a JSON object";
        /// A field of the configuration has the wrong type, or is out of range.
        Field { name: &'static str, found: String, needed: &'static str } = Config,
            "`{name}` is {found}; it must be {needed}";
        /// The key of a pattern cannot be compiled.
        Pattern { field: &'static str, key: String } = Config,
            "`{field}` has the key `{key}`, which is not a regular expression";
        /// Matching the key of a pattern was given up.
        Hopeless { field: &'static str, key: String } = Config,
            "`{field}` has the key `{key}`, a regular expression which takes too long to match";

        /// A factor for modules without an expression or without a number.
        BlockWeight { text: String } = Usage, "`{text}` is not of the form REGEX=WEIGHT";
        /// A factor that is not a number.
        BlockNumber { weight: String } = Usage, "the weight `{weight}` is not a finite number";
        /// An expression that matches no module.
        Idle { pattern: String, modules: usize, nearest: String } = Unmatched / ListModules,
            "`{pattern}` matches none of the {modules} modules; the nearest is `{nearest}`";
        /// A factor for modules that are only taken whole.
        OnlyWhole { block: String } = Usage,
            "`{block}` reaches only tensors that replace those of the base, which have no strength: they are taken \
             whole (1) or left out (0)";
        /// Nothing of an adapter takes part.
        NothingLeft { modules: usize } = Unchanged / ListModules,
            "all of its {modules} modules are left out, so nothing of it would be in the output";

        /// Reading turned up one fault of a tensor; the text comes from the finding.
        Fault { message: String } = Damaged, "{message}";
        /// Reading turned up one tensor of another method; the text comes from the finding.
        Foreign { message: String } = Unmergeable, "{message}";
        /// A method other than LoRA.
        OtherMethod { method: String } = Unmergeable,
            "was trained with {method}, which is not among the methods that are understood";
        /// Weights that are multiplied, which factors cannot do.
        Multiplies { weights: usize, method: &'static str } = Inexpressible,
            "multiplies {} of the base ({method}) instead of adding to them, which only a merge can do",
            one_or_many(*weights, "weight");
        /// Reading turned up several faults.
        Faults { count: usize, tensors: usize } = Damaged, "{count} of its {tensors} tensors are faulty";
        /// Reading turned up several faults, the first of which is a tensor of another method.
        ForeignFaults { count: usize, tensors: usize } = Unmergeable, "{count} of its {tensors} tensors are faulty";
        /// Rows are in an order that only the base can undo; the text comes from the finding.
        RowOrder { message: String } = NeedsBase, "{message}";

        /// Two modules in memory have the same path.
        GivenTwice = Usage, "is given twice";
        /// The factors of a module in memory do not form a product.
        NotFactors { a: Vec<usize>, b: Vec<usize> } = Usage,
            "has A {a:?} and B {b:?}, which must be (r, in) and (out, r)";
        /// A tensor has more or fewer values than its rows and columns.
        NotAMatrix = File(Corrupt), "is not a matrix";
        /// Factors with values that nothing can be computed from.
        FactorValues { message: String } = NonFinite, "{message}";
        /// Factors that do not form a product, or products that have no sum.
        FactorShapes { message: String } = Shape / ExportAgain, "{message}";
        /// Factors whose singular values cannot be found.
        NoConvergence { message: String } = Unsupported, "{message}";
        /// LoHa or LoKr of so high a rank that its factors would be many times as large as the file.
        TooHigh { rank: usize, most: usize } = Unsupported,
            "is a LoRA of rank {rank} once it is multiplied out, and at most {most} are read";
        /// LoHa or LoKr stands for a matrix whose size is beyond `usize`.
        Uncountable = Shape, "stands for matrices that are too large to count";

        /// A fused module would have no parts.
        NoPart = Inexpressible, "has no adapted part";
        /// A part of a fused module replaces its weight.
        ReplacedPart { part: String } = Inexpressible, "would hold `{part}`, which replaces the base's weight";
        /// A part of a fused module differs in size from its layer.
        PartSize { rows: usize, cols: usize, needed_rows: usize, needed_cols: usize } = Shape,
            "changes {rows} x {cols} values, but must change {needed_rows} x {needed_cols}";
        /// Some parts of a fused module use DoRA, and others do not.
        PartialDora = Inexpressible, "has DoRA magnitudes for only some of its parts";
        /// A bias or magnitude does not have one value per row.
        VectorSize { values: u64, rows: usize } = Shape, "holds {values} values, but must hold {rows}";
        /// The parts of a split module have another number of rows in total.
        SplitRows { rows: usize, parts: usize, needed: usize } = Shape,
            "changes {rows} rows, but its {parts} parts have {needed}";
        /// A module that should be split replaces its weight.
        SplitWeight = Inexpressible, "replaces the base's weight, which would have to be split";
    }
}
