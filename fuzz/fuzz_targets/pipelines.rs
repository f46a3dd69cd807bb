#![no_main]

use ganomede_fuzz::{feed, plant, program::Kind};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Pipelines.name(), &Kind::Pipelines.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Pipelines.feed(bytes, place))
});
