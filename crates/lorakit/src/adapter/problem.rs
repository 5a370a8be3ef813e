//! What can be wrong with an adapter, whatever its format.

use lorakit_tensor::problems;

/// The configuration beside the tensors: PEFT's, MLX's, torchtune's.
pub(crate) const CONFIG: &str = "adapter_config.json";

problems! {
    /// What can be wrong with an adapter.
    pub(crate) enum Problem {
        /// A folder has a configuration and none of the tensor files that go with one.
        NoTensors = NoAdapter, "has no `adapter_model.safetensors` and no `adapter_model.bin`";
        /// A folder has more than one tensor file, and none has a known name.
        ManyTensorFiles { count: usize } = NoAdapter,
            "holds {count} tensor files, and no name says which is the adapter";
        /// A folder or file is neither an adapter nor a model.
        NoConfiguration = NoAdapter, "holds no adapter: `{CONFIG}` is missing";
        /// A model stands where an adapter should.
        FullModel = WrongRole / NameAdapter,
            "is a full model (it has `config.json` and no `{CONFIG}`), not an adapter";

        /// The configuration is JSON and not an object.
        NotAnObject = Config, "is not a JSON object";
        /// A field of the configuration has another type, or is out of range.
        Field { name: &'static str, found: String, needed: &'static str } = Config,
            "`{name}` is {found}; it must be {needed}";
        /// A key of a pattern cannot be compiled.
        Pattern { field: &'static str, key: String } = Config,
            "`{field}` has the key `{key}`, which is not a regular expression";

        /// Reading turned up one fault of a tensor: the finding has the words.
        Fault { message: String } = Damaged, "{message}";
        /// Reading turned up one tensor of another method: the finding has the words.
        Foreign { message: String } = Unmergeable, "{message}";
        /// Reading turned up several faults.
        Faults { count: usize, tensors: usize } = Damaged, "{count} of its {tensors} tensors are faulty";
        /// Reading turned up several faults, the first of which is a tensor of another method.
        ForeignFaults { count: usize, tensors: usize } = Unmergeable, "{count} of its {tensors} tensors are faulty";
        /// Rows are in an order that only the base can undo: the finding has the words.
        RowOrder { message: String } = NeedsBase, "{message}";

        /// Two modules in memory have one path.
        GivenTwice = Usage, "is given twice";
        /// The factors of a module in memory are not those of a product.
        NotFactors { a: Vec<usize>, b: Vec<usize> } = Usage,
            "has A {a:?} and B {b:?}, which must be (r, in) and (out, r)";
        /// A tensor has more or fewer values than its rows and columns.
        NotAMatrix = File(Corrupt), "is not a matrix";
        /// A decomposition failed: `lorakit-linalg` has the words.
        Decomposition { message: String } = NonFinite, "{message}";
        /// LoHa or LoKr stands for a matrix whose size is beyond `usize`.
        Uncountable = Shape, "stands for matrices that are too large to count";

        /// A fused module is to be made of no module.
        NoPart = Inexpressible, "has no adapted part";
        /// A part of a fused module comes with a weight of its own.
        ReplacedPart { part: String } = Inexpressible, "would hold `{part}`, which replaces the base's weight";
        /// A part of a fused module is of another size than the layer.
        PartSize { rows: usize, cols: usize, needed_rows: usize, needed_cols: usize } = Shape,
            "changes {rows} x {cols} values, but must change {needed_rows} x {needed_cols}";
        /// DoRA in some parts of a fused module, and not in others.
        PartialDora = Inexpressible, "has DoRA magnitudes for only some of its parts";
        /// A bias or magnitude has not one value for each row.
        VectorSize { values: u64, rows: usize } = Shape, "holds {values} values, but must hold {rows}";
        /// The parts that a module is split into have other rows in total.
        SplitRows { rows: usize, parts: usize, needed: usize } = Shape,
            "changes {rows} rows, but its {parts} parts have {needed}";
        /// A module that is to be split comes with a weight of its own.
        SplitWeight = Inexpressible, "replaces the base's weight, which would have to be split";
    }
}
