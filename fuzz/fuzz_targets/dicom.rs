#![no_main]

use ganomede_fuzz::{data::Kind, feed, plant};

libfuzzer_sys::fuzz_target!(init: plant(Kind::Dicom.name(), &Kind::Dicom.seeds()), |bytes: &[u8]| {
    feed(|place| Kind::Dicom.feed(bytes, place))
});
