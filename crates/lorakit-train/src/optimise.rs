//! AdamW on the factors of an adapter, clipping, and learning rates.

use std::f64::consts::PI;

use crate::model::{Adapter, pow, sin_cos};

/// How factors follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How much of the first and of the second moment a step keeps.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// The share of a factor that is lost at a learning rate of 1, whatever its gradient is.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm, over all factors together.
    pub max_norm: Option<f64>,
    /// The learning rate of B over that of A (LoRA+).
    pub rate_of_b: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.0, max_norm: Some(1.0), rate_of_b: 1.0 }
    }
}

/// What AdamW remembers of one factor.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// The mean of gradients.
    pub first: Vec<f32>,
    /// The mean of their squares.
    pub second: Vec<f32>,
}

/// AdamW with decoupled weight decay, as `torch.optim.AdamW` does it.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// How factors follow their gradients.
    pub settings: Settings,
    /// Steps done.
    pub steps: u64,
    /// In the order of [`Adapter::factors`].
    pub moments: Vec<Moments>,
}

impl AdamW {
    /// The state before the first step on `adapter`.
    pub fn new(settings: Settings, adapter: &Adapter<f32>) -> Self {
        let zeros =
            |factor: &Vec<f32>| Moments { first: vec![0.0; factor.len()], second: vec![0.0; factor.len()] };
        Self { settings, steps: 0, moments: adapter.factors().map(zeros).collect() }
    }

    /// Moves `adapter` by one step; returns the norm that its gradients had before they were clipped. If that is not
    /// finite, nothing changes and nothing is returned.
    pub fn step(&mut self, adapter: &mut Adapter<f32>, gradients: &Adapter<f32>, rate: f64) -> Option<f64> {
        let norm = norm(gradients);
        if !norm.is_finite() {
            return None;
        }
        self.steps += 1;
        let Settings { betas, epsilon, weight_decay, max_norm, rate_of_b } = self.settings;
        // torch divides by a little more than the norm.
        let clip = max_norm.map_or(1.0, |longest| (longest / (norm + 1e-6)).min(1.0)) as f32;
        let done = self.steps as f64;
        let (short, root) = (1.0 - pow(betas.0, done), (1.0 - pow(betas.1, done)).sqrt() as f32);
        let (follow, keep) = ((1.0 - betas.0) as f32, betas.1 as f32);
        let (square, epsilon) = ((1.0 - betas.1) as f32, epsilon as f32);
        let factors = adapter.factors_mut().zip(gradients.factors()).zip(&mut self.moments);
        for (at, ((factor, gradient), moments)) in factors.enumerate() {
            // Factors are A, B, A, B and so on.
            let rate = if at % 2 == 0 { rate } else { rate * rate_of_b };
            let (stays, length) = ((1.0 - rate * weight_decay) as f32, (rate / short) as f32);
            let moments = moments.first.iter_mut().zip(&mut moments.second);
            for ((value, gradient), (first, second)) in factor.iter_mut().zip(gradient).zip(moments) {
                let gradient = gradient * clip;
                *first += follow * (gradient - *first);
                *second = *second * keep + square * gradient * gradient;
                *value = *value * stays - length * *first / (second.sqrt() / root + epsilon);
            }
        }
        Some(norm)
    }
}

/// The norm of all gradients together: squares are added in f64, in the order of [`Adapter::factors`].
pub fn norm(gradients: &Adapter<f32>) -> f64 {
    let squares = gradients.factors().flatten().map(|value| f64::from(*value) * f64::from(*value));
    squares.sum::<f64>().sqrt()
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In a straight line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

/// The learning rate of each step, as a share of the highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// How it falls.
    pub decay: Decay,
    /// Steps in which it rises from 0, in a straight line.
    pub warmup: u64,
    /// All steps.
    pub total: u64,
    /// Where it would be after the last step.
    pub end: f64,
}

impl Schedule {
    /// The share at `step`, which counts from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let falling = self.total.saturating_sub(self.warmup).max(1);
        let done = ((step - self.warmup) as f64 / falling as f64).min(1.0);
        let left = match self.decay {
            Decay::Constant => return 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + sin_cos(PI * done).1),
        };
        left * (1.0 - self.end) + self.end
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::Lora;
    use crate::model::testing::golden_json;

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
    }

    fn adapter(a: &Value, b: &Value) -> Adapter<f32> {
        let lora = Lora { scale: 1.0, a: floats(a), b: floats(b) };
        Adapter { layers: vec![[Some(lora), None, None, None, None, None, None]] }
    }

    #[test]
    fn steps_are_those_of_torch() {
        let about = golden_json("adamw");
        let number = |key: &str| about[key].as_f64().unwrap();
        let settings = Settings {
            betas: (about["betas"][0].as_f64().unwrap(), about["betas"][1].as_f64().unwrap()),
            epsilon: number("epsilon"),
            weight_decay: number("weight_decay"),
            max_norm: Some(number("longest")),
            rate_of_b: number("ratio"),
        };
        let mut trained = adapter(&about["a"], &about["b"]);
        let mut optimiser = AdamW::new(settings, &trained);
        for step in about["steps"].as_array().unwrap() {
            let gradients = adapter(&step["grad_a"], &step["grad_b"]);
            let norm = optimiser.step(&mut trained, &gradients, number("rate")).unwrap();
            assert!((norm / step["norm"].as_f64().unwrap() - 1.0).abs() < 1e-6);
            let expected = adapter(&step["a"], &step["b"]);
            for (found, expected) in trained.factors().flatten().zip(expected.factors().flatten()) {
                assert!(
                    (found - expected).abs() < 5e-7,
                    "step {}: {found} is not {expected}",
                    optimiser.steps
                );
            }
        }
        let before = (optimiser.clone(), trained.clone());
        let mut gradients = trained.zeros();
        gradients.factors_mut().for_each(|factor| factor[1] = f32::NAN);
        assert_eq!(optimiser.step(&mut trained, &gradients, 0.1), None);
        assert_eq!((optimiser, trained), before);
    }

    #[test]
    fn learning_rates_are_those_of_transformers() {
        let schedules = &golden_json("adamw")["schedules"];
        let cases = [
            ("linear", Decay::Linear, 0.0),
            ("linear-ten-percent", Decay::Linear, 0.1),
            ("cosine", Decay::Cosine, 0.0),
            ("cosine-ten-percent", Decay::Cosine, 0.1),
            ("constant", Decay::Constant, 0.0),
        ];
        for (name, decay, end) in cases {
            let case = &schedules[name];
            let count = |key: &str| case[key].as_u64().unwrap();
            let schedule = Schedule { decay, warmup: count("warmup"), total: count("total"), end };
            for (step, expected) in case["rates"].as_array().unwrap().iter().enumerate() {
                let (found, expected) = (schedule.at(step as u64), expected.as_f64().unwrap());
                assert!((found - expected).abs() < 1e-12, "{name}, step {step}: {found} is not {expected}");
            }
        }
    }
}
