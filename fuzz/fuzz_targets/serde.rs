//! Texts that are deserialised into handles; see `src/json.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| hapax_fuzz::json::run(text));
