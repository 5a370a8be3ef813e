//! Numbers for people: sizes in powers of 1000, times, counts.

use std::time::Duration;

/// `2.47 GB`, `9.8 MB`, `512 B`.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// `1.24 B`, `134.5 M`: a count of parameters.
pub(crate) fn count(n: u64) -> String {
    scaled(n as f64, &["", "k", "M", "B", "T"]).trim_end().to_string()
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) => format!("{value:.0} {}", units[0]),
        (_, v) if v < 10.0 => format!("{v:.2} {}", units[unit]),
        (_, v) if v < 100.0 => format!("{v:.1} {}", units[unit]),
        (_, v) => format!("{v:.0} {}", units[unit]),
    }
}

/// `0.24 s`, `41 s`, `3 min 20 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s => format!("{} min {:.0} s", (s / 60.0) as u64, s % 60.0),
    }
}

/// `41 s`, `13 min`, `3 h`: a time that is not known precisely.
pub(crate) fn left(time: Duration) -> String {
    match time.as_secs() {
        s if s < 100 => format!("{s} s"),
        s if s < 6000 => format!("{} min", (s + 30) / 60),
        s => format!("{} h", (s + 1800) / 3600),
    }
}

/// `1 tensor`, `2 tensors`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Reads `5GB`, `500MB`, `2GiB`, `1000000`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
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
    if bytes < 1.0 || !bytes.is_finite() {
        return Err("a size must be at least one byte".into());
    }
    Ok(bytes as u64)
}

/// Reads a number of parameters: `5M`, `1.2B`, `300000`.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let needed = || "counts look like 300000, 5M or 1.2B".to_string();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1e0,
        "K" => 1e3,
        "M" => 1e6,
        "B" | "G" => 1e9,
        _ => return Err(needed()),
    };
    let count = digits.parse::<f64>().map_err(|_| needed())? * factor;
    if (1.0..1e18).contains(&count) { Ok(count as u64) } else { Err(needed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        assert_eq!(parse_size("5GB"), Ok(5_000_000_000));
        assert_eq!(parse_size("1.5 GiB"), Ok(1_610_612_736));
        assert!(parse_size("5XB").is_err() && parse_size("GB").is_err() && parse_size("-1").is_err());
        assert_eq!(size(2_471_645_608), "2.47 GB");
        assert_eq!(size(999_999), "1.00 MB");
        assert_eq!(size(512), "512 B");
        assert_eq!(count(134_515_008), "135 M");
        assert_eq!((parse_count("5M"), parse_count("300000")), (Ok(5_000_000), Ok(300_000)));
        assert!(parse_count("5MB").is_err() && parse_count("0").is_err() && parse_count("M").is_err());
    }
}
