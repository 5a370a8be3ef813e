//! Which program a configuration is for.

use super::draft::{Draft, Rule};
use super::{axolotl, llama_factory, transformers};
use crate::Result;
use crate::settings::problem::Problem;
use crate::settings::yaml::Member;

/// A program whose configurations are read.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Each of these lists has a key that a configuration of it must have.
    pub(super) required: &'static [&'static [&'static str]],
    /// What each of its own keys means here.
    pub(super) keys: &'static [(&'static str, Rule)],
    /// Takes over what keys say that belong together.
    pub(super) read: fn(&mut Draft),
}

impl Program {
    /// What each of its keys means here, those of transformers too.
    pub(super) fn rules(&self) -> Vec<(&'static str, Rule)> {
        [self.keys, transformers::KEYS].concat()
    }
}

const PROGRAMS: [&Program; 2] = [&axolotl::PROGRAM, &llama_factory::PROGRAM];

/// The program of a configuration.
///
/// # Errors
/// If it lacks what the configurations of each must have, or has what those of several have.
pub(super) fn of(members: &[Member]) -> Result<&'static Program> {
    let has = |key: &&str| members.iter().any(|member| member.key == *key);
    let fits = |program: &&&Program| program.required.iter().all(|some| some.iter().any(&has));
    let fitting: Vec<&'static Program> = PROGRAMS.iter().filter(fits).copied().collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => {
            let words =
                |some: &&[&str]| some.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ");
            let needs = |program: &&Program| {
                let keys: Vec<String> = program.required.iter().map(&words).collect();
                format!("one of {} has {}", program.name, keys.join(" and "))
            };
            Err(Problem::NoProgram { known: PROGRAMS.iter().map(needs).collect() }.into())
        }
        several => {
            let names = several.iter().map(|program| program.name).collect();
            Err(Problem::SeveralPrograms { names }.into())
        }
    }
}
