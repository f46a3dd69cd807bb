#![no_main]

use ganomede_fuzz::{feed, plant, program::Kind};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Tuning.name(), &Kind::Tuning.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Tuning.feed(bytes, place))
});
