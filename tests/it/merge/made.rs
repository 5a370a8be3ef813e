//! Bases and adapters made on the spot.

use std::cell::RefCell;
use std::fs;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::near::assert_near;
use crate::support::Sandbox;
use crate::weights::{Matrix, Tensor, Weights, noise, read_folder, write_file};

/// A base and an adapter made in the test.
pub(super) struct Pair {
    sandbox: Sandbox,
    base: Weights,
    adapter: Weights,
    /// Other tensors that change, as they should be.
    wanted: RefCell<Weights>,
}

impl Pair {
    pub(super) fn new() -> Self {
        Pair {
            sandbox: Sandbox::new(),
            base: Weights::new(),
            adapter: Weights::new(),
            wanted: RefCell::default(),
        }
    }

    pub(super) fn base_tensor(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Matrix {
        let seed = name.len() as u64 * 31 + self.base.len() as u64;
        let tensor = Tensor::new(dtype, shape, &noise(seed, shape.iter().product(), 0.5));
        let matrix = tensor.matrix();
        self.base.insert(name.into(), tensor);
        matrix
    }

    /// A tensor of the adapter, named without PEFT's prefix.
    pub(super) fn adapter_tensor(&mut self, name: &str, shape: &[usize]) -> Matrix {
        let seed = name.len() as u64 * 37 + self.adapter.len() as u64 + 1000;
        let tensor = Tensor::new(Dtype::F32, shape, &noise(seed, shape.iter().product(), 0.5));
        let matrix = tensor.matrix();
        self.adapter.insert(format!("base_model.model.{name}"), tensor);
        matrix
    }

    pub(super) fn merge(&self, base_config: Value, adapter_config: Value, options: &str) -> Weights {
        for (folder, file, weights, config, text) in [
            ("base", "model.safetensors", &self.base, "config.json", base_config),
            ("adapter", "adapter_model.safetensors", &self.adapter, "adapter_config.json", adapter_config),
        ] {
            let folder = self.sandbox.path(folder);
            fs::create_dir_all(&folder).unwrap();
            write_file(&folder.join(file), weights);
            fs::write(folder.join(config), text.to_string()).unwrap();
        }
        let (base, adapter) = (self.sandbox.path("base"), self.sandbox.path("adapter"));
        read_folder(&self.sandbox.merge(&base, &adapter, "out", options))
    }

    /// Asserts that `found` is the base with `name` replaced by the rounded `values`.
    pub(super) fn assert(&self, found: &Weights, name: &str, values: &Matrix) {
        self.expect(name, values);
        let mut wanted = self.base.clone();
        wanted.extend(self.wanted.borrow().clone());
        assert_near(name, &self.base, found, &wanted);
    }

    /// Remembers that [`Self::assert`] shall also find `name` replaced by the rounded `values`.
    pub(super) fn expect(&self, name: &str, values: &Matrix) {
        let old = &self.base[name];
        let new = Tensor::new(old.dtype, &old.shape, &values.values);
        assert_ne!(new, *old, "{name}");
        self.wanted.borrow_mut().insert(name.into(), new);
    }
}

pub(super) fn lora(r: usize, alpha: usize) -> Value {
    json!({ "peft_type": "LORA", "peft_version": "0.21.2", "r": r, "lora_alpha": alpha })
}

#[test]
fn convolutions() {
    for (shape, a, b) in [
        (&[12, 10, 3, 5][..], &[4, 10, 3, 5][..], &[12, 4, 1, 1][..]),
        (&[12, 10, 7], &[4, 10, 7], &[12, 4, 1]),
        (&[12, 10, 1, 1], &[4, 10, 1, 1], &[12, 4, 1, 1]),
    ] {
        let mut pair = Pair::new();
        let weight = pair.base_tensor("encoder.conv.weight", Dtype::BF16, shape);
        let a = pair.adapter_tensor("encoder.conv.lora_A.weight", a);
        let b = pair.adapter_tensor("encoder.conv.lora_B.weight", b);
        let found = pair.merge(json!({}), lora(4, 8), "");
        pair.assert(&found, "encoder.conv.weight", &weight.plus(2.0, &b.times(&a)));
    }
}
