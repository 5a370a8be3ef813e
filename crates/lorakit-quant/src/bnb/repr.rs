//! Numbers as Python writes them in JSON.

/// The most characters that [`repr`] returns for an `f32`: a sign, 17 digits with their point, `e-45`.
pub(super) const REPR_MAX: usize = 23;

/// A number as Python's `json.dumps` writes it: the shortest digits that read back as the same `f64`, with an
/// exponent below `1e-4` and from `1e16`.
pub(super) fn repr(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{sign}Infinity");
    }
    // Rust finds the same digits, and always writes one before the point: `2.645e-6`.
    let scientific = format!("{:e}", value.abs());
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{digits}e{direction}{:02}", exponent.abs());
    }
    // Below `1e16`, Rust's plain notation differs in whole numbers only.
    let point = if value.fract() == 0.0 { ".0" } else { "" };
    format!("{sign}{}{point}", value.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as `repr(float(numpy.float32(...)))` or `repr(float(...))` prints it.
    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (782.375, "782.375"),
            (f64::from(0.1f32), "0.10000000149011612"),
            (f64::from(2.645_189e-6_f32), "2.645188942551613e-06"),
            (f64::from(-1.000_123_4e-38_f32), "-1.0001233894403474e-38"),
            (f64::from(f32::from_bits(1)), "1.401298464324817e-45"),
            (f64::from(f32::MAX), "3.4028234663852886e+38"),
            (0.0001, "0.0001"),
            (0.00009, "9e-05"),
            (1e15, "1000000000000000.0"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e16, "1e+16"),
            (1e100, "1e+100"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in cases {
            assert_eq!(repr(value), expected);
        }
    }

    #[test]
    fn every_length_is_within_the_maximum() {
        let longest = (0..1 << 20).map(|i: u32| f32::from_bits(i.wrapping_mul(4099)));
        let longest = longest.filter(|v| v.is_finite()).map(|v| repr(f64::from(v)).len()).max();
        assert_eq!(longest, Some(REPR_MAX));
    }
}
