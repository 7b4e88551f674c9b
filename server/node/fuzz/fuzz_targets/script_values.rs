#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slotstorm_node::fuzzing::script_values(bytes));
