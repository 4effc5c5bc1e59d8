//! From when until when a certificate is valid: the one thing that is wanted of it before anybody
//! connects. Its place is fixed by RFC 5280, section 4.1.

/// The time in which a certificate is valid.
pub(super) struct Validity {
    pub(super) from: Moment,
    pub(super) until: Moment,
}

/// A point in time.
pub(super) struct Moment {
    /// Seconds since 1970.
    pub(super) seconds: u64,
    /// The day, for people.
    pub(super) text: String,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which the first version leaves out.
const VERSION: u8 = 0xa0;

/// The validity of a certificate in DER form; `None` where it is not one.
pub(super) fn of(certificate: &[u8]) -> Option<Validity> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (fields, _) = element(outer, SEQUENCE)?;
    let fields = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_serial, fields) = element(fields, INTEGER)?;
    let (_algorithm, fields) = element(fields, SEQUENCE)?;
    let (_issuer, fields) = element(fields, SEQUENCE)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let (from, rest) = moment(validity)?;
    let (until, _) = moment(rest)?;
    Some(Validity { from, until })
}

/// The content of the first element, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// `YYMMDDhhmmssZ` (from 1950 on) or `YYYYMMDDhhmmssZ`.
fn moment(bytes: &[u8]) -> Option<(Moment, &[u8])> {
    let (text, rest, year_digits) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, rest, 2),
        None => element(bytes, GENERALIZED_TIME).map(|(text, rest)| (text, rest, 4))?,
    };
    let text = std::str::from_utf8(text).ok()?;
    let (year, text) = text.split_at_checked(year_digits)?;
    let year: i64 = year.parse().ok()?;
    let year = match (year_digits, year) {
        (2, 50..) => 1900 + year,
        (2, _) => 2000 + year,
        _ => year,
    };
    let number = |at: usize| text.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (number(0)?, number(2)?);
    let seconds = days(year, month, day) * 86_400 + number(4)? * 3600 + number(6)? * 60 + number(8)?;
    let text = format!("{year}-{month:02}-{day:02}");
    Some((Moment { seconds: u64::try_from(seconds).unwrap_or(0), text }, rest))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (years from March on, so that the day
/// that is sometimes there comes last).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2024, 2, 29), 19_782);
        assert_eq!(days(2038, 1, 19), 24_855);
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        let utc = [&[UTC_TIME, 13], &b"380119031407Z"[..]].concat();
        assert_eq!(moment(&utc).unwrap().0.seconds, i32::MAX as u64);
        let general = [&[GENERALIZED_TIME, 15], &b"20380119031407Z"[..]].concat();
        assert_eq!(moment(&general).unwrap().0.seconds, i32::MAX as u64);
        assert_eq!(moment(&general).unwrap().0.text, "2038-01-19");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_none() {
        for bytes in
            [&[][..], &[SEQUENCE], &[SEQUENCE, 0x84, 255, 255, 255, 255], &[SEQUENCE, 2, SEQUENCE, 0]]
        {
            assert!(of(bytes).is_none(), "{bytes:?}");
        }
    }
}
