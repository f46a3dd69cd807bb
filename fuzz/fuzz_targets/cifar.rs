#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Cifar.name(), &Kind::Cifar.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Cifar.feed(bytes, place))
});
