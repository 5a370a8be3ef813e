//! Rows of a file become tokens, and which of them are trained.
