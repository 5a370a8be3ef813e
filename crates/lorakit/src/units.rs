//! Sizes and other numbers, as people write them.

/// No size is so large: an exabyte.
const LARGEST: f64 = 1e18;

/// Reads `5GB`, `500MB`, `2GiB`, `1000000`.
///
/// ```
/// use lorakit::units::parse_size;
///
/// assert_eq!(parse_size("1.5 GiB"), Ok(1_610_612_736));
/// assert!(parse_size("5XB").is_err());
/// ```
///
/// # Errors
/// What a size looks like.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor = match text[digits.len()..].trim().to_ascii_uppercase().as_str() {
        "" if digits.contains('.') => return Err(format!("needs a unit: `{digits}MB`")),
        "" | "B" => 1,
        "KB" | "K" => 1_000,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "TB" | "T" => 1_000_000_000_000,
        "KIB" => 1 << 10,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        "TIB" => 1u64 << 40,
        unit => return Err(format!("unknown unit `{unit}`; sizes look like 5GB, 500MB or 2GiB")),
    };
    let number: f64 = digits.parse().map_err(|_| "sizes look like 5GB, 500MB or 2GiB".to_string())?;
    let bytes = number * factor as f64;
    if bytes.is_nan() || bytes < 1.0 {
        return Err("a size must be at least one byte".into());
    }
    if bytes >= LARGEST {
        return Err("a size must be below 1000000 TB".into());
    }
    Ok(bytes as u64)
}

/// `2.47 GB`, `9.80 MB`, `512 B`.
pub fn size(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// Three digits and a unit: each of `units` is a thousand times the one before.
///
/// ```
/// use lorakit::units::scaled;
///
/// assert_eq!(scaled(1.24e9, &["", "k", "M", "B"]), "1.24 B");
/// ```
///
/// # Panics
/// If there are no units.
pub fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// Four significant digits.
///
/// ```
/// use lorakit::units::number;
///
/// assert_eq!((number(-3.25), number(12.0), number(3.4e38)), ("-3.25".into(), "12".into(), "3.400e38".into()));
/// ```
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if !(1e-4..1e6).contains(&v) => format!("{value:.3e}"),
        v => {
            let decimals = (3 - v.log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_string()
            } else {
                text
            }
        }
    }
}
