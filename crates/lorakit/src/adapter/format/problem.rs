//! What can go wrong when an adapter is read or written in one of the formats.

use lorakit_tensor::problems;

use crate::error::one_or_many;

problems! {
    /// Problems that formats have in common, and those of formats without a separate enum.
    pub(crate) enum Problem {
        /// Names in one file belong to two formats.
        MixedFormats { name: String, format: &'static str, other_name: String, other_format: &'static str } = Damaged,
            "mixes formats: `{name}` is spelled as in {format} files, `{other_name}` as in {other_format} files";
        /// An adapter should be written in a format that has no writer.
        OnlyRead { format: &'static str } = Unsupported, "cannot be written in {format}'s format, which is only read";
        /// An adapter should be written in XLabs' format.
        XlabsOnlyRead = Unsupported, "is a format that is only read";
        /// A configuration lacks the values that make the scale.
        NoScale = Config, "has no `r` and `lora_alpha`, which say what the factors are multiplied by";
        /// The header entry of diffusers holds something else.
        HeaderEntry = Config, "is not a JSON object";

        /// The format has no field for parts of the adapter.
        Placeless { count: usize, format: &'static str } = Inexpressible,
            "holds {} that {format} cannot store", one_or_many(*count, "part");
        /// The same, and some of them are weights that replace the base's.
        PlacelessWeights { count: usize, format: &'static str } = Inexpressible / NameBaseForCopies,
            "holds {} that {format} cannot store", one_or_many(*count, "part");
        /// The same, and some of them are magnitudes of DoRA.
        PlacelessMagnitudes { count: usize, format: &'static str } = Inexpressible / MergeOrNearestLora,
            "holds {} that {format} cannot store", one_or_many(*count, "part");

        /// A folder would be written, but the output has the name of a tensor file.
        FolderNeeded { extension: String } = Usage / NameFolderOrFormat,
            "names a `.{extension}` file, and this format is a folder";
        /// A GGUF file would be written, but the output is not named like one.
        GgufNeeded = Usage / NameGgufFile, "does not end in `.gguf`, and this format is a single file";
        /// A safetensors file would be written, but the output is not named like one.
        SafetensorsNeeded = Usage / NameSafetensorsFile,
            "does not end in `.safetensors`, and this format is a single file";

        /// Halves of rows must be exchanged, but the number of rows is odd.
        NoHalves { rows: usize } = Shape, "has {rows} output rows, which have no halves";
        /// A full delta of a layer that is several in diffusers does not divide into them.
        NoShares { rows: usize, shares: usize } = Shape, "has {rows} rows, which do not divide into {shares} shares";
        /// None of the modules is a layer of a known diffusion model.
        UnknownModel { known: Vec<&'static str> } = Unsupported,
            "holds modules of no known model; known models are {}", known.join(", ");
        /// Some modules are not layers of the diffusion model that has most of them.
        UnknownLayers { model: &'static str, found: usize, modules: usize } = Unsupported,
            "holds modules that are not layers of {model}, to which {found} of {modules} modules belong";
        /// As `UnknownModel`, while making kohya's names.
        UnnamedModel { known: Vec<&'static str> } = Inexpressible,
            "holds modules of no known model; known models are {}; kohya's names are made from a list of a diffusion \
             model's layers",
            known.join(", ");
        /// As `UnknownLayers`, while making kohya's names.
        UnnamedLayers { model: &'static str, found: usize, modules: usize } = Inexpressible,
            "holds modules that are not layers of {model}, to which {found} of {modules} modules belong; \
             kohya's names are made from a list of a diffusion model's layers";
        /// Models that share paths of diffusers differ in the names to be written, and nothing tells which is meant.
        Alike { models: Vec<&'static str> } = Inexpressible,
            "holds modules that are layers of {}, whose names in kohya's format differ; nothing tells which is meant",
            models.join(" and of ");
        /// Modules without a component's name are not in any list of layers.
        NoPipeline = Inexpressible, "holds modules that are not known to belong to a diffusion pipeline";
        /// Two modules belong to the same layer of a diffusion model.
        Twice = Damaged, "appears twice, with and without the name of its network in front";

        /// Only some modules use DoRA.
        PartialDora { count: usize, modules: usize } = Inexpressible,
            "has DoRA magnitudes in {count} of {modules} modules; in PEFT all modules have them or none";
        /// A configuration must be made for packed experts.
        PackedRank = Inexpressible,
            "stands for all experts of a layer, but the configuration does not give its rank";
    }
}
