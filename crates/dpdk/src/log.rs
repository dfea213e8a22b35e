//! DPDK's log, handed to whoever asks for it.

use std::collections::VecDeque;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, RwLock};

/// How grave a message of DPDK is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed (DPDK's emergency to error).
    Error,
    /// Something is not as it should be.
    Warning,
    /// What happens (DPDK's notice and info).
    Info,
    /// Details.
    Debug,
}

type Sink = fn(LogLevel, &str);

/// Complaints kept for the next error message.
const KEPT_LINES: usize = 8;

static SINK: RwLock<Option<Sink>> = RwLock::new(None);
static COMPLAINTS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Sends each line that DPDK logs from now on to `sink`, on the thread that logs it. Without a sink
/// errors and warnings go to standard error.
pub fn set_log_sink(sink: fn(LogLevel, &str)) {
    *SINK.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
}

/// Makes DPDK write its log here. To be called before EAL starts.
pub(crate) fn open() {
    // SAFETY: `receive` has the signature that the shim wants and never unwinds. A failure (out of
    // memory) leaves DPDK's own stream in place.
    unsafe { dpdk_sys::dpnat_log_open(Some(receive)) };
}

/// Forgets the complaints so far.
pub(crate) fn forget_complaints() {
    COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// DPDK's errors and warnings since the last call, as the tail of an error message: empty, or
/// starting with "; DPDK says: ".
pub(crate) fn take_complaints() -> String {
    let mut kept = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = kept.drain(..).collect();
    format!("; DPDK says: {}", lines.join(" | "))
}

/// Says something of our own in DPDK's log.
pub(crate) fn say(level: LogLevel, line: &str) {
    let sink = *SINK.read().unwrap_or_else(PoisonError::into_inner);
    match sink {
        Some(sink) => sink(level, line),
        None if level <= LogLevel::Warning => eprintln!("{line}"),
        None => {}
    }
}

unsafe extern "C" fn receive(level: u32, text: *const c_char, len: usize) {
    if text.is_null() || len == 0 {
        return;
    }
    // SAFETY: the shim hands on the buffer and length that stdio gave it, valid for the call.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    // A panic in the sink must not run through C frames; the line is lost then.
    let _ = catch_unwind(AssertUnwindSafe(|| take_in(level, &String::from_utf8_lossy(bytes))));
}

fn take_in(level: u32, text: &str) {
    let level = match level {
        0..=4 => LogLevel::Error,
        5 => LogLevel::Warning,
        6 | 7 => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if level <= LogLevel::Warning {
            let mut kept = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line.to_owned());
        }
        say(level, line);
    }
}
