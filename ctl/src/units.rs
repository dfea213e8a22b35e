//! Numbers as people read them.

use std::time::Duration;

/// Bytes: `512 B`, `1.5 KiB`, `104.9 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Bits per second: `1.2 Gbit/s`.
pub(crate) fn bits_per_second(bits: f64) -> String {
    scaled(bits, 1000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// Things per second: `12.3k/s`, with three digits that count.
pub(crate) fn per_second(count: f64) -> String {
    scaled(count, 1000.0, &["/s", "k/s", "M/s", "G/s"]).replace(' ', "")
}

/// A number with a unit of the last step that leaves at least 1 before the point.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // What would be rounded to a full step is one.
    while value.abs() >= step - 0.05 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 || value.fract().abs() >= 0.05);
    format!("{value:.digits$} {}", units[unit])
}

/// A length of time, its two largest parts: `1d2h`, `3m12s`, `1.5s`, `20ms`.
pub(crate) fn duration(ms: u64) -> String {
    let time = Duration::from_millis(ms);
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{ms}ms"),
        1..10 if !ms.is_multiple_of(1000) => format!("{:.1}s", time.as_secs_f64()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// `1 conn`, `2 conns`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// Conns, those with an IPv6 side among them, and the most of both kinds.
#[derive(Clone, Copy)]
pub(crate) struct Conns {
    pub(crate) all: u64,
    pub(crate) ipv6: u64,
    pub(crate) max: u64,
    pub(crate) max_ipv6: u64,
}

impl Conns {
    /// `5 of 1000, and 2 of 500 with an IPv6 side`.
    pub(crate) fn text(self) -> String {
        self.parts(" of ", |ipv6| format!(", and {ipv6} with an IPv6 side"))
    }

    /// `5/1000 ipv6 2/500`.
    pub(crate) fn brief(self) -> String {
        self.parts("/", |ipv6| format!(" ipv6 {ipv6}"))
    }

    /// What there can be none of is not told.
    fn parts(self, of: &str, ipv6: impl FnOnce(String) -> String) -> String {
        let Self { all, ipv6: wide, max, max_ipv6 } = self;
        let narrow = format!("{}{of}{max}", all.saturating_sub(wide));
        match max_ipv6 {
            0 => narrow,
            _ => format!("{narrow}{}", ipv6(format!("{wide}{of}{max_ipv6}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conns_are_told_with_their_most() {
        let none = Conns { all: 7, ipv6: 0, max: 1000, max_ipv6: 0 };
        assert_eq!((none.text(), none.brief()), ("7 of 1000".to_owned(), "7/1000".to_owned()));
        let both = Conns { ipv6: 2, max_ipv6: 500, ..none };
        assert_eq!(both.text(), "5 of 1000, and 2 of 500 with an IPv6 side");
        assert_eq!(both.brief(), "5/1000 ipv6 2/500");
    }

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(110_000_000), "104.9 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn rates_have_decimal_units() {
        assert_eq!(bits_per_second(0.0), "0 bit/s");
        assert_eq!(bits_per_second(1_234_000_000.0), "1.2 Gbit/s");
        assert_eq!(per_second(7.0), "7/s");
        assert_eq!(per_second(0.5), "0.5/s");
        assert_eq!(per_second(12_345.0), "12.3k/s");
        assert_eq!(per_second(999.96), "1.0k/s");
    }

    #[test]
    fn times_have_two_parts() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_500, "1.5s"),
            (9_990, "10.0s"),
            (59_999, "59s"),
            (192_000, "3m12s"),
            (3_600_000, "1h00m"),
            (93_600_000, "1d02h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
