#![no_main]

use ganomede_fuzz::{feed, plant, program::Kind};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Checkpoint.name(), &Kind::Checkpoint.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Checkpoint.feed(bytes, place))
});
