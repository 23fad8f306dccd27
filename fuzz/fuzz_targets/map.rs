//! Programs on a weak map; see `src/map.rs`.
#![no_main]

use hapax_fuzz::map::{decode, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run(&decode(bytes)));
