//! Programs on an interner; see `src/interner.rs`.
#![no_main]

use hapax_fuzz::interner::{decode, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run(&decode(bytes)));
