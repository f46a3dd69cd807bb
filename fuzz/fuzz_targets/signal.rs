#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Signal.name(), &Kind::Signal.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Signal.feed(bytes, place))
});
