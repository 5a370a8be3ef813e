//! What a pickle describes: plain values, and objects that are addressed by number.
//!
//! Values are copied freely because an object is only its number: no deep clone, no recursive drop, and a cycle
//! is two numbers.

use super::global::Global;
use super::problem::PickleProblem as Problem;
use super::tensor::{StorageRef, TensorRef};
use crate::Result;

/// Most objects, memo slots and stack entries; each is bounded on its own.
pub(super) const MAX_OBJECTS: usize = 1 << 20;
pub(super) const MAX_DEPTH: u8 = 64;

/// A value on the stack or inside an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A float, or an integer beyond 64 bits. No tensor depends on its value.
    Number,
    Str(&'a str),
    Global(Global),
    Object(Id),
}

/// The number of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(usize);

/// Something that a pickle can hold twice.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    /// Pairs in file order; a key may come twice.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(StorageRef<'a>),
    Tensor(Box<TensorRef<'a>>),
}

/// Every object of one pickle.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    objects: Vec<Object<'a>>,
    /// Nesting below each object, as far as known when its members were added.
    depths: Vec<u8>,
}

impl<'a> Heap<'a> {
    /// Keeps `object` and returns the value that stands for it.
    pub(super) fn add(&mut self, object: Object<'a>) -> Result<Value<'a>> {
        if self.objects.len() == MAX_OBJECTS {
            return Err(Problem::Objects.into());
        }
        let depth = match &object {
            Object::Tuple(items) => self.depth_around(items)?,
            _ => 0,
        };
        self.objects.push(object);
        self.depths.push(depth);
        Ok(Value::Object(Id(self.objects.len() - 1)))
    }

    /// Appends to a list; `false` if `list` is not one.
    pub(super) fn append(&mut self, list: Value<'a>, items: &[Value<'a>]) -> Result<bool> {
        let depth = self.depth_around(items)?;
        let Some(Object::List(members)) = self.get_mut(list) else { return Ok(false) };
        members.extend_from_slice(items);
        self.deepen(list, depth);
        Ok(true)
    }

    /// Adds alternating keys and values to a dict; `false` if `dict` is not one, or a key lacks its value.
    pub(super) fn set(&mut self, dict: Value<'a>, items: &[Value<'a>]) -> Result<bool> {
        let depth = self.depth_around(items)?;
        let Some(Object::Dict(pairs)) = self.get_mut(dict) else { return Ok(false) };
        let (new, rest) = items.as_chunks::<2>();
        pairs.extend(new.iter().map(|&[key, value]| (key, value)));
        let complete = rest.is_empty();
        self.deepen(dict, depth);
        Ok(complete)
    }

    /// The object that `value` stands for.
    pub(super) fn get(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(Id(id)) => self.objects.get(id),
            _ => None,
        }
    }

    /// The members of a tuple.
    pub(super) fn tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.get(value)? {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs of a dict.
    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.get(value)? {
            Object::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The storage that `value` is.
    pub(super) fn storage(&self, value: Value<'a>) -> Option<StorageRef<'a>> {
        match self.get(value)? {
            Object::Storage(storage) => Some(*storage),
            _ => None,
        }
    }

    /// The tensor that `value` is.
    pub(super) fn tensor(&self, value: Value<'a>) -> Option<&TensorRef<'a>> {
        match self.get(value)? {
            Object::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The first of `values` that is, or holds at any depth, a tensor. Visits each object once.
    pub(super) fn tensor_holder(&self, values: impl Iterator<Item = Value<'a>>) -> Option<usize> {
        let mut seen = vec![false; self.objects.len()];
        let mut todo = Vec::new();
        for (index, value) in values.enumerate() {
            todo.push(value);
            while let Some(value) = todo.pop() {
                let Value::Object(Id(id)) = value else { continue };
                if seen.get_mut(id).is_none_or(|seen| std::mem::replace(seen, true)) {
                    continue;
                }
                match self.get(value) {
                    Some(Object::Tensor(_) | Object::Storage(_)) => return Some(index),
                    Some(Object::Tuple(items) | Object::List(items)) => todo.extend(items),
                    Some(Object::Dict(pairs)) => todo.extend(pairs.iter().flat_map(|&(k, v)| [k, v])),
                    None => {}
                }
            }
        }
        None
    }

    fn get_mut(&mut self, value: Value<'a>) -> Option<&mut Object<'a>> {
        match value {
            Value::Object(Id(id)) => self.objects.get_mut(id),
            _ => None,
        }
    }

    fn depth_around(&self, items: &[Value<'a>]) -> Result<u8> {
        let depth_of = |item: &Value<'a>| match *item {
            Value::Object(Id(id)) => self.depths.get(id).map_or(0, |depth| depth + 1),
            _ => 0,
        };
        let depth = items.iter().map(depth_of).max().unwrap_or(0);
        if depth >= MAX_DEPTH {
            return Err(Problem::Depth.into());
        }
        Ok(depth)
    }

    fn deepen(&mut self, value: Value<'a>, depth: u8) {
        if let Value::Object(Id(id)) = value
            && let Some(known) = self.depths.get_mut(id)
        {
            *known = depth.max(*known);
        }
    }
}
