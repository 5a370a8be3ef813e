//! Runs: steps, checkpoints, validation.
