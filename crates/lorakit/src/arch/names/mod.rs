//! What names of modules and tensors mean in any family: the only table of them.
//!
//! | question | file |
//! |---|---|
//! | is it an embedding or a head, and what is the other one called | `ends.rs` |
//! | which parameters of which class are one tensor | `ties.rs` |
//! | which prefixes do wrappers add, what did versions of transformers rename | `spelling.rs` |
//! | how are experts named: stacks, single experts, gate, up and down | `experts.rs` |
//! | which tensors follow from the configuration | `buffers.rs` |
//! | which families store weights as `(in, out)` | `layout.rs` |
//! | which names of two lists mean the same thing | `pairs.rs` |
//! | which names does a user's pattern match | `pattern.rs` |

mod buffers;
mod ends;
mod experts;
mod layout;
mod pairs;
mod path;
mod pattern;
mod spelling;
mod ties;

pub(crate) use buffers::is_buffer;
pub(crate) use ends::{HEAD, head_of, is_embedding, is_head, is_other_embedding, is_tied_on_request};
pub(crate) use experts::{
    Projection, ROUTER, STACKS, as_parameter, expert_of, holds_experts, is_experts, listed, place_in_class,
    projection, single_names, single_words, stack_in, stack_of, stacks_of, usual_name,
};
pub(crate) use layout::{
    is_attention_output, is_stored_transposed, is_transposed_in_peft, stacks_transposed, usual_order,
};
pub(crate) use pairs::pairs;
pub(crate) use path::{after_dots, ends, ends_in, last, module_of};
pub use pattern::NamePattern;
pub(crate) use spelling::{
    bare, is_in_language_model, meaning, names_another_part, renamed_component, unwrapped,
};
pub(crate) use ties::{Tie, Ties, is_output, only_hands_on, respelt, ties, ties_always, ties_by_default};
