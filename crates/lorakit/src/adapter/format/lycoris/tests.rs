use lorakit_tensor::DType;

use super::super::testing::{Folder, Stored, delta, mixed, read};
use crate::ErrorKind;

const TO_Q: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
const CONV: &str = "lora_unet_down_blocks_0_resnets_0_conv1";

fn part(name: &str, part: &str, shape: &[usize]) -> Stored {
    let seed = part.bytes().map(usize::from).sum();
    (format!("{name}.{part}"), DType::F16, shape.to_vec(), mixed(shape.iter().product(), seed))
}

fn alpha(name: &str, value: f32) -> Stored {
    (format!("{name}.alpha"), DType::F16, vec![], vec![value])
}

/// `x * y` of row-major matrices, `x` with `inner` columns.
fn matmul(x: &[f32], inner: usize, y: &[f32]) -> Vec<f64> {
    let cols = y.len() / inner;
    let value = |row: &[f32], j: usize| -> f64 {
        row.iter().enumerate().map(|(k, &v)| f64::from(v) * f64::from(y[k * cols + j])).sum()
    };
    x.chunks_exact(inner).flat_map(|row| (0..cols).map(move |j| value(row, j))).collect()
}

/// `sum over i, j of t[i, j, k] * wa[i, o] * wb[j, c]`, in row `o` and column `c * kernel + k`.
fn tucker(t: &[f32], wa: &[f32], wb: &[f32], r: usize, kernel: usize) -> Vec<f64> {
    let (outs, inputs) = (wa.len() / r, wb.len() / r);
    let mut all = vec![0.0; outs * inputs * kernel];
    for (index, all) in all.iter_mut().enumerate() {
        let (o, c, k) = (index / kernel / inputs, index / kernel % inputs, index % kernel);
        for i in 0..r {
            for j in 0..r {
                let core = f64::from(t[(i * r + j) * kernel + k]);
                *all += core * f64::from(wa[i * outs + o]) * f64::from(wb[j * inputs + c]);
            }
        }
    }
    all
}

/// The Kronecker product of row-major matrices.
fn kron(x: &[f64], x_cols: usize, y: &[f64], y_cols: usize) -> Vec<f64> {
    let (x_rows, y_rows) = (x.len() / x_cols, y.len() / y_cols);
    let mut all = Vec::new();
    for o in 0..x_rows * y_rows {
        for i in 0..x_cols * y_cols {
            all.push(x[o / y_rows * x_cols + i / y_cols] * y[o % y_rows * y_cols + i % y_cols]);
        }
    }
    all
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

/// Reads one module and compares its delta with `expected` times `scale`.
fn is(tensors: &[Stored], expected: &[f64], scale: f64, rank: usize, shape: &[usize]) {
    let folder = Folder::new();
    let adapter = read(&folder.file("x.safetensors", &[], tensors), None).unwrap();
    adapter.check().unwrap();
    let module = &adapter.modules[0];
    assert_eq!((module.rank(), module.a.info().shape[1..].to_vec()), (rank, shape.to_vec()));
    let held = delta(module);
    assert_eq!(held.len(), expected.len());
    let largest = expected.iter().fold(0f64, |m, v| m.max((v * scale).abs()));
    for (x, y) in held.iter().zip(expected) {
        assert!((x - y * scale).abs() <= 1e-6 * largest, "{x} {}", y * scale);
    }
}

#[test]
fn loha() {
    let p = |name, shape: &[usize]| part(TO_Q, name, shape);
    let all = [
        p("hada_w1_a", &[6, 2]),
        p("hada_w1_b", &[2, 5]),
        p("hada_w2_a", &[6, 2]),
        p("hada_w2_b", &[2, 5]),
        alpha(TO_Q, 1.0),
    ];
    let (x, y) = (matmul(&all[0].3, 2, &all[1].3), matmul(&all[2].3, 2, &all[3].3));
    let product: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
    is(&all, &product, 0.5, 4, &[5]);
}

#[test]
fn loha_of_a_convolution() {
    let p = |name, shape: &[usize]| part(CONV, name, shape);
    let flat = [
        p("hada_w1_a", &[6, 1]),
        p("hada_w1_b", &[1, 36]),
        p("hada_w2_a", &[6, 1]),
        p("hada_w2_b", &[1, 36]),
    ];
    let (x, y) = (matmul(&flat[0].3, 1, &flat[1].3), matmul(&flat[2].3, 1, &flat[3].3));
    let product: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
    is(&flat, &product, 1.0, 1, &[4, 3, 3]);

    let tucked = [
        p("hada_w1_a", &[2, 6]),
        p("hada_w1_b", &[2, 4]),
        p("hada_t1", &[2, 2, 3, 3]),
        p("hada_w2_a", &[2, 6]),
        p("hada_w2_b", &[2, 4]),
        p("hada_t2", &[2, 2, 3, 3]),
        alpha(CONV, 4.0),
    ];
    let of = |w: usize| tucker(&tucked[w + 2].3, &tucked[w].3, &tucked[w + 1].3, 2, 9);
    let product: Vec<f64> = of(0).iter().zip(of(3)).map(|(x, y)| x * y).collect();
    is(&tucked, &product, 2.0, 4, &[4, 3, 3]);
}

#[test]
fn lokr() {
    let p = |name, shape: &[usize]| part(TO_Q, name, shape);
    // Both are whole: never scaled.
    let whole = [p("lokr_w1", &[2, 3]), p("lokr_w2", &[4, 2]), alpha(TO_Q, 7.0)];
    is(&whole, &kron(&wide(&whole[0].3), 3, &wide(&whole[1].3), 2), 1.0, 4, &[6]);

    let half = [p("lokr_w1", &[2, 3]), p("lokr_w2_a", &[4, 1]), p("lokr_w2_b", &[1, 5]), alpha(TO_Q, 0.5)];
    let second = matmul(&half[1].3, 1, &half[2].3);
    is(&half, &kron(&wide(&half[0].3), 3, &second, 5), 0.5, 2, &[15]);

    let both = [
        p("lokr_w1_a", &[3, 2]),
        p("lokr_w1_b", &[2, 4]),
        p("lokr_w2_a", &[4, 2]),
        p("lokr_w2_b", &[2, 5]),
        alpha(TO_Q, 1.0),
    ];
    let (x, y) = (matmul(&both[0].3, 2, &both[1].3), matmul(&both[2].3, 2, &both[3].3));
    is(&both, &kron(&x, 4, &y, 5), 0.5, 4, &[20]);
}

#[test]
fn lokr_of_a_convolution() {
    let p = |name, shape: &[usize]| part(CONV, name, shape);
    let whole = [p("lokr_w1", &[2, 2]), p("lokr_w2", &[2, 3, 3, 3])];
    is(&whole, &kron(&wide(&whole[0].3), 2, &wide(&whole[1].3), 27), 1.0, 4, &[6, 3, 3]);

    let tucked = [
        p("lokr_w1", &[2, 2]),
        p("lokr_t2", &[2, 2, 3, 3]),
        p("lokr_w2_a", &[2, 3]),
        p("lokr_w2_b", &[2, 3]),
        alpha(CONV, 1.0),
    ];
    let second = tucker(&tucked[1].3, &tucked[2].3, &tucked[3].3, 2, 9);
    is(&tucked, &kron(&wide(&tucked[0].3), 2, &second, 27), 0.5, 4, &[6, 3, 3]);
}

#[test]
fn a_core_of_locon_is_multiplied_in() {
    let p = |name, shape: &[usize]| part(CONV, name, shape);
    let all = [
        p("lora_down.weight", &[2, 4, 1, 1]),
        p("lora_up.weight", &[6, 2, 1, 1]),
        p("lora_mid.weight", &[2, 2, 3, 3]),
        alpha(CONV, 1.0),
    ];
    let transposed: Vec<f32> =
        (0..2).flat_map(|i| (0..6).map(move |o| (i, o))).map(|(i, o)| all[1].3[o * 2 + i]).collect();
    is(&all, &tucker(&all[2].3, &transposed, &all[0].3, 2, 9), 0.5, 2, &[4, 3, 3]);
}

#[test]
fn shapes_that_do_not_fit_are_found() {
    let folder = Folder::new();
    let p = |name, shape: &[usize]| part(TO_Q, name, shape);
    let faulty = [
        vec![
            p("hada_w1_a", &[6, 2]),
            p("hada_w1_b", &[3, 5]),
            p("hada_w2_a", &[6, 2]),
            p("hada_w2_b", &[2, 5]),
        ],
        vec![
            p("hada_w1_a", &[6, 2]),
            p("hada_w1_b", &[2, 5]),
            p("hada_w2_a", &[6, 2]),
            p("hada_w2_b", &[2, 4]),
        ],
        vec![p("hada_w1_a", &[6, 2]), p("hada_w1_b", &[2, 5])],
        vec![p("lokr_w1", &[6, 2]), p("lokr_w2_a", &[2, 5]), p("lokr_w2_b", &[4, 5])],
        vec![p("lokr_w1", &[6])],
        vec![p("lokr_w1", &[6, 2]), p("lokr_w2", &[2, 2]), p("dora_scale", &[1, 4])],
    ];
    for tensors in faulty {
        let adapter = read(&folder.file("x.safetensors", &[], &tensors), None).unwrap();
        assert_eq!(adapter.check().unwrap_err().kind(), ErrorKind::Damaged);
    }
}

#[test]
fn too_high_a_rank_is_refused() {
    let folder = Folder::new();
    let p = |name, shape: &[usize]| part(TO_Q, name, shape);
    let all =
        [p("hada_w1_a", &[6, 3]), p("hada_w1_b", &[3, 5]), p("hada_w2_a", &[6, 3]), p("hada_w2_b", &[3, 5])];
    let file = folder.file("x.safetensors", &[("ss_network_module", "lycoris.kohya")], &all);
    let error = folder.plan(&file, "y.safetensors", "kohya", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inexpressible);
    assert!(error.detail_lines()[0].ends_with("rank 9, of a matrix 6 x 5"), "{:?}", error.detail_lines());
    // One that does fit is written as a plain LoRA.
    let all =
        [p("hada_w1_a", &[6, 2]), p("hada_w1_b", &[2, 5]), p("hada_w2_a", &[6, 2]), p("hada_w2_b", &[2, 5])];
    let file = folder.file("z.safetensors", &[("ss_network_module", "lycoris.kohya")], &all);
    let plain = folder.convert(&file, "w.safetensors", "kohya", None).unwrap();
    assert_eq!(super::super::testing::strings(&plain)["ss_network_module"], "networks.lora");
}
