#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Image.name(), &Kind::Image.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Image.feed(bytes, place))
});
