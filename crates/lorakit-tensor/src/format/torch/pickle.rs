//! The pickle machine: a stack, a memo and the [`Heap`]. It builds a description and calls nothing.

use std::collections::HashMap;

use super::global::{self, Global};
use super::heap::{Heap, MAX_OBJECTS, Object, Value};
use super::opcode::{self as op, Refused};
use super::problem::{Damage, PickleProblem as Problem};
use super::tensor::{StorageRef, TensorRef};
#[cfg(doc)]
use crate::ErrorKind;
use crate::{Error, Result};

pub(super) const MAX_OPCODES: u32 = 4_000_000;
pub(super) const MAX_MARKS: usize = 64;
const PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;

/// Interprets a whole pickle; returns what it describes and the objects in it.
///
/// # Errors
/// [`ErrorKind::UnsafePickle`] for a name that is not on the allow-list or an opcode that calls,
/// [`ErrorKind::Limit`] for one that is too large, [`ErrorKind::Corrupt`] or [`ErrorKind::Unsupported`] otherwise.
pub(super) fn load(bytes: &[u8]) -> Result<(Heap<'_>, Value<'_>)> {
    let mut machine = Machine { bytes, ..Machine::default() };
    for _ in 0..MAX_OPCODES {
        machine.opcode_at = machine.at;
        let code = machine.byte()?;
        if code == op::STOP {
            return machine.stop();
        }
        machine.step(code)?;
    }
    Err(Problem::Opcodes.into())
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    opcode_at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at each open `MARK`.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    heap: Heap<'a>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            op::PROTO => {
                let found = self.byte()?;
                if !PROTOCOLS.contains(&found) {
                    return Err(self.damaged(Damage::Protocol { found }));
                }
            }
            // A frame is a hint for buffered reading; its content follows in place.
            op::FRAME => drop(self.take(8)?),
            op::MARK => {
                if self.marks.len() == MAX_MARKS {
                    return Err(Problem::Marks.into());
                }
                self.marks.push(self.stack.len());
            }

            op::NONE => self.push(Value::None)?,
            op::NEWTRUE => self.push(Value::Bool(true))?,
            op::NEWFALSE => self.push(Value::Bool(false))?,
            op::BININT => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            op::BININT1 => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))?;
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            op::LONG1 => {
                let len = self.byte()?;
                let value = long(self.take(len.into())?);
                self.push(value)?;
            }
            op::BINFLOAT => {
                self.take(8)?;
                self.push(Value::Number)?;
            }
            op::BINUNICODE => {
                let len = u32::from_le_bytes(self.array()?);
                self.string(len as usize)?;
            }
            op::SHORT_BINUNICODE => {
                let len = self.byte()?;
                self.string(len.into())?;
            }

            op::EMPTY_TUPLE => self.make(Object::Tuple(Vec::new()))?,
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.make(Object::Tuple(items))?;
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let items = self.pop_last(usize::from(code - op::TUPLE1) + 1)?;
                self.make(Object::Tuple(items))?;
            }
            op::EMPTY_LIST => self.make(Object::List(Vec::new()))?,
            op::APPEND | op::APPENDS => {
                let items = if code == op::APPEND { self.pop_last(1)? } else { self.pop_to_mark()? };
                let list = self.top()?;
                if !self.heap.append(list, &items)? {
                    return Err(self.damaged(Damage::NoList));
                }
            }
            op::EMPTY_DICT => self.make(Object::Dict(Vec::new()))?,
            op::SETITEM | op::SETITEMS => {
                let items = if code == op::SETITEM { self.pop_last(2)? } else { self.pop_to_mark()? };
                let dict = self.top()?;
                if !self.heap.set(dict, &items)? {
                    return Err(self.damaged(Damage::NoItems));
                }
            }

            op::BINPUT => {
                let slot = self.byte()?;
                self.put(slot.into())?;
            }
            op::LONG_BINPUT => {
                let slot = u32::from_le_bytes(self.array()?);
                self.put(slot)?;
            }
            op::MEMOIZE => self.put(self.memo.len() as u32)?,
            op::BINGET => {
                let slot = self.byte()?;
                self.get(slot.into())?;
            }
            op::LONG_BINGET => {
                let slot = u32::from_le_bytes(self.array()?);
                self.get(slot)?;
            }

            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            op::STACK_GLOBAL => match self.pop_last(2)?.as_slice() {
                &[Value::Str(module), Value::Str(name)] => self.global(module, name)?,
                _ => return Err(self.damaged(Damage::StackedName)),
            },
            op::INST => {
                let (module, name) = (self.line()?, self.line()?);
                return Err(Problem::Call { name: dotted(module, name) }.into());
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = StorageRef::from_persistent_id(&self.heap, id)?;
                self.make(Object::Storage(storage))?;
            }
            op::REDUCE => self.reduce()?,
            op::BUILD => {
                self.pop()?;
                let target = self.top()?;
                // Attributes of a dict, such as the versions in `_metadata`. Nothing reads them.
                if self.heap.dict(target).is_none() {
                    return Err(self.damaged(Damage::Attributes));
                }
            }
            _ => return Err(self.refuse(code)),
        }
        Ok(())
    }

    /// What a call would have made, for the four names that can be called.
    fn reduce(&mut self) -> Result<()> {
        let args = self.pop()?;
        let callable = self.pop()?;
        let (Value::Global(callable), Some(args)) = (callable, self.heap.tuple(args)) else {
            return Err(self.damaged(Damage::NoCall));
        };
        let made = match (callable, args) {
            (Global::OrderedDict, []) => Object::Dict(Vec::new()),
            (Global::RebuildTensor, args) => {
                Object::Tensor(Box::new(TensorRef::rebuild_v2(&self.heap, args)?))
            }
            (Global::RebuildTensorV3, args) => {
                Object::Tensor(Box::new(TensorRef::rebuild_v3(&self.heap, args)?))
            }
            (Global::RebuildParameter, &[tensor, _requires_grad, _hooks])
                if self.heap.tensor(tensor).is_some() =>
            {
                return self.push(tensor);
            }
            _ => {
                return Err(self.damaged(Damage::Arguments { name: global::name(callable) }));
            }
        };
        self.make(made)
    }

    fn stop(mut self) -> Result<(Heap<'a>, Value<'a>)> {
        let result = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() || self.at != self.bytes.len() {
            return Err(self.damaged(Damage::LeftOver));
        }
        Ok((self.heap, result))
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let Some(global) = global::find(module, name) else {
            return Err(Problem::Name { name: dotted(module, name) }.into());
        };
        self.push(Value::Global(global))
    }

    fn refuse(&self, code: u8) -> Error {
        let at = self.opcode_at;
        match op::refused(code) {
            Some(Refused::Calls(name)) => Problem::CallingOpcode { name, at }.into(),
            Some(Refused::Unused(name)) => Problem::UnusedOpcode { name, at }.into(),
            None => self.damaged(Damage::Opcode { found: code }),
        }
    }

    fn damaged(&self, damage: Damage) -> Error {
        Problem::Damaged { at: self.opcode_at, damage }.into()
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.stack.len() == MAX_OBJECTS {
            return Err(Problem::Stack.into());
        }
        self.stack.push(value);
        Ok(())
    }

    fn make(&mut self, object: Object<'a>) -> Result<()> {
        let value = self.heap.add(object)?;
        self.push(value)
    }

    fn string(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged(Damage::String))?;
        self.push(Value::Str(text))
    }

    /// The top of the stack above the last mark, left in place.
    fn top(&self) -> Result<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = self.stack.get(floor..).and_then(|above| above.last());
        value.copied().ok_or_else(|| self.damaged(Damage::EmptyStack))
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Value<'a>>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= floor => Ok(self.stack.split_off(start)),
            _ => Err(self.damaged(Damage::ShortStack { count })),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged(Damage::NoMark))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn put(&mut self, slot: u32) -> Result<()> {
        let value = self.top()?;
        if self.memo.len() == MAX_OBJECTS && !self.memo.contains_key(&slot) {
            return Err(Problem::Memo.into());
        }
        self.memo.insert(slot, value);
        Ok(())
    }

    fn get(&mut self, slot: u32) -> Result<()> {
        let value = self.memo.get(&slot).copied();
        self.push(value.ok_or_else(|| self.damaged(Damage::Recalled { slot }))?)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, _) =
            self.bytes.get(self.at..).and_then(|rest| rest.split_at_checked(len)).ok_or_else(|| {
                let left = self.bytes.len().saturating_sub(self.at);
                self.damaged(Damage::Bytes { needed: len, left })
            })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Text up to the next newline, which is consumed.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&b| b == b'\n');
        let line = self.take(end.ok_or_else(|| self.damaged(Damage::EndlessName))?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.damaged(Damage::Name))
    }
}

/// A little-endian two's-complement integer of any length.
fn long(bytes: &[u8]) -> Value<'static> {
    let negative = bytes.last().is_some_and(|&high| high >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        }
        None => Value::Number,
    }
}

fn dotted(module: &str, name: &str) -> String {
    let full = format!("{}.{}", module.escape_debug(), name.escape_debug());
    if full.chars().count() <= 100 { full } else { full.chars().take(100).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn longs_are_twos_complement() {
        for value in [0, 1, 127, 128, -1, -128, -129, i64::MAX, i64::MIN] {
            assert_eq!(long(&value.to_le_bytes()), Value::Int(value));
        }
        assert_eq!(long(&[]), Value::Int(0));
        assert_eq!(long(&[0xff]), Value::Int(-1));
        assert_eq!(long(&[0; 9]), Value::Number);
    }

    #[test]
    fn data_is_described() {
        let (heap, top) = load(b"\x80\x02}X\x01\0\0\0aK\x07sX\x01\0\0\0b]q\0h\0as.").unwrap();
        let Some([(Value::Str("a"), Value::Int(7)), (Value::Str("b"), list)]) = heap.dict(top) else {
            panic!("{heap:?}");
        };
        assert!(
            matches!(heap.get(*list), Some(Object::List(items)) if items == &[*list]),
            "a cycle is data too"
        );
    }

    #[test]
    fn a_loop_of_opcodes_is_bounded() {
        let cases: [&[u8]; 4] = [b"\x80\x02", b"N", b")", b"]q\0"];
        for case in cases {
            let error = load(&case.repeat(MAX_OPCODES as usize + 1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
    }
}
