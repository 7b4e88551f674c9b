#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slotstorm_checker::foreign::fuzzing::edn(bytes));
