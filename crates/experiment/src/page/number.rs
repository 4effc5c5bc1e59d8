//! How the reports write numbers: fixed digits, a true minus sign, grouped thousands.

/// What stands where a figure is not defined.
pub(crate) const ABSENT: &str = "–";

/// A number with a fixed count of decimals, such as `0.7312`.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // A value that rounds to zero has no sign.
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| byte == b'0' || byte == b'.') => digits.to_string(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// As [`fixed`], with a plus sign before positive numbers.
pub(crate) fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let is_zero = text.bytes().all(|byte| byte == b'0' || byte == b'.');
    if value > 0.0 && !is_zero { format!("+{text}") } else { text }
}

/// [`fixed`] of a value that may be absent.
pub(crate) fn fixed_or_absent(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| ABSENT.to_string(), |value| fixed(value, decimals))
}

/// A count with thousands separated by commas.
pub(crate) fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A probability in percent with about three significant digits, such as `0.0421 %` or `12.3 %`.
pub(crate) fn percent(value: f64) -> String {
    let percent = 100.0 * value;
    let decimals = if percent >= 10.0 || percent == 0.0 {
        1
    } else {
        (2 - percent.log10().floor() as i32).clamp(1, 6) as usize
    };
    format!("{} %", fixed(percent, decimals))
}

/// A p-value: `0.032`, or a bound where digits would promise too much.
pub(crate) fn p_value(value: Option<f64>) -> String {
    match value {
        None => ABSENT.to_string(),
        Some(value) if value < 0.0001 => "< 0.0001".to_string(),
        Some(value) if value < 0.01 => fixed(value, 4),
        Some(value) => fixed(value, 3),
    }
}

/// The confidence as the name of an interval, such as `95 %`.
pub(crate) fn confidence(value: f64) -> String {
    let percent = (value * 1000.0).round() / 10.0;
    format!("{percent} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(fixed(0.73125, 4), "0.7312");
        assert_eq!(fixed(-0.25, 2), "−0.25");
        assert_eq!(fixed(-0.00001, 3), "0.000");
        assert_eq!(signed(0.0123, 4), "+0.0123");
        assert_eq!(signed(-0.0123, 4), "−0.0123");
        assert_eq!(signed(0.00001, 4), "0.0000");
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234), "1,234");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(percent(0.1234), "12.3 %");
        assert_eq!(percent(0.0421), "4.21 %");
        assert_eq!(percent(0.000421), "0.0421 %");
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(percent(1.0), "100.0 %");
        assert_eq!(p_value(Some(0.0000123)), "< 0.0001");
        assert_eq!(p_value(Some(0.0042)), "0.0042");
        assert_eq!(p_value(Some(0.3)), "0.300");
        assert_eq!(p_value(None), "–");
        assert_eq!(confidence(0.95), "95 %");
        assert_eq!(confidence(0.999), "99.9 %");
    }
}
