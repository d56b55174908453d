//! See `chaos_tests::fuzz`.

#![no_main]

#[global_allocator]
static ALLOCATOR: chaos_tests::fuzz::Counting = chaos_tests::fuzz::Counting;

libfuzzer_sys::fuzz_target!(init: chaos_tests::fuzz::prepare("raft_append"), |bytes: &[u8]| {
    chaos_tests::fuzz::named("raft_append").run(bytes);
});
