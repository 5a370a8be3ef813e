//! A language model, forward and backward.
