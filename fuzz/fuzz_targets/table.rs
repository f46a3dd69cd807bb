#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Table.name(), &Kind::Table.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Table.feed(bytes, place))
});
