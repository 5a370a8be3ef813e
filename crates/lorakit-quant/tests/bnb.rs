//! Codes, scales, descriptions and values equal those of bitsandbytes' processor version: `fixtures/golden/bnb`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use lorakit_quant::bnb::double_quant::{self, Rounding};
use lorakit_quant::bnb::{FourBit, Nested, QuantState};
use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The dtype and the values of a tensor.
fn values(tensor: &TensorView<'_>) -> (DType, Vec<f32>) {
    let dtype = DType::from_name(&format!("{:?}", tensor.dtype())).unwrap();
    let mut values = vec![0.0; tensor.shape().iter().product()];
    codec(dtype).unwrap().decode(tensor.data(), &mut values);
    (dtype, values)
}

struct Case<'a> {
    name: &'a str,
    file: SafeTensors<'a>,
}

impl Case<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.file.tensor(name).unwrap_or_else(|e| panic!("{}: {e}", self.name)).data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        floats(&self.bytes(name))
    }

    /// The description, as text and as it is read.
    fn state(&self) -> (String, QuantState) {
        let four_bit = FourBit::from_name(&self.name[..3]).unwrap();
        let text = self.bytes(&format!("weight.quant_state.bitsandbytes__{}", four_bit.name()));
        let state = QuantState::parse(&text).unwrap();
        (String::from_utf8(text).unwrap(), state)
    }

    fn offset(&self) -> Option<f32> {
        self.state().1.nested.map(|nested| nested.offset)
    }

    /// The scales that the file holds, decoded where they are quantised.
    fn absmax(&self) -> Vec<f32> {
        let Some(offset) = self.offset() else { return self.floats("weight.absmax") };
        let codes = self.bytes("weight.absmax");
        let map = self.floats("weight.nested_quant_map").try_into().unwrap();
        let mut absmax = vec![f32::NAN; codes.len()];
        double_quant::decode(&codes, &self.floats("weight.nested_absmax"), &map, offset, 0, &mut absmax);
        absmax
    }
}

fn each_case(mut check: impl FnMut(&Case<'_>)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/bnb");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    assert_eq!(paths.len(), 68);
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        check(&Case { name: path.file_stem().unwrap().to_str().unwrap(), file });
    }
}

#[test]
fn codes_and_scales_equal_the_reference() {
    each_case(|case| {
        let (_, input) = values(&case.file.tensor("input").unwrap());
        let (_, state) = case.state();
        let mut codes = vec![0xaa; input.len().div_ceil(2)];
        let mut absmax = vec![f32::NAN; input.len().div_ceil(state.block_size)];
        state.quant_type.encode(&input, state.block_size, &mut codes, &mut absmax);
        assert_eq!(codes, case.bytes("weight"), "{}", case.name);
        if let Some(Nested { offset }) = state.nested {
            let mut codes = vec![0xaa; absmax.len()];
            let mut nested = vec![f32::NAN; absmax.len().div_ceil(double_quant::BLOCK)];
            double_quant::encode(&absmax, offset, Rounding::Cpu, &mut codes, &mut nested);
            assert_eq!(codes, case.bytes("weight.absmax"), "{}", case.name);
            assert_eq!(bits(&nested), bits(&case.floats("weight.nested_absmax")), "{}", case.name);

            let own = double_quant::offset(&absmax);
            assert!(own.to_bits().abs_diff(offset.to_bits()) <= 1, "{}: {own} {offset}", case.name);
        } else {
            assert_eq!(bits(&absmax), bits(&case.floats("weight.absmax")), "{}", case.name);
        }
    });
}

/// A tensor encoded in pieces is the same as encoded whole.
#[test]
fn pieces_equal_the_reference() {
    each_case(|case| {
        let (_, input) = values(&case.file.tensor("input").unwrap());
        let (_, QuantState { quant_type, block_size, .. }) = case.state();
        let (mut codes, mut absmax) = (Vec::new(), Vec::new());
        let whole = input.len() / block_size * block_size;
        for piece in input[..whole].chunks(3 * block_size) {
            let at = (codes.len(), absmax.len());
            codes.resize(at.0 + piece.len() / 2, 0xaa);
            absmax.resize(at.1 + piece.len() / block_size, f32::NAN);
            quant_type.encode_blocks(piece, block_size, &mut codes[at.0..], &mut absmax[at.1..]);
        }
        if whole < input.len() {
            let at = codes.len();
            codes.resize(input.len().div_ceil(2), 0xaa);
            absmax.push(quant_type.encode_tail(&input[whole..], &mut codes[at..]));
        }
        assert_eq!(codes, case.bytes("weight"), "{}", case.name);
    });
}

#[test]
fn values_equal_the_reference() {
    each_case(|case| {
        let expected = case.file.tensor("dequantized").unwrap();
        let (_, state) = case.state();
        let mut values = vec![f32::NAN; state.elements() as usize];
        state.quant_type.decode(&case.bytes("weight"), &case.absmax(), state.block_size, 0, &mut values);
        let mut bytes = vec![0xaa; expected.data().len()];
        encoder(state.dtype).unwrap().encode(&values, &mut bytes);
        assert_eq!(bytes, expected.data(), "{}", case.name);
    });
}

#[test]
fn descriptions_equal_the_reference() {
    each_case(|case| {
        let (text, state) = case.state();
        let input = case.file.tensor("input").unwrap();
        assert_eq!(state.to_json(), text, "{}", case.name);
        assert!(text.len() <= state.json_len_max());
        assert_eq!(state.shape, input.shape());
        assert_eq!(state.dtype, values(&input).0);
        assert_eq!(state.nested.is_some(), case.has("weight.nested_absmax"));
        assert_eq!(case.floats("weight.quant_map"), state.quant_type.table());
        if state.nested.is_some() {
            assert_eq!(case.floats("weight.nested_quant_map"), double_quant::MAP);
        }
    });
}

/// The nearest code is at most one away from the processor version's, and rarely that.
#[test]
fn nearest_codes_differ_rarely() {
    let (mut all, mut other) = (0, 0);
    each_case(|case| {
        let (Some(offset), absmax) = (case.offset(), case.absmax()) else { return };
        let encode = |rounding| {
            let mut codes = vec![0; absmax.len()];
            let mut nested = vec![0.0; absmax.len().div_ceil(double_quant::BLOCK)];
            double_quant::encode(&absmax, offset, rounding, &mut codes, &mut nested);
            codes
        };
        let (nearest, cpu) = (encode(Rounding::Nearest), encode(Rounding::Cpu));
        assert!(nearest.iter().zip(&cpu).all(|(a, b)| a.abs_diff(*b) <= 1), "{}", case.name);
        other += nearest.iter().zip(&cpu).filter(|(a, b)| a != b).count();
        all += absmax.len();
    });
    assert!(all > 5000 && other * 100 < all, "{other} of {all}");
}
