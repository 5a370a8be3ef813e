//! A file of settings: YAML as values with their lines.
//!
//! A library reads it, event by event, so an alias is never followed and nothing can grow.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::problem::Problem;
use super::value::Value;
use crate::{Error, Result};

/// The most bytes that are read.
const MAX_BYTES: usize = 1 << 20;
/// How deep lists and maps may lie in each other.
const MAX_DEPTH: usize = 16;

/// A key of a map, its value, and the line in which the key stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) value: Tree,
}

/// A value of a file; the members of a map are kept with their lines.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// A map.
    Map(Vec<Member>),
    /// Anything else.
    Other(Value),
}

impl From<Tree> for Value {
    fn from(tree: Tree) -> Self {
        match tree {
            Tree::Map(members) => {
                Self::Map(members.into_iter().map(|member| (member.key, member.value.into())).collect())
            }
            Tree::Other(value) => value,
        }
    }
}

/// The members of the map that a file is; an empty file has none.
///
/// # Errors
/// If it is not one map in YAML, or a key stands twice in a map.
pub(super) fn read(yaml: &str) -> Result<Vec<Member>> {
    match document(yaml)? {
        None => Ok(Vec::new()),
        Some((Tree::Map(members), _)) => Ok(members),
        Some((Tree::Other(_), line)) => Err(Error::from(Problem::NotAMap).line(line)),
    }
}

/// A value that is written in one line, as in `[q_proj, v_proj]`.
///
/// # Errors
/// If it is not YAML.
pub(super) fn value(yaml: &str) -> Result<Value> {
    Ok(document(yaml)?.map_or(Value::Null, |(tree, _)| tree.into()))
}

fn document(yaml: &str) -> Result<Option<(Tree, u64)>> {
    if yaml.len() > MAX_BYTES {
        return Err(Problem::TooLong { bytes: yaml.len(), most: MAX_BYTES }.into());
    }
    let mut events = Events { parser: Parser::new_from_str(yaml), depth: 0 };
    let mut found = None;
    loop {
        let (event, line) = events.next()?;
        match event {
            Event::StreamEnd => return Ok(found),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            _ if found.is_some() => return Err(Error::from(Problem::Documents).line(line)),
            event => found = Some((events.tree(event, line)?, line)),
        }
    }
}

struct Events<'y> {
    parser: Parser<'y, StrInput<'y>>,
    depth: usize,
}

impl<'y> Events<'y> {
    /// The next event and its line. Comments and anchors have none.
    fn next(&mut self) -> Result<(Event<'y>, u64)> {
        let line = |span: Span| span.start.line() as u64;
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Nothing, _))) => {}
                Some(Ok((event, span))) => return Ok((event, line(span))),
                Some(Err(error)) => {
                    let reason = error.info().to_string();
                    return Err(Error::from(Problem::NotYaml { reason }).line(error.marker().line() as u64));
                }
                None => return Ok((Event::StreamEnd, 0)),
            }
        }
    }

    /// The value that begins with `event`.
    fn tree(&mut self, event: Event<'y>, line: u64) -> Result<Tree> {
        if self.depth == MAX_DEPTH {
            return Err(Error::from(Problem::TooDeep { most: MAX_DEPTH }).line(line));
        }
        self.depth += 1;
        let tree = match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                Tree::Other(Value::scalar(text.into_owned(), plain))
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break Tree::Other(Value::List(items)),
                        (event, line) => items.push(self.tree(event, line)?.into()),
                    }
                }
            }
            Event::MappingStart(..) => Tree::Map(self.members()?),
            _ => return Err(Error::from(Problem::Alias).line(line)),
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn members(&mut self) -> Result<Vec<Member>> {
        let mut members: Vec<Member> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(members);
            }
            let Tree::Other(Value::Scalar { text: key, .. }) = self.tree(event, line)? else {
                return Err(Error::from(Problem::KeyIsNoText).line(line));
            };
            if let Some(first) = members.iter().find(|member| member.key == key) {
                return Err(Error::from(Problem::Twice { key, first: first.line }).line(line));
            }
            let (event, at) = self.next()?;
            members.push(Member { key, line, value: self.tree(event, at)? });
        }
    }
}
