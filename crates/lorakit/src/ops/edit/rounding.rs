//! Values times a number, rounded once, and what the rounding changed.

use lorakit_tensor::{DType, TensorInfo};
use serde::Serialize;

use super::problem::Problem;
use crate::tensor::Shelf;
use crate::{Error, Result, TensorRef};

/// What rounding did to values that were computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rounding {
    /// Number of tensors that were computed.
    pub tensors: usize,
    /// Number of them of which no value was rounded.
    pub exact_tensors: usize,
    /// Number of values in all of them.
    pub values: u64,
    /// Number of values that were rounded.
    pub changed: u64,
    /// The largest error of a value, relative to it.
    pub max_relative_error: f64,
}

impl Rounding {
    /// The two together.
    pub(super) fn and(self, other: Rounding) -> Rounding {
        Rounding {
            tensors: self.tensors + other.tensors,
            exact_tensors: self.exact_tensors + other.exact_tensors,
            values: self.values + other.values,
            changed: self.changed + other.changed,
            max_relative_error: self.max_relative_error.max(other.max_relative_error),
        }
    }
}

/// The tensor of `dtype` whose values are those of `tensor` times `times`: the product of an f64, rounded once.
///
/// # Errors
/// `ErrorKind::NonFinite` for NaN, infinity, and what the dtype cannot hold; `ErrorKind::Unsupported` for block types.
pub(super) fn product(
    tensor: &TensorRef,
    times: f64,
    dtype: DType,
    shelf: &Shelf,
) -> Result<(TensorRef, Rounding)> {
    let TensorInfo { name, shape, .. } = tensor.info();
    let place = |e: Error| e.tensor(name).at(tensor.path());
    if dtype.block().elements != 1 {
        return Err(place(Problem::Blocks { dtype }.into()));
    }
    let exact: Vec<f64> = wide(tensor)?.into_iter().map(|value| value * times).collect();
    let beyond = exact.iter().position(|value| value.abs() >= end(dtype));
    if let Some(element) = beyond {
        let (value, element) = (exact[element], element as u64);
        let shape = shape.clone();
        let problem = match dtype {
            DType::F32 => Problem::Beyond { value, shape, element },
            _ => Problem::TooLarge { value, shape, element, dtype },
        };
        return Err(place(problem.into()));
    }
    let narrow = if dtype == DType::F32 { |value| value as f32 } else { to_odd };
    let values: Vec<f32> = exact.iter().map(|value| narrow(*value)).collect();
    let made = shelf.tensor(name, tensor.path(), dtype, shape.clone(), &values)?;
    let mut rounding = Rounding { tensors: 1, values: exact.len() as u64, ..Rounding::default() };
    for (exact, stored) in exact.iter().zip(made.values()?) {
        let error = (f64::from(stored) - exact).abs();
        if error != 0.0 {
            rounding.changed += 1;
            rounding.max_relative_error = rounding.max_relative_error.max(error / exact.abs());
        }
    }
    rounding.exact_tensors = usize::from(rounding.changed == 0);
    Ok((made, rounding))
}

/// The values, none of them NaN or infinite.
fn wide(tensor: &TensorRef) -> Result<Vec<f64>> {
    let values = tensor.finite_values()?;
    if tensor.info().dtype == DType::F64 {
        let bytes = tensor.read(0..tensor.info().byte_len())?;
        return Ok(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect());
    }
    Ok(values.into_iter().map(f64::from).collect())
}

/// The least magnitude that is rounded to infinity.
fn end(dtype: DType) -> f64 {
    let two = |exponent: i32| 2f64.powi(exponent);
    match dtype {
        DType::F16 => 65520.0,
        DType::BF16 => two(128) - two(119),
        _ => two(128) - two(103),
    }
}

/// The f32 next to `value`; of two, the one whose last bit is odd. Rounding that to nearest, in a narrower dtype, gives
/// what rounding `value` itself to nearest gives (Boldo and Melquiond, 2008).
fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value {
        return near;
    }
    let beyond = f64::from(near).abs() > value.abs();
    f32::from_bits((near.to_bits() - u32::from(beyond)) | 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn stored(values: &[f32], times: f64, dtype: DType) -> Result<(Vec<f32>, Rounding)> {
        let tensor = TensorRef::of_values("w", DType::F32, [values.len()], values).unwrap();
        let (made, rounding) = product(&tensor, times, dtype, &Shelf::beside(Path::new("out")))?;
        Ok((made.values().unwrap(), rounding))
    }

    #[test]
    fn a_product_is_rounded_once() {
        // Just above the middle between 1 and the next bf16; as an f32 it is the middle, which goes to the even 1.
        let times = 1.0 + 2f64.powi(-8) + 2f64.powi(-30);
        assert_eq!(times as f32, 1.0 + 2f32.powi(-8));
        let (values, rounding) = stored(&[1.0, -1.0, 0.0], times, DType::BF16).unwrap();
        let next = 1.0 + 2f32.powi(-7);
        assert_eq!(values, [next, -next, 0.0]);
        assert_eq!((rounding.values, rounding.changed, rounding.exact_tensors), (3, 2, 0));
        assert!((rounding.max_relative_error - (f64::from(next) - times) / times).abs() < 1e-15);
    }

    #[test]
    fn a_power_of_two_is_exact() {
        let values = [1.5, -0.375, 3.0e-38, 0.0];
        let (doubled, rounding) = stored(&values, 2.0, DType::BF16).unwrap();
        assert_eq!(doubled[..2], [3.0, -0.75]);
        assert_eq!(rounding.changed, 1, "{rounding:?}");
        assert_eq!(stored(&values[..2], 0.5, DType::BF16).unwrap().1.exact_tensors, 1);
    }

    #[test]
    fn what_the_dtype_cannot_hold_is_refused() {
        for (value, dtype, holds) in [
            (65519.0, DType::F16, true),
            (65520.0, DType::F16, false),
            (f32::MAX, DType::F32, true),
            (f32::MAX, DType::BF16, false),
        ] {
            assert_eq!(stored(&[value], 1.0, dtype).is_ok(), holds, "{value} {dtype}");
        }
        let error = stored(&[1.0, 60000.0], -2.0, DType::F16).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`(in memory)`: `w`: comes to -1.2e5 at index 1, which F16 cannot hold"
        );
        assert!(stored(&[1e38], 4.0, DType::F32).is_err());
    }
}
