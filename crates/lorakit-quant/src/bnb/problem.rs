//! What can be wrong with the description of a 4-bit weight.

use lorakit_tensor::problems;

use super::{BLOCK_SIZES, double_quant};

problems! {
    /// What can be wrong with the description of a 4-bit weight.
    pub(crate) enum Problem {
        /// It is JSON, but not an object.
        NotAnObject = Corrupt, "is not a JSON object";
        /// It has a key that bitsandbytes does not have.
        UnknownKey { key: String } = Corrupt,
            "has the key `{}`, which bitsandbytes does not write", key.escape_debug();
        /// A key that bitsandbytes needs is missing.
        NoKey { key: &'static str } = Corrupt, "has no `{key}`";
        /// A value is not a string.
        NotAString { key: &'static str } = Corrupt, "`{key}` is not a string";
        /// A value is not a size.
        NotASize { key: &'static str } = Corrupt, "`{key}` is not a whole number";
        /// The shape is not a list of sizes.
        NotAShape = Corrupt, "`shape` is not a list of whole numbers";
        /// A weight of that shape has more values than are possible.
        TooManyValues { shape: Vec<usize> } = Corrupt, "its shape {shape:?} has too many values";
        /// The mean of the scales is not a number.
        NotAnOffset = Corrupt, "`nested_offset` is not a number";

        /// Codes are of a type that bitsandbytes does not have.
        Type { name: String } = Unsupported, "is of the type `{}`; the known ones are nf4, fp4", name.escape_debug();
        /// Blocks are of a size that bitsandbytes does not have.
        BlockSize { values: usize } = Unsupported,
            "has blocks of {values} values; the known ones are {BLOCK_SIZES:?}";
        /// The weight was of a dtype that bitsandbytes does not quantise.
        Before { dtype: String } = Unsupported,
            "was `{}` before; the known types are bfloat16, float16, float32", dtype.escape_debug();
        /// Scales are not quantised as bitsandbytes does it.
        Scales { dtype: String, values: usize } = Unsupported,
            "its scales are {} in blocks of {values}; they must be float32 in blocks of {}",
            dtype.escape_debug(), double_quant::BLOCK;
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn messages_are_fragments_that_name_no_flag() {
        for problem in Problem::samples() {
            let text = problem.to_string();
            assert!(
                !text.is_empty() && !text.contains("--") && !text.ends_with('.'),
                "{problem:?}: {text:?}"
            );
        }
    }
}
