#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Idx.name(), &Kind::Idx.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Idx.feed(bytes, place))
});
