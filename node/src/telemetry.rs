//! Owns how this process logs: to standard error, filtered, as text or JSON. Does not know what is logged.
//! Invariant: standard output stays for what the user asked for.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// What is logged unless said otherwise; openraft's own reports are for its developers.
const FILTER_DEFAULT: &str = "info,openraft=error";

/// Logging.
#[derive(Debug, Clone, clap::Args)]
pub struct LogConfig {
    /// What to log, as `level` or `target=level`, with commas between.
    #[arg(long = "log", env = "EVERDESK_LOG", value_name = "FILTER", default_value = FILTER_DEFAULT)]
    pub filter: String,
    /// How log lines look.
    #[arg(long = "log-format", env = "EVERDESK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    /// One object per line.
    Json,
}

/// Starts logging; once per process.
/// # Errors
/// The filter cannot be read, as text that names the flag.
pub fn init(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| format!("--log {}: {error}", config.filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| error.to_string())
}
