//! The rank of an adapter is found in its merge, whatever rounded it.

use super::*;

/// Tall, wide, square, and a convolution.
const SHAPES: [(&str, &[usize]); 4] = [
    ("l.0.mlp.up_proj", &[320, 160]),
    ("l.0.mlp.down_proj", &[160, 320]),
    ("l.0.self_attn.q_proj", &[240, 240]),
    ("l.0.conv", &[160, 20, 3, 3]),
];

fn sizes(shape: &[usize]) -> (usize, usize) {
    (shape[0], shape[1..].iter().product())
}

/// Weights whose rows differ five times in norm.
fn uneven(rows: usize, cols: usize, seed: u64) -> Vec<f32> {
    let mut values = gaussian(rows, cols, seed) * 0.02;
    for (i, mut row) in values.rows_mut().into_iter().enumerate() {
        row *= 5f64.powf((i * 7 % rows) as f64 / rows as f64);
    }
    single(&values)
}

impl Folder {
    fn base(&self, name: &str, dtype: DType) {
        let weight = |(seed, (path, shape)): (u64, &(&str, &'static [usize]))| {
            let (rows, cols) = sizes(shape);
            (format!("{path}.weight"), *shape, uneven(rows, cols, seed))
        };
        let weights: Vec<(String, &[usize], Vec<f32>)> = (1..).zip(&SHAPES).map(weight).collect();
        let given: Vec<Given<'_>> =
            weights.iter().map(|(name, shape, values)| (name.as_str(), *shape, values.clone())).collect();
        self.model(name, dtype, &given);
    }

    /// An adapter of rank `r` on all of them, whose deltas have about `size` of the norm of the weights.
    fn adapter_of(&self, r: usize, size: f64) {
        let mut tensors = Vec::new();
        for (i, (path, shape)) in SHAPES.iter().enumerate() {
            let (rows, cols) = sizes(shape);
            let scale = (size * 0.05 / (r as f64).sqrt()).sqrt();
            let name = |half: &str| format!("base_model.model.{path}.lora_{half}.weight");
            let kernel = &shape[2..];
            let of_b = [&[rows, r][..], &vec![1; kernel.len()]].concat();
            tensors.push((name("A"), [&[r], &shape[1..]].concat(), random(r, cols, 90 + i as u64, scale)));
            tensors.push((name("B"), of_b, random(rows, r, 50 + i as u64, scale)));
        }
        let given: Vec<Given<'_>> =
            tensors.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], values.clone())).collect();
        self.file("adapter/adapter_model.safetensors", DType::F32, &given);
        let modules: Vec<&str> = SHAPES.iter().map(|(path, _)| *path).collect();
        let config =
            serde_json::json!({"peft_type": "LORA", "r": r, "lora_alpha": r, "target_modules": modules});
        std::fs::write(self.path("adapter/adapter_config.json"), config.to_string()).unwrap();
    }

    fn merge_to(&self, base: &str, dtype: DType) {
        let sum = Sum::new(self.path(base), [(self.path("adapter"), 1.0)]);
        let options = MergeOptions::new(sum, self.path("tuned")).with_dtype(Some(dtype)).with_replace(true);
        merge::plan(&options, &Silent).unwrap().run(1, &Silent).unwrap();
    }

    /// Stores a model in another dtype.
    fn recast(&self, name: &str, dtype: DType) {
        let model = Model::open(&self.path(name), &Reader::default()).unwrap();
        let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = model
            .refs()
            .map(|t| (t.info().name.clone(), t.info().shape.clone(), t.values().unwrap().to_vec()))
            .collect();
        drop(model);
        let given: Vec<Given<'_>> =
            tensors.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], values.clone())).collect();
        self.model(name, dtype, &given);
    }

    fn ranks(&self) -> Vec<usize> {
        let options = ExtractOptions { replace: true, ..self.options(Rule::Auto) };
        compute(&options, &Silent).unwrap().changes.iter().map(|change| change.became.rank()).collect()
    }
}

/// Whatever the dtypes of base and merge, of which one may have been rounded before.
#[test]
fn in_every_dtype() {
    let folder = Folder::new();
    let (half, bfloat, float) = (DType::F16, DType::BF16, DType::F32);
    for r in [4, 16] {
        folder.adapter_of(r, 0.05);
        for (stored, merged) in
            [(bfloat, bfloat), (half, half), (float, float), (bfloat, float), (float, bfloat), (half, bfloat)]
        {
            folder.base("base", stored);
            folder.merge_to("base", merged);
            assert_eq!(folder.ranks(), [r; 4], "rank {r}, base {stored}, merge {merged}");
        }
        // Rounded before the merge, and compared with what it was before that.
        folder.base("loaded", bfloat);
        folder.merge_to("loaded", bfloat);
        folder.base("base", float);
        assert_eq!(folder.ranks(), [r; 4], "rank {r}, rounded twice");
    }
}

/// A merge that was rounded, and then stored in a finer dtype; also beside a base that was, and in GGUF's way.
#[test]
fn stored_finer_than_it_was_rounded() {
    let folder = Folder::new();
    let (half, bfloat, float) = (DType::F16, DType::BF16, DType::F32);
    folder.adapter_of(8, 0.05);
    for (rounded, stored) in [(bfloat, half), (bfloat, float), (half, float)] {
        folder.base("base", rounded);
        folder.merge_to("base", rounded);
        folder.recast("tuned", stored);
        assert_eq!(folder.ranks(), [8; 4], "merge {rounded}, stored as {stored}");
        folder.recast("base", float);
        assert_eq!(folder.ranks(), [8; 4], "merge {rounded}, stored as {stored}, base as {float}");
    }
}

/// A base that was rounded after training started from it, and a change of no low rank that is larger.
#[test]
fn a_base_that_was_rounded() {
    let folder = Folder::new();
    let (half, bfloat, float) = (DType::F16, DType::BF16, DType::F32);
    folder.adapter_of(8, 0.05);
    for (merged, rounded) in [(float, bfloat), (float, half), (half, bfloat)] {
        folder.base("base", float);
        folder.merge_to("base", merged);
        folder.base("base", rounded);
        assert_eq!(folder.ranks(), [8; 4], "merge {merged}, base {rounded}");
    }
    let (rows, cols, name) = (160, 120, "l.0.mlp.up_proj.weight");
    let old = rounded(&uneven(rows, cols, 1));
    let new = old.iter().zip(random(rows, cols, 2, 0.002)).map(|(w, d)| w + d).collect();
    folder.model("base", bfloat, &[(name, &[rows, cols], old)]);
    folder.model("tuned", float, &[(name, &[rows, cols], new)]);
    assert_eq!(folder.ranks(), [120]);
}

/// A change that rounding swallowed for the most part is said to be one.
#[test]
fn a_weak_adapter() {
    let folder = Folder::new();
    folder.base("base", DType::BF16);
    for (size, weak) in [(0.05, false), (1.5e-3, true)] {
        folder.adapter_of(4, size);
        folder.merge_to("base", DType::BF16);
        let options = ExtractOptions { replace: true, ..folder.options(Rule::Auto) };
        let extract = compute(&options, &Silent).unwrap();
        let said = extract.notes.iter().any(|note| note.code == "swallowed");
        let moved: Vec<f64> = extract.changes.iter().map(|change| change.moved.unwrap()).collect();
        assert_eq!(said, weak, "{moved:?} {:?}", extract.notes);
        assert!(moved.iter().all(|moved| weak == (*moved < 0.5)), "{moved:?}");
    }
}

#[test]
fn experts_in_one_tensor() {
    let folder = Folder::new();
    let (experts, rows, cols, name) = (3, 160, 120, "l.0.mlp.experts.gate_up_proj");
    let shape = [experts, rows, cols];
    let base: Vec<f32> = (0..experts as u64).flat_map(|e| uneven(rows, cols, e)).collect();
    let delta = (0..experts as u64).flat_map(|e| {
        let (b, a) = (gaussian(rows, 5, 60 + e), gaussian(5, cols, 70 + e));
        single(&(b.dot(&a) * 1e-3))
    });
    let base = rounded(&base);
    let tuned = base.iter().zip(delta).map(|(w, d)| w + d).collect();
    folder.model("base", DType::BF16, &[(name, &shape, base)]);
    folder.model("tuned", DType::BF16, &[(name, &shape, tuned)]);
    assert_eq!(folder.ranks(), [5; 3]);
}

/// To BF16 and back.
fn rounded(values: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; 2 * values.len()];
    lorakit_quant::encoder(DType::BF16).unwrap().encode(values, &mut bytes);
    let mut values = vec![0.0; values.len()];
    lorakit_quant::codec(DType::BF16).unwrap().decode(&bytes, &mut values);
    values
}

#[test]
fn threads_do_not_matter() {
    let folder = Folder::new();
    folder.base("base", DType::BF16);
    folder.adapter_of(4, 0.01);
    folder.merge_to("base", DType::BF16);
    let [one, three] = [1, 3].map(|threads| {
        let options = ExtractOptions { threads, replace: true, ..folder.options(Rule::Auto) };
        compute(&options, &Silent).unwrap().run(threads, &Silent).unwrap();
        std::fs::read(folder.path("out/adapter_model.safetensors")).unwrap()
    });
    assert_eq!(one, three);
}
