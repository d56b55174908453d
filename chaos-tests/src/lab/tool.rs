//! Owns calls of the system's programs. Does not know what they are for. Invariant: a failed call says what was called and why it failed.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::Context;

/// Where Debian keeps the administrator's programs; the PATH of a plain user lacks them.
const SYSTEM_DIRS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// A program and the Debian package that has it.
pub type Need = (&'static str, &'static str);

/// Says on standard output that a test proved nothing, and why.
pub fn skipped(why: &str) {
    println!("SKIPPED: {why}");
}

/// Whether everything is here: root and these programs.
/// # Errors
/// What is missing, and how to get it.
pub fn require(needs: &[Need]) -> Result<(), String> {
    if !is_root() {
        return Err("this needs root: run the tests as root".to_owned());
    }
    let missing: Vec<String> = needs
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(program, package)| format!("`{program}` is missing: apt-get install {package}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

/// Where a program lies.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    named.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Runs a program and returns what it printed.
/// # Errors
/// It cannot be started, or ends with another status than 0; with what it said.
pub fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    run_with(program, args, "")
}

/// The same with something on its standard input.
/// # Errors
/// As `run`.
pub fn run_with(program: &str, args: &[&str], input: &str) -> anyhow::Result<String> {
    let called = || format!("`{program} {}`", args.join(" "));
    let out = output(program, args, input).with_context(called)?;
    let said = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "{}: {}: {}", called(), out.status, said.trim());
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn output(program: &str, args: &[&str], input: &str) -> anyhow::Result<Output> {
    let program = find(program).with_context(|| format!("`{program}` is not installed"))?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has failed already does not read; its status counts.
        let _ = stdin.write_all(input.as_bytes());
    }
    Ok(child.wait_with_output()?)
}

/// Sends SIGKILL to a process by its id.
pub fn kill(pid: u32) {
    // The shell's own `kill`: the system call needs `unsafe`. An error means that it has ended already.
    let _ = run("sh", &["-c", r#"kill -KILL "$0""#, &pid.to_string()]);
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    // Real, effective, saved, of the file system: the second decides what is allowed.
    uids.split_whitespace().nth(1) == Some("0")
}
