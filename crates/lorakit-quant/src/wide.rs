//! One source, several vector widths.

/// Compiles a function once for each vector width and picks the widest that the processor has, on first use.
///
/// The versions differ in speed only: the compiler neither fuses nor reorders `f32` operations. Functions that it calls
/// must be `#[inline(always)]`, or they are compiled for the narrowest width alone.
macro_rules! wide {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block) => {
        #[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
        $(#[$meta])*
        fn $name($($arg: $type),*) $(-> $out)? $body
    };
}
