#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Labels.name(), &Kind::Labels.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Labels.feed(bytes, place))
});
