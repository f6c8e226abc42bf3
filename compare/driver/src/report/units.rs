//! Amounts for readers: three digits and a unit.

use crate::workload::Unit;

/// Formats an amount.
pub(crate) fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => scaled(value, 1000.0, &["", " k", " M", " G"]),
        Unit::Nanos => scaled(value, 1000.0, &[" ns", " µs", " ms", " s"]),
        Unit::Micros => scaled(value, 1000.0, &[" µs", " ms", " s"]),
        Unit::Bytes => scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB"]),
    }
}

/// Formats a ratio. Three decimals are more than the noise allows, but fewer would round a miss to
/// a hit.
pub(super) fn ratio(value: f64) -> String {
    match value {
        small if small < 0.0995 => format!("{small:.4}"),
        near if near < 9.9995 => format!("{near:.3}"),
        great => digits(great),
    }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter().copied().peekable();
    let mut unit = units.next().unwrap_or_default();
    // An amount that rounds up to the step belongs to the next unit.
    while value.abs() >= step - 0.5 {
        let Some(next) = units.next() else { break };
        value /= step;
        unit = next;
    }
    format!("{}{unit}", digits(value))
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits_and_a_unit() {
        for (value, unit, expected) in [
            (12_345_678.0, Unit::Count, "12.3 M"),
            (999.7, Unit::Count, "1.00 k"),
            (512.0, Unit::Count, "512"),
            (58.24, Unit::Micros, "58.2 µs"),
            (1_200.0, Unit::Micros, "1.20 ms"),
            (31.0, Unit::Nanos, "31.0 ns"),
            (15_700.0, Unit::Nanos, "15.7 µs"),
            (8192.0, Unit::Bytes, "8.00 KiB"),
            (-4096.0, Unit::Bytes, "-4.00 KiB"),
            (3e14, Unit::Count, "300000 G"),
        ] {
            assert_eq!(amount(value, unit), expected);
        }
    }

    #[test]
    fn a_near_miss_does_not_look_like_a_hit() {
        assert_eq!(ratio(0.899), "0.899");
        assert_eq!(ratio(0.00213), "0.0021");
        assert_eq!(ratio(12.34), "12.3");
        assert_eq!(ratio(123.4), "123");
    }
}
