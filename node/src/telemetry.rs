//! Owns how this process logs: to standard error, filtered, as text or JSON. Does not know what is logged.
//! Invariant: standard output stays for what the user asked for.

use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

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
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Json => {
            tracing_subscriber::registry().with(filter).with(lines.json().flatten_event(true)).try_init()
        }
        LogFormat::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            tracing_subscriber::registry().with(filter).with(lines).try_init()
        }
    };
    started.map_err(|error| error.to_string())?;
    // `try_init` succeeds once per process.
    let _ = FILTER.set((handle, config.filter.clone()));
    Ok(())
}

/// The process has one log, like one standard error: its filter, and what it was at the start.
static FILTER: OnceLock<(reload::Handle<EnvFilter, Registry>, String)> = OnceLock::new();

/// What is logged now; `None` when logging was not started.
pub fn filter() -> Option<String> {
    FILTER.get().and_then(|(handle, _)| handle.with_current(EnvFilter::to_string).ok())
}

/// Changes what is logged from now on; without a filter to what it was at the start.
/// # Errors
/// The filter cannot be read, or logging was not started.
pub fn set_filter(filter: Option<&str>) -> Result<(), String> {
    let (handle, first) = FILTER.get().ok_or("this process does not log")?;
    let filter = EnvFilter::try_new(filter.unwrap_or(first)).map_err(|error| error.to_string())?;
    handle.reload(filter).map_err(|error| error.to_string())
}
