//! Reasons why a key is left out or refused, whichever program it is of.

pub(super) const GPU: &str = "it is about GPUs and their memory";
pub(super) const LOADING: &str = "it is about how the other program loads models and rows";
pub(super) const KERNELS: &str =
    "it chooses kernels; here there is one set of them, with one order of every sum";
pub(super) const SERVICES: &str = "nothing is sent anywhere; metrics.jsonl has every step";
pub(super) const WHOLE: &str = "only factors of linears are trained";
pub(super) const TOKENS: &str = "the vocabulary stays as it is: no tokens are added or changed";
pub(super) const PREFERENCES: &str = "preferences and rewards are not trained, only answers";
