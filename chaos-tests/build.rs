//! Lets the simulation answer the system's questions for time and random numbers: some crates look `getrandom` up at run time,
//! and find only what the program exports.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bin=everdesk-sim=-Wl,--export-dynamic-symbol=getrandom");
}
