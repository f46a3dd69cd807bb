//! The times of the rows of a series, as they are written and as they are compared.

use super::time::{MINUTE, Micros, Moment, format, parse};

/// What numbers that are times count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    /// By the largest magnitude: up to 10¹¹ (the year 5138 in seconds, 1973 in milliseconds) a number counts
    /// seconds, and so on by thousands.
    pub(crate) fn of(largest: f64) -> Self {
        match largest {
            n if n < 1e11 => Unit::Seconds,
            n if n < 1e14 => Unit::Milliseconds,
            n if n < 1e17 => Unit::Microseconds,
            _ => Unit::Nanoseconds,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Milliseconds => "milliseconds",
            Unit::Microseconds => "microseconds",
            Unit::Nanoseconds => "nanoseconds",
        }
    }

    /// Of numbers that [`parse`] gave, within what 64 bits hold.
    pub(crate) fn micros(self, number: f64) -> Micros {
        let micros = match self {
            Unit::Seconds => number * 1e6,
            Unit::Milliseconds => number * 1e3,
            Unit::Microseconds => number,
            Unit::Nanoseconds => number / 1e3,
        };
        micros.round() as i64
    }
}

/// How all times of a series are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeNotation {
    /// Dates, each with its zone.
    Zoned,
    /// Dates without a zone, taken as UTC: only their order counts.
    Plain,
    /// Numbers, in the unit that their size says.
    Number(Unit),
}

/// Times of the rows of a series, in order of rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Times {
    pub(crate) clock: TimeNotation,
    micros: Vec<Micros>,
    /// Minutes ahead of UTC; empty unless zoned.
    zones: Vec<i16>,
    /// As written, one behind the other, and where each ends.
    text: String,
    ends: Vec<usize>,
}

/// A moment on the clock of some times: what their rows are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Instant {
    micros: Micros,
    is_wall: bool,
}

impl Times {
    /// Times that count up, of generators.
    pub(crate) fn generated(micros: impl Iterator<Item = Micros>) -> Self {
        let mut times = WrittenTimes::default();
        micros.for_each(|time| times.push_date(time, None, &format(time)));
        times.finish()
    }

    pub(crate) fn len(&self) -> usize {
        self.micros.len()
    }

    /// The time of row `i` as written.
    pub(crate) fn text(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    /// The time of row `i` as a date in UTC; of times without a zone, as it stands.
    pub(crate) fn utc(&self, i: usize) -> String {
        format(self.micros[i])
    }

    /// First row after which time goes back.
    pub(crate) fn first_disorder(&self) -> Option<usize> {
        self.micros.windows(2).position(|pair| pair[1] < pair[0])
    }

    /// Rows that have the time of the row before them.
    pub(crate) fn repeated(&self) -> usize {
        self.micros.windows(2).filter(|pair| pair[1] == pair[0]).count()
    }

    /// Rows in order of time; those of one time stay as they are.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&row| self.micros[row]);
        order
    }

    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        let mut times = WrittenTimes::default();
        order
            .iter()
            .for_each(|&row| times.push(self.micros[row], self.zones.get(row).copied(), self.text(row)));
        Times { clock: self.clock, ..times.finish() }
    }

    /// Appends times that are written in the same way; false if they are not.
    pub(crate) fn extend(&mut self, other: &Times) -> bool {
        if self.clock != other.clock {
            return false;
        }
        self.micros.extend(&other.micros);
        self.zones.extend(&other.zones);
        self.ends.extend(other.ends.iter().map(|end| end + self.text.len()));
        self.text.push_str(&other.text);
        true
    }

    /// A moment as the rows are compared with it: one without a zone is of the rows' own wall clocks.
    ///
    /// Errors: a zone that the rows cannot be told in.
    pub(crate) fn instant(&self, moment: Moment) -> Result<Instant, &'static str> {
        let (micros, is_wall) = match (self.clock, moment) {
            (TimeNotation::Zoned, Moment::Date { wall, zone: None }) => (wall, true),
            (TimeNotation::Plain, Moment::Date { zone: Some(zone), .. }) if zone != 0 => {
                return Err("has a zone, but the times of the series have none; write both in the same way");
            }
            (_, Moment::Date { wall, zone }) => (wall - Micros::from(zone.unwrap_or(0)) * MINUTE, false),
            (TimeNotation::Number(unit), Moment::Number(number)) => (unit.micros(number), false),
            (_, Moment::Number(number)) => (Unit::of(number.abs()).micros(number), false),
        };
        Ok(Instant { micros, is_wall })
    }

    /// Whether row `i` is before (or at, or after) an instant.
    pub(crate) fn compare(&self, i: usize, instant: Instant) -> std::cmp::Ordering {
        let zone = if instant.is_wall { self.zones.get(i).copied().unwrap_or(0) } else { 0 };
        (self.micros[i] + Micros::from(zone) * MINUTE).cmp(&instant.micros)
    }
}

/// Times while they are read.
#[derive(Default)]
pub(crate) struct WrittenTimes {
    micros: Vec<Micros>,
    zones: Vec<i16>,
    numbers: Vec<f64>,
    text: String,
    ends: Vec<usize>,
}

impl WrittenTimes {
    /// Adds the time of the next row.
    ///
    /// Errors: no time, or one that is written in another way than those before it.
    pub(crate) fn read(&mut self, text: &str) -> Result<(), &'static str> {
        let text = text.trim();
        let moment = parse(text).ok_or("is no time; write YYYY-MM-DD HH:MM:SS, or a number since 1970")?;
        let (is_first, has_zones) = (self.ends.is_empty(), !self.zones.is_empty());
        match moment {
            Moment::Number(number) if is_first || !self.numbers.is_empty() => {
                self.numbers.push(number);
                self.text.push_str(text);
                self.ends.push(self.text.len());
            }
            Moment::Date { wall, zone }
                if is_first || (self.numbers.is_empty() && zone.is_some() == has_zones) =>
            {
                self.push_date(wall, zone, text);
            }
            Moment::Date { .. } if self.numbers.is_empty() => {
                return Err(
                    "has a zone where other times have none, or the other way round; write all alike",
                );
            }
            _ => {
                return Err(
                    "is a date where other times are numbers, or the other way round; write all alike",
                );
            }
        }
        Ok(())
    }

    fn push_date(&mut self, wall: Micros, zone: Option<i16>, text: &str) {
        self.push(wall - Micros::from(zone.unwrap_or(0)) * MINUTE, zone, text);
    }

    fn push(&mut self, micros: Micros, zone: Option<i16>, text: &str) {
        self.micros.push(micros);
        self.zones.extend(zone);
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    pub(crate) fn finish(self) -> Times {
        let WrittenTimes { mut micros, zones, numbers, text, ends } = self;
        let clock = match (numbers.is_empty(), zones.is_empty()) {
            (false, _) => {
                let unit = Unit::of(numbers.iter().fold(0.0, |most, number| number.abs().max(most)));
                micros = numbers.into_iter().map(|number| unit.micros(number)).collect();
                TimeNotation::Number(unit)
            }
            (true, false) => TimeNotation::Zoned,
            (true, true) => TimeNotation::Plain,
        };
        Times { clock, micros, zones, text, ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(texts: &[&str]) -> Times {
        let mut times = WrittenTimes::default();
        texts.iter().for_each(|text| times.read(text).unwrap());
        times.finish()
    }

    #[test]
    fn numbers_count_what_their_size_says() {
        // The same second in four units.
        for (text, unit) in [
            ("1709251200", Unit::Seconds),
            ("1709251200000", Unit::Milliseconds),
            ("1709251200000000", Unit::Microseconds),
            ("1709251200000000000", Unit::Nanoseconds),
        ] {
            let times = times(&["0", text]);
            assert_eq!(times.clock, TimeNotation::Number(unit), "{text}");
            assert_eq!(format(times.micros[1]), "2024-03-01 00:00:00", "{text}");
            assert_eq!(times.text(1), text);
        }
        // A label that is a number counts what the series counts, and as a date it is in UTC.
        let times = times(&["1709251200000", "1709251201000"]);
        for text in ["1709251201000", "2024-03-01 00:00:01", "2024-03-01T09:00:01+09:00"] {
            let instant = times.instant(parse(text).unwrap()).unwrap();
            assert!(times.compare(0, instant).is_lt() && times.compare(1, instant).is_eq(), "{text}");
        }
    }

    #[test]
    fn moments_without_a_zone_are_of_the_rows_own_clock() {
        // A clock that is put back an hour: the wall time repeats, UTC goes on.
        let zoned =
            times(&["2024-10-27T02:30:00+02:00", "2024-10-27 02:30:00+0100", "2024-10-27T03:30:00+01:00"]);
        assert_eq!((zoned.clock, zoned.first_disorder(), zoned.repeated()), (TimeNotation::Zoned, None, 0));
        let sides = |text: &str| {
            let instant = zoned.instant(parse(text).unwrap()).unwrap();
            [0, 1, 2].map(|row| zoned.compare(row, instant) as i8)
        };
        assert_eq!(sides("2024-10-27 02:30:00"), [0, 0, 1]);
        assert_eq!(sides("2024-10-27T00:30:00Z"), [0, 1, 1]);
        assert_eq!(sides("2024-10-27T02:30:00+01:00"), [-1, 0, 1]);
        let plain = times(&["2024-10-27 02:30:00"]);
        assert!(plain.instant(parse("2024-10-27T02:30:00+01:00").unwrap()).is_err());
        let utc = plain.instant(parse("2024-10-27T02:30:00Z").unwrap()).unwrap();
        assert!(plain.compare(0, utc).is_eq());
    }

    #[test]
    fn times_are_written_alike_and_put_in_order() {
        for (first, then) in [("2024-01-01", "5"), ("5", "2024-01-01"), ("2024-01-01 00:00Z", "2024-01-01")] {
            let mut times = WrittenTimes::default();
            times.read(first).unwrap();
            assert!(times.read(then).unwrap_err().contains("write all alike"), "{first}, {then}");
        }
        let shuffled = times(&["2024-01-03", "2024-01-01", "2024-01-02", "2024-01-01"]);
        assert_eq!((shuffled.first_disorder(), shuffled.order()), (Some(0), vec![1, 3, 2, 0]));
        let sorted = shuffled.reordered(&shuffled.order());
        assert_eq!((sorted.first_disorder(), sorted.repeated(), sorted.text(3)), (None, 1, "2024-01-03"));
        let mut joined = sorted.clone();
        assert!(joined.extend(&sorted) && joined.text(7) == "2024-01-03" && joined.len() == 8);
        assert!(!joined.extend(&times(&["7"])));
    }
}
