//! Owns the program that delays packets, started in a namespace by `lab::delay`. Does not choose packets.
//! Invariant: it ends when its standard input ends.

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    chaos_tests::lab::delay::run_delayer(&args)
}
