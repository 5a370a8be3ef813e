//! Numbers for people: sizes in powers of 1000, times, counts.

use std::time::Duration;

use lorakit::units::scaled;
pub(crate) use lorakit::units::{parse_size, size};

/// `1.24 B`, `134.5 M`: a count of parameters.
pub(crate) fn count(n: u64) -> String {
    scaled(n as f64, &["", "k", "M", "B", "T"]).trim_end().to_string()
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
        assert!(parse_size("99999999999999999999GB").is_err() && parse_size("inf").is_err());
        assert_eq!(parse_size("999999TB"), Ok(999_999_000_000_000_000));
        assert_eq!(size(2_471_645_608), "2.47 GB");
        assert_eq!(size(999_999), "1.00 MB");
        assert_eq!(size(512), "512 B");
        assert_eq!(count(134_515_008), "135 M");
        assert_eq!((parse_count("5M"), parse_count("300000")), (Ok(5_000_000), Ok(300_000)));
        assert!(parse_count("5MB").is_err() && parse_count("0").is_err() && parse_count("M").is_err());
    }
}
