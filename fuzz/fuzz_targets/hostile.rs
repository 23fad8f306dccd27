//! Programs with values that lie, panic and come back in; see `src/hostile.rs`.
#![no_main]

use hapax_fuzz::hostile::{decode, expect_refusals, run};

libfuzzer_sys::fuzz_target!(init: expect_refusals(), |bytes: &[u8]| run(&decode(bytes)));
