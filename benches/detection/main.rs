//! How well every system detects after the short training of `tests/common/detection.rs`, with each seed: the
//! numbers to write there.
//!
//! `cargo bench --profile dev --bench detection -- [SYSTEM…] [KEY=VALUE…]`; keys are fields of a case,
//! `seeds` and the `first` of them, and options of the system, and stand for what the case has.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/common/detection.rs"]
mod detection;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Instant;

use detection::{CASES, Case, Found, SEEDS, run};

/// Text that lives as long as the constants that it replaces.
fn kept(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// The number that a word is; ends with a sentence about one that is none.
fn number<T: FromStr<Err: Display>>(key: &str, value: &str) -> T {
    value.parse().unwrap_or_else(|e| refuse(&format!("{key}={value}: {e}")))
}

fn refuse(reason: &str) -> ! {
    eprintln!("error: {reason}");
    std::process::exit(2)
}

/// Sets a field of a case, or an option of its system.
fn set(case: &mut Case, key: &str, value: &str) {
    let count = || number::<usize>(key, value);
    match key {
        "data" => case.data = kept(value),
        "size" => case.size = count(),
        "width" => case.width = count(),
        "latent" => case.latent = count(),
        "batch" => case.batch = count(),
        "steps" => case.steps = count() as u64,
        "lr" => case.lr = number(key, value),
        _ => {
            case.options = Box::leak([case.options, &[(kept(key), kept(value))]].concat().into_boxed_slice())
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let settings: Vec<(&str, &str)> = arguments.iter().filter_map(|a| a.split_once('=')).collect();
    let named = |case: &&Case| arguments.iter().any(|a| a == case.system);
    let any = arguments.iter().any(|a| !a.contains('='));
    for name in arguments.iter().filter(|a| !a.contains('=')) {
        if !CASES.iter().any(|case| case.system == name) {
            refuse(&format!("there is no case of '{name}'"));
        }
    }
    for case in CASES.iter().filter(|case| !any || named(case)) {
        let (mut case, mut first, mut seeds) = (*case, 0, SEEDS as u64);
        for &(key, value) in &settings {
            match key {
                "seeds" => seeds = number(key, value),
                "first" => first = number(key, value),
                _ => set(&mut case, key, value),
            }
        }
        let start = Instant::now();
        let one = |seed| {
            let found = run(&case, seed);
            eprintln!("{}, seed {seed}: {:.3}, untrained {:.3}", case.system, found.trained, found.untrained);
            found
        };
        let found: Vec<Found> = (first..first + seeds).map(one).collect();
        let seconds = start.elapsed().as_secs_f64() / seeds as f64;
        let row = |value: fn(&Found) -> f64| {
            found.iter().map(|f| format!("{:.3}", value(f))).collect::<Vec<_>>().join(", ")
        };
        println!("{}: {seconds:.1} s a seed", case.system);
        println!("    trained: [{}],", row(|f| f.trained));
        println!("    untrained: [{}],", row(|f| f.untrained));
        println!("    permuted: [{}]", row(|f| f.permuted));
    }
}
