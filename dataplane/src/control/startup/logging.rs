//! The log: lines for people, JSON or the journal, at a level that changes while the daemon runs.

use std::sync::Arc;

use config::{Log, LogFormat, LogLevel};
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: Option<reload::Handle<LevelFilter, Registry>>,
    levels: Arc<Mutex<Levels>>,
}

#[derive(Clone, Copy, Debug)]
struct Levels {
    configured: LogLevel,
    now: LogLevel,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// systemd's journal is not there.
    #[error("log.format: journald: {0}; take `human` or `json`")]
    Journal(#[from] std::io::Error),
    /// There is a log already.
    #[error("the log has been started already: {0}")]
    Twice(#[from] TryInitError),
}

/// Starts the log of this process.
///
/// # Errors
/// If the journal cannot be reached.
pub fn start(log: &Log) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let output = match log.format {
        LogFormat::Human => human().boxed(),
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed()
        }
        LogFormat::Journald => tracing_journald::layer()?.boxed(),
    };
    tracing_subscriber::registry().with(filter).with(output).try_init()?;
    Ok(LogHandle { filter: Some(handle), ..LogHandle::detached(log.level) })
}

fn human<S>() -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr)
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

impl LogHandle {
    /// Of a log that is not there.
    pub fn detached(level: LogLevel) -> Self {
        let levels = Levels { configured: level, now: level };
        Self { filter: None, levels: Arc::new(Mutex::new(levels)) }
    }

    /// The least important events that are logged.
    pub fn level(&self) -> LogLevel {
        self.levels.lock().now
    }

    /// The level of the configuration that runs.
    pub fn configured(&self) -> LogLevel {
        self.levels.lock().configured
    }

    /// Logs from this level on.
    pub fn set_level(&self, level: LogLevel) {
        self.levels.lock().now = level;
        if let Some(handle) = &self.filter
            && let Err(error) = handle.modify(|old| *old = filter(level))
        {
            tracing::error!(%error, "the log level could not be changed");
        }
    }

    /// The configuration has another level, which takes the place of one set by hand.
    pub fn set_configured(&self, level: LogLevel) {
        self.levels.lock().configured = level;
        self.set_level(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_set_by_hand_lasts_until_the_configured_one_changes() {
        let handle = LogHandle::detached(LogLevel::Info);
        handle.set_level(LogLevel::Debug);
        assert_eq!((handle.level(), handle.configured()), (LogLevel::Debug, LogLevel::Info));
        handle.set_configured(LogLevel::Warn);
        assert_eq!((handle.level(), handle.configured()), (LogLevel::Warn, LogLevel::Warn));
    }
}
