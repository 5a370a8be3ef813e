//! What people type because other programs have it, and what the command tells about itself.

mod about;
mod completions;
mod hub;
mod lines;
mod man;
mod variables;
