//! Telemetry of a server rack, sampled every five minutes: load with daily and weekly cycles, and what
//! follows from it by simple physics. Faults of three kinds that detectors are known to tell apart unequally:
//! points, values wrong only in their context, and stretches that are wrong only together.

use crate::rng::Rng;

/// Names of the channels, with their units.
pub(crate) const CHANNELS: [&str; 5] =
    ["load_percent", "current_a", "temperature_c", "fan_rpm", "vibration_mm_s"];
const CURRENT: usize = 1;
const TEMPERATURE: usize = 2;
const FAN: usize = 3;
const VIBRATION: usize = 4;

/// Kinds of faults. A `spike` is a point; `off_hours` (a working day's load at night) and `fan_failure` (the
/// fan does not answer the temperature) are contextual; `stuck` (a sensor repeats itself) and `oscillation`
/// are collective.
pub(crate) const KINDS: [&str; 5] = ["spike", "off_hours", "fan_failure", "stuck", "oscillation"];
const SPIKE: usize = 0;
const OFF_HOURS: usize = 1;
const FAN_FAILURE: usize = 2;
const STUCK: usize = 3;

/// Seconds between two rows.
pub(crate) const STEP_SECONDS: i64 = 300;
/// Rows of one day.
pub(crate) const DAY: usize = 288;
/// Each stretch of this many test rows holds at most one fault.
const SLOT: usize = 192;

/// Rows `start..end` of the test part are faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Index into [`KINDS`].
    pub(crate) kind: usize,
    channel: usize,
}

/// A sine within 0.2 %, of +, −, × and ÷ only (Bhaskara I), so that the bits agree on all platforms; `turns`
/// counts periods and must not be negative.
fn wave(turns: f32) -> f32 {
    let t = 2.0 * (turns - turns.floor());
    let (x, sign) = if t < 1.0 { (t, 1.0) } else { (t - 1.0, -1.0) };
    let p = x * (1.0 - x);
    sign * 16.0 * p / (5.0 - 4.0 * p)
}

/// Where the faults of the first `rows` test rows lie; a longer series has the same and more.
pub(crate) fn faults(seed: u64, rows: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    for slot in 0..rows / SLOT {
        let mut rng = Rng::new(&[seed, 2, slot as u64]);
        // Four slots in five are faulty; kinds take turns.
        if rng.below(5) == 0 {
            continue;
        }
        let kind = slot % KINDS.len();
        let length = match kind {
            SPIKE => 1 + rng.below(3) as usize,
            OFF_HOURS => 24 + rng.below(24) as usize,
            FAN_FAILURE => 36 + rng.below(36) as usize,
            _ => 30 + rng.below(40) as usize,
        };
        let mut start = slot * SLOT + rng.below((SLOT - length) as u64) as usize;
        if kind == OFF_HOURS {
            // The first night hours within reach; a slot of two thirds of a day may have none.
            let night = |row: usize| row % DAY < DAY / 6;
            let Some(found) =
                (slot * SLOT..(slot + 1) * SLOT - length).find(|&r| night(r) && night(r + length))
            else {
                continue;
            };
            start = found;
        }
        let channel = match kind {
            SPIKE => rng.below(5) as usize,
            STUCK => [CURRENT, TEMPERATURE, FAN][rng.below(3) as usize],
            _ => VIBRATION,
        };
        faults.push(Fault { start, end: start + length, kind, channel });
    }
    faults
}

/// `rows` rows after `first` rows of the calendar, which starts on a Monday at midnight; `part` tells
/// training (0) and test (1) apart. A prefix does not depend on the number of rows.
pub(crate) fn draw(seed: u64, part: u64, first: usize, rows: usize, faults: &[Fault]) -> Vec<[f32; 5]> {
    let mut rng = Rng::new(&[seed, part]);
    let (mut drift, mut job, mut job_left) = (0.0f32, 0.0f32, 0u64);
    let mut temperature = 30.0f32;
    let mut held = [0.0f32; 5];
    let mut faults = faults.iter().peekable();
    let mut values = Vec::with_capacity(rows);
    for row in 0..rows {
        while faults.peek().is_some_and(|fault| fault.end <= row) {
            faults.next();
        }
        let fault = faults.peek().filter(|fault| fault.start <= row);
        let is = |kind: usize| fault.is_some_and(|fault| fault.kind == kind);

        let at = first + row;
        let hour = (at % DAY) as f32 / DAY as f32;
        let is_weekend = at / DAY % 7 >= 5;
        // Office hours as a smooth plateau around 13:00.
        let office = (0.9 * wave(hour + 0.71) + 0.35).clamp(0.0, 1.0);
        let busy = if is_weekend { 0.35 } else { 1.0 };
        // The draws of a row are fixed in number, so that a fault changes nothing but its own rows.
        drift = 0.97 * drift + 0.5 * rng.bell();
        let (start, size, length) = (rng.below(150), rng.range(6.0, 16.0), 4 + rng.below(12));
        if job_left == 0 && start == 0 {
            (job, job_left) = (size, length);
        }
        job_left = job_left.saturating_sub(1);
        let work = if is(OFF_HOURS) { 44.0 } else { 48.0 * office * busy };
        let load = (14.0 + work + drift + if job_left > 0 { job } else { 0.0 }).clamp(1.0, 100.0);

        let current = 3.2 + 0.085 * load + 0.08 * rng.bell();
        let ambient = 22.0 + 2.0 * wave(hour + 0.65);
        // First-order lag of about an hour.
        temperature += (ambient + 0.30 * load - temperature) / 12.0;
        let cooling = ((temperature - 26.0) / 18.0).clamp(0.0, 1.0);
        let fan = if is(FAN_FAILURE) { 650.0 } else { 900.0 + 2400.0 * cooling } + 18.0 * rng.bell();
        let hum = if is(KINDS.len() - 1) { 0.45 * wave((row as f32 + 0.25) / 9.0) } else { 0.0 };
        let vibration = 0.5 + 0.00045 * fan + hum + 0.05 * rng.bell();
        let sensed = temperature + 0.12 * rng.bell();
        let mut now = [load, current, sensed, fan, vibration];

        if let Some(fault) = fault {
            match fault.kind {
                SPIKE => now[fault.channel] += [60.0, 6.0, 18.0, 2400.0, 2.2][fault.channel],
                STUCK => now[fault.channel] = held[fault.channel],
                _ => {}
            }
        }
        held = now;
        values.push(now);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_wave_is_a_sine() {
        for k in 0..1000 {
            let turns = k as f32 / 250.0;
            let sine = (f64::from(turns) * std::f64::consts::TAU).sin();
            assert!((f64::from(wave(turns)) - sine).abs() < 0.002, "{turns}");
        }
    }

    #[test]
    fn faults_change_their_own_rows_and_no_other() {
        let faults = faults(3, 4032);
        let (sound, faulty) = (draw(3, 1, 0, 4032, &[]), draw(3, 1, 0, 4032, &faults));
        let mut kinds = [0; KINDS.len()];
        for fault in &faults {
            kinds[fault.kind] += 1;
            let rows = fault.start..fault.end;
            let changed = rows.clone().filter(|&row| sound[row] != faulty[row]).count();
            assert!(changed + 1 >= rows.len(), "{fault:?}: {changed} rows change");
        }
        assert!(kinds.iter().all(|&n| n > 0), "{kinds:?}");
        let is_labelled = |row: usize| faults.iter().any(|fault| (fault.start..fault.end).contains(&row));
        for row in (0..4032).filter(|&row| !is_labelled(row)) {
            // Heat of an off-hours load leaves the rack within hours; everything else returns at once.
            assert_eq!(sound[row][0], faulty[row][0], "row {row}");
            let (a, b) = (sound[row][TEMPERATURE], faulty[row][TEMPERATURE]);
            let recent = faults.iter().any(|f| f.kind == OFF_HOURS && (f.end..f.end + 120).contains(&row));
            assert!((a - b).abs() < if recent { 16.0 } else { 1e-2 }, "row {row}: {a} {b}");
        }
    }

    #[test]
    fn a_prefix_does_not_depend_on_the_length() {
        assert_eq!(draw(0, 0, 0, 50, &[]), draw(0, 0, 0, 500, &[])[..50]);
        let short = faults(0, 1000);
        assert_eq!(short, faults(0, 5000)[..short.len()]);
    }

    #[test]
    fn values_never_change_unnoticed() {
        let mut hasher = Sha256::new();
        for value in draw(9, 1, 100, 1000, &faults(9, 1000)).iter().flatten() {
            hasher.update(value.to_le_bytes());
        }
        assert_eq!(
            format!("{:02x?}", &hasher.finalize()[..4]),
            "[bc, c7, 0d, 24]",
            "a changed value changes results: say so in the changelog, then write down the new digest"
        );
    }
}
