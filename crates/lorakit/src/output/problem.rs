//! What can be wrong with an adapter that is written.

use lorakit_tensor::{DType, problems};

problems! {
    /// What can be wrong with an adapter that is written.
    pub(crate) enum Problem {
        /// The format is not known, or only read.
        Format { name: String, known: Vec<&'static str> } = Usage / WrittenFormat,
            "cannot write the adapter format `{name}`; the known ones are {}", known.join(", ");

        /// Blocks are asked for in a format that has none.
        NoBlocks { dtype: DType, format: &'static str } = Usage / BlocksInGguf,
            "adapters of the format `{format}` are not stored as {dtype}, which is a type of GGUF files; they hold f32, f16 \
             or bf16";

        /// A module or tensor was not written.
        Lost = Verification, "is not in the output";
        /// A module was written that the input does not have.
        Added = Verification, "is in the output and changes the model, and is not in the input";
        /// The configuration names only some of the modules.
        Unnamed { count: usize, of: usize } = Verification,
            "is the first of {count} of {of} modules that the configuration does not name, so PEFT would load the adapter \
             without them";
        /// The configuration gives a module another rank.
        OtherRank { rank: usize, said: f64 } = Verification,
            "has rank {rank}, and the configuration that is written says {said}";
        /// Trained rows of embeddings were not written, or were written for other tokens.
        LostRows = Verification, "has token rows that are not in the output";
        /// A tensor was written with other values.
        OtherValues = Verification, "has other values in the output";
        /// A module became one of another kind.
        OtherKind = Verification, "is an embedding on one side only";
        /// A part of a module was not written, or was made up.
        OtherParts = Verification, "has magnitudes, a bias or a weight on one side only";
        /// A delta or another part of a module is further from what was meant than its dtype's rounding explains.
        OtherDelta { part: &'static str, error: f64, bound: f64 } = Verification,
            "was not written as it was meant: its {part} is off by {error:.1e}, and rounding explains {bound:.1e} at \
             most";
        /// Factors were written in another shape.
        OtherShape = Verification, "has factors of another shape in the output";
    }
}
