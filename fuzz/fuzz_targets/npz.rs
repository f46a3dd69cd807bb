#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Npz.name(), &Kind::Npz.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Npz.feed(bytes, place))
});
