#![no_main]

use ganomede_fuzz::{feed, plant, program::Kind};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Model.name(), &Kind::Model.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Model.feed(bytes, place))
});
