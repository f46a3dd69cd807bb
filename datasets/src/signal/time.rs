//! Points in time as CSV files write them.

/// Microseconds since 1970-01-01 00:00:00 UTC, or of a wall clock.
pub(crate) type Micros = i64;

/// A minute.
pub(crate) const MINUTE: Micros = 60_000_000;

/// A point in time as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// A date and time by a wall clock, in microseconds since 1970-01-01 00:00:00 of that clock, and by how
    /// many minutes the clock is ahead of UTC, where a zone is stated.
    Date {
        /// Microseconds since 1970-01-01 00:00:00 by the clock.
        wall: i64,
        /// Minutes; None without a zone.
        zone: Option<i16>,
    },
    /// A number of seconds, milliseconds, microseconds or nanoseconds since 1970.
    Number(f64),
}

/// `YYYY-MM-DD`, then optionally `T` or a space and `HH:MM[:SS[.fraction]]`, then optionally `Z` or
/// `±HH[:]MM`; or a number. None for anything else and for days that do not exist.
pub(crate) fn parse(text: &str) -> Option<Moment> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return (number.abs() < 9e18).then_some(Moment::Number(number));
    }
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    let separator = rest.chars().next().filter(|c| matches!(c, '-' | '/'))?;
    rest = rest.strip_prefix(separator)?;
    let month = digits(&mut rest, 2)?;
    rest = rest.strip_prefix(separator)?;
    let day = digits(&mut rest, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let mut wall = days_from_civil(year, month, day) * 86_400_000_000;
    let mut zone = None;
    if let Some(time) = rest.strip_prefix(['T', ' ']) {
        rest = time;
        let hour = digits(&mut rest, 2)?;
        rest = rest.strip_prefix(':')?;
        let minute = digits(&mut rest, 2)?;
        let mut second = 0;
        if let Some(after) = rest.strip_prefix(':') {
            rest = after;
            second = digits(&mut rest, 2)?;
        }
        // 60 is a leap second.
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        wall += ((hour * 60 + minute) * 60 + second) * 1_000_000;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if length == 0 {
                return None;
            }
            let sixth = fraction.bytes().take(length).chain(std::iter::repeat(b'0')).take(6);
            wall += sixth.fold(0, |sum, digit| 10 * sum + i64::from(digit - b'0'));
            rest = &fraction[length..];
        }
        let after = rest.trim_start();
        if let Some(offset) = after.strip_prefix(['+', '-']) {
            let sign = if after.starts_with('-') { -1 } else { 1 };
            rest = offset;
            let hours = digits(&mut rest, 2)?;
            rest = rest.strip_prefix(':').unwrap_or(rest);
            let minutes = if rest.is_empty() { 0 } else { digits(&mut rest, 2)? };
            if hours > 23 || minutes > 59 {
                return None;
            }
            zone = Some((sign * (hours * 60 + minutes)) as i16);
        } else if matches!(after, "Z" | "z" | "UTC" | "GMT") {
            (zone, rest) = (Some(0), "");
        }
    }
    rest.is_empty().then_some(Moment::Date { wall, zone })
}

/// Takes exactly `n` digits off the front.
fn digits(rest: &mut &str, n: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(n)?;
    if !head.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    *rest = tail;
    head.parse().ok()
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar, by eras of 400 years (Hinnant, "chrono-compatible
/// low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `YYYY-MM-DD HH:MM:SS` of a wall clock; the inverse of [`parse`] for whole seconds.
pub(crate) fn format(micros: Micros) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of a date, in UTC; one without a zone is taken as UTC.
    fn utc(text: &str) -> Option<Micros> {
        match parse(text)? {
            Moment::Date { wall, zone } => Some(wall - Micros::from(zone.unwrap_or(0)) * MINUTE),
            Moment::Number(_) => None,
        }
    }

    #[test]
    fn known_times() {
        // date -u -d '…' +%s
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2014-07-06 20:10:00", 1_404_677_400),
            ("2014-07-06T20:10:00.000000", 1_404_677_400),
            ("2014-07-06T20:10Z", 1_404_677_400),
            ("2014-07-06T22:10:00+02:00", 1_404_677_400),
            ("2014-07-06 15:40:00 -0430", 1_404_677_400),
            ("2000-02-29 00:00:01", 951_782_401),
            ("1969/12/31 23:59:59", -1),
        ] {
            assert_eq!(utc(text), Some(seconds * 1_000_000), "{text}");
        }
        assert_eq!(utc("1970-01-01 00:00:00.25"), Some(250_000));
        assert_eq!(parse("1404677400"), Some(Moment::Number(1_404_677_400.0)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "x",
            "2014-02-29",
            "2014-13-01",
            "2014-1-1",
            "2014-01-01 24:00:00",
            "2014-01-01 10",
            "nan",
            "2014-01-01 10:00:00 soon",
            "2014-01-01 10:00:00.",
            "inf",
            "1e300",
            "２０14-01-01",
            "2014-01-01é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn formatting_and_parsing_are_inverse(seconds in -62_135_596_800i64..253_402_300_799) {
            prop_assert_eq!(utc(&format(seconds * 1_000_000)), Some(seconds * 1_000_000));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
