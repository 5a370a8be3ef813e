//! Settings that are one of a few words.

use super::field::{Field, Kind};
use super::value::Value;
use crate::data::{Format, TooLong, TrainOn};

/// Reads and writes a type that is one of a few words.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl Field for $name {
            const KIND: Kind = Kind::Choice(&[$($word),*]);

            fn read(value: &Value) -> Option<Self> {
                match value.as_text()? {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn write(&self) -> Value {
                Value::plain(match self { $(Self::$variant => $word),* })
            }
        }
    };
}

/// Declares a type that is one of a few words.
macro_rules! choices {
    ($($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),* $(,)? })*) => { $(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$doc])* $variant),* }

        words! { $name { $($variant = $word),* } }
    )* };
}

words! { TooLong { Truncate = "truncate", Drop = "drop", Error = "error", Split = "split" } }
words! { TrainOn { Auto = "auto", All = "all", LastTurn = "last-turn" } }

/// `auto`, and the names of formats.
const FORMATS: [&str; 1 + Format::ALL.len()] = {
    let mut names = ["auto"; 1 + Format::ALL.len()];
    let mut at = 0;
    while at < Format::ALL.len() {
        names[at + 1] = Format::ALL[at].name();
        at += 1;
    }
    names
};

impl Field for Format {
    const KIND: Kind = Kind::Choice(&FORMATS);
    const NONE: Option<&'static str> = Some(FORMATS[0]);

    fn read(value: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|format| value.as_text() == Some(format.name()))
    }

    fn write(&self) -> Value {
        Value::plain(self.name())
    }
}

choices! {
    /// How the frozen base is held in memory.
    pub enum Quant {
        /// GGUF and packed folders as they are, others in NF4.
        #[default]
        Auto = "auto",
        /// 4 bits, with a scale for each 64 weights.
        Nf4 = "nf4",
        /// As it is in its file.
        Keep = "keep",
        /// 32 bits.
        F32 = "f32",
        /// 16 bits, IEEE.
        F16 = "f16",
        /// 16 bits, Google's.
        Bf16 = "bf16",
    }

    /// The operands of products with the frozen base.
    pub enum ComputeChoice {
        /// bf16 on the processors of a list, where it is about twice as fast; else f32.
        #[default]
        Auto = "auto",
        /// f32.
        F32 = "f32",
        /// bf16.
        Bf16 = "bf16",
    }

    /// How the learning rate moves.
    pub enum Course {
        /// Up in the warm-up, then down along half a cosine.
        #[default]
        Cosine = "cosine",
        /// Up in the warm-up, then down in a straight line.
        Linear = "linear",
        /// The same in every step.
        Constant = "constant",
        /// Up in the warm-up, then the same.
        ConstantWithWarmup = "constant-with-warmup",
    }

    /// What is computed again in the backward pass, to save memory.
    pub enum RecomputeChoice {
        /// As little as fits into the memory.
        #[default]
        Auto = "auto",
        /// Nothing.
        Nothing = "nothing",
        /// Nothing; what is kept is rounded to bf16.
        Halves = "halves",
        /// As `halves`, and two products of the MLP.
        Mlp = "mlp",
        /// Whole layers.
        Layers = "layers",
    }

    /// Who else is told of a run, beside the terminal and `metrics.jsonl`.
    pub enum Report {
        /// Event files in `runs/`, which TensorBoard opens.
        #[default]
        TensorBoard = "tensorboard",
        /// A collector of OpenTelemetry.
        Otlp = "otlp",
    }

    /// How factors are written.
    pub enum Stored {
        /// As they are.
        #[default]
        F32 = "f32",
        /// Rounded to bf16. Checkpoints hold the f32 factors too.
        Bf16 = "bf16",
    }
}
