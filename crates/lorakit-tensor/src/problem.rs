//! What can go wrong, declared room by room: one enum each, whose variants know their kind and their text.
//!
//! Shared by the crates of this workspace; not part of the public interface.

use std::path::PathBuf;

use crate::DType;
pub use crate::error::{Hint, Problem};

/// Declares the enum of a room: for each variant its meaning, fields, kind and text.
///
/// ```text
/// problems! {
///     /// What can be wrong with a recipe.
///     pub(crate) enum Problem {
///         /// It has too many steps.
///         Long { steps: usize, limit: usize } = Limit, "has {steps} steps, at most {limit} are read";
///         /// It needs an oven.
///         Cold = Unsupported / Oven, "needs an oven";
///         Lists { known: Vec<String> } = Usage, "must be one of {}", known.join(", ");
///     }
/// }
/// ```
///
/// After `=` comes a variant of the crate's `ErrorKind` (in `lorakit` also `File(Corrupt)`, one of this crate's); after
/// `/` one of its `Hint`, if the kind alone does not decide what to do; then a format string and its arguments, as for
/// `format!`. The crate's trait `error::Problem` is implemented, and in tests `samples()` gives every variant once.
#[doc(hidden)]
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "each crate has its own kinds, hints and trait")]
macro_rules! problems {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident {
            $(
                $(#[$doc:meta])*
                $variant:ident $({ $($field:ident: $type:ty),* $(,)? })? = $kind:ident $(($file:ident))? $(/ $hint:ident)?,
                $text:literal $(, $argument:expr)* ;
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        $vis enum $name {
            $( $(#[$doc])* $variant $({ $($field: $type),* })?, )*
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self {
                    $( Self::$variant $({ $($field),* })? => {
                        $( $(let _ = $field;)* )?
                        ::std::write!(f, $text $(, $argument)*)
                    } )*
                }
            }
        }

        impl crate::error::Problem for $name {
            fn kind(&self) -> crate::error::ErrorKind {
                match self {
                    $( Self::$variant $({ $($field: _),* })? =>
                        crate::error::ErrorKind::$kind $((::lorakit_tensor::ErrorKind::$file))?, )*
                }
            }

            fn hint(&self) -> ::std::option::Option<crate::error::Hint> {
                match self {
                    $( Self::$variant $({ $($field: _),* })? => $crate::problems!(@hint $($hint)?), )*
                }
            }
        }

        #[cfg(test)]
        impl $name {
            /// Every variant, with something in each field.
            pub(crate) fn samples() -> ::std::vec::Vec<Self> {
                ::std::vec![
                    $( Self::$variant $({
                        $($field: $crate::problem::Sample::sample(::std::stringify!($field))),*
                    })? ),*
                ]
            }
        }
    };
    (@hint) => { ::std::option::Option::None };
    (@hint $hint:ident) => { ::std::option::Option::Some(crate::error::Hint::$hint) };
}

/// The beginning of a text that may be long, for messages.
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// Something to put in a field, so that tests can print every message.
pub trait Sample {
    /// A value for the field called `name`.
    fn sample(name: &str) -> Self;
}

impl Sample for String {
    fn sample(name: &str) -> Self {
        format!("<{name}>")
    }
}

impl Sample for &'static str {
    fn sample(_: &str) -> Self {
        "<word>"
    }
}

impl Sample for PathBuf {
    fn sample(name: &str) -> Self {
        format!("<{name}>").into()
    }
}

impl Sample for bool {
    fn sample(_: &str) -> Self {
        true
    }
}

impl Sample for char {
    fn sample(_: &str) -> Self {
        'x'
    }
}

impl Sample for DType {
    fn sample(_: &str) -> Self {
        DType::F16
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(name: &str) -> Self {
        vec![T::sample(name), T::sample(name)]
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(name: &str) -> Self {
        Some(T::sample(name))
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $( impl Sample for $number {
            fn sample(_: &str) -> Self {
                12 as $number
            }
        } )*
    };
}

numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, isize, f32, f64);

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(excerpt(&"é".repeat(60)), "é".repeat(60));
        assert_eq!(excerpt(&"é".repeat(61)), "é".repeat(60) + "...");
    }
}
