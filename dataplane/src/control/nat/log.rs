//! The log of NAT: workers' records, written as JSON lines by a thread of its own.

mod line;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use api::{ErrorBody, ErrorCode};
use config::{Config, NatEvents};
use parking_lot::Mutex;
use types::Now;

use crate::control::compile::GatewayNames;
use crate::control::workers::Workers;
use crate::control::{Control, Reply, State, blocking};
use crate::worker::nat_log::NatRecord;

/// Batches that wait for the writer, at most; then records wait in the workers' rings.
const BATCHES: usize = 64;
/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;
/// Lines are in the file after so long.
const FLUSH: Duration = Duration::from_secs(1);

/// Records that came at a time.
struct Batch {
    records: Vec<NatRecord>,
    names: Arc<GatewayNames>,
    taken: (SystemTime, Now),
}

/// What control and the writer share.
#[derive(Debug, Default)]
struct Common {
    /// Batches under way.
    queued: AtomicUsize,
    /// The file to go on with.
    next: Mutex<Option<File>>,
    /// Why lines are not written.
    problem: Mutex<Option<String>>,
}

/// A log that is written. It ends when it is dropped, with all that it was given.
#[derive(Debug)]
pub(in crate::control) struct NatLog {
    path: PathBuf,
    batches: Option<SyncSender<Batch>>,
    common: Arc<Common>,
    writer: Option<JoinHandle<()>>,
}

/// Opens a log to go on at its end.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl NatLog {
    fn start(path: PathBuf, file: File) -> std::io::Result<Self> {
        let (batches, taken) = sync_channel(BATCHES);
        let common = Arc::new(Common::default());
        let writer = Writer::new(Arc::clone(&common), path.clone(), file);
        let writer = std::thread::Builder::new()
            .name("nat-log".to_owned())
            .spawn(move || writer.run(&taken))?;
        Ok(Self { path, batches: Some(batches), common, writer: Some(writer) })
    }

    /// Hands on what the workers have told. True if there was anything.
    pub fn take(&self, workers: &mut Workers, names: &Arc<GatewayNames>, now: Now) -> bool {
        let Some(batches) = &self.batches else { return false };
        if self.common.queued.load(Ordering::Acquire) >= BATCHES {
            return false;
        }
        let mut records = Vec::new();
        workers.take_nat_log(&mut records);
        if records.is_empty() {
            return false;
        }
        let batch = Batch { records, names: Arc::clone(names), taken: (SystemTime::now(), now) };
        self.common.queued.fetch_add(1, Ordering::AcqRel);
        // There is room, since nobody else sends; without its writer the log has a problem already.
        let _ = batches.try_send(batch);
        true
    }

    /// Why lines are not written, for people.
    pub fn problem(&self) -> Option<String> {
        self.common.problem.lock().clone()
    }

    /// Waits until all is written.
    fn finish(mut self) {
        self.batches = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log of NAT ended by a fault of ours");
        }
    }
}

/// The thread that writes.
struct Writer {
    common: Arc<Common>,
    path: PathBuf,
    out: BufWriter<File>,
    flushed: Instant,
}

impl Writer {
    fn new(common: Arc<Common>, path: PathBuf, file: File) -> Self {
        let out = BufWriter::with_capacity(BUFFER, file);
        Self { common, path, out, flushed: Instant::now() }
    }

    fn run(mut self, batches: &Receiver<Batch>) {
        loop {
            let wait = FLUSH.saturating_sub(self.flushed.elapsed());
            let received = batches.recv_timeout(wait);
            let next = self.common.next.lock().take();
            if let Some(file) = next {
                self.flush();
                self.out = BufWriter::with_capacity(BUFFER, file);
            }
            match received {
                Ok(batch) => {
                    self.common.queued.fetch_sub(1, Ordering::AcqRel);
                    let written = self.write(&batch);
                    self.note(written);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.flush();
                    return;
                }
            }
            if self.flushed.elapsed() >= FLUSH {
                self.flush();
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> std::io::Result<()> {
        for record in &batch.records {
            line::write(&mut self.out, record, &batch.names, batch.taken)?;
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        let any = !self.out.buffer().is_empty();
        let flushed = self.out.flush();
        if any && flushed.is_ok() && self.common.problem.lock().take().is_some() {
            tracing::info!(file = %self.path.display(), "the log of NAT is written again");
        }
        self.note(flushed);
    }

    /// A fault is logged once and told until lines are written again.
    fn note(&mut self, written: std::io::Result<()>) {
        let Err(error) = written else { return };
        let message = format!("nat_log.file: cannot write {}: {error}", self.path.display());
        if self.common.problem.lock().replace(message).is_none() {
            let file = self.path.display();
            tracing::error!(%file, %error, "the log of NAT cannot be written: lines are lost");
        }
        // What could not be written is given up, so that it is not in the way of what comes.
        if let Ok(file) = self.out.get_ref().try_clone() {
            let out = BufWriter::with_capacity(BUFFER, file);
            let (_file, _lost) = std::mem::replace(&mut self.out, out).into_parts();
        }
    }
}

/// What a change does to the log.
#[derive(Debug, Default)]
pub(in crate::control) enum Switch {
    /// Nothing.
    #[default]
    Stay,
    /// It ends.
    End,
    /// It goes on in this file.
    To(PathBuf, File),
}

fn refused(path: &Path, error: &std::io::Error) -> ErrorBody {
    let message = format!("nat_log.file: cannot open {}: {error}", path.display());
    let mut body = ErrorBody::new(ErrorCode::Invalid, message);
    body.error.field = Some("nat_log.file".to_owned());
    body.error.value = Some(path.display().to_string());
    body
}

async fn opened(path: PathBuf) -> Reply<(PathBuf, File)> {
    blocking(move || match open(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(refused(&path, &error)),
    })
    .await
}

impl Control {
    /// What a configuration makes of the log.
    ///
    /// # Errors
    /// If its file cannot be opened.
    pub(in crate::control) async fn nat_log_for(&self, config: &Config) -> Reply<Switch> {
        let running = self.state().nat_log.as_ref().map(|log| log.path.clone());
        let path = PathBuf::from(&config.nat_log.file);
        match (config.nat_log.events, running) {
            (NatEvents::Off, None) => Ok(Switch::Stay),
            (NatEvents::Off, Some(_)) => Ok(Switch::End),
            (_, Some(running)) if running == path => Ok(Switch::Stay),
            _ => opened(path).await.map(|(path, file)| Switch::To(path, file)),
        }
    }

    /// Goes on in a new file of the same name, after the old one was moved away.
    ///
    /// # Errors
    /// If it cannot be opened: the log goes on in the old one.
    pub async fn reopen_nat_log(&self) -> Reply<()> {
        let running = self.state().nat_log.as_ref().map(|log| log.path.clone());
        let Some(path) = running else { return Ok(()) };
        let (path, file) = opened(path).await?;
        if let Some(log) = self.state().nat_log.as_ref().filter(|log| log.path == path) {
            *log.common.next.lock() = Some(file);
        }
        Ok(())
    }
}

impl State {
    /// Hands on what the workers have told for the log of NAT. True if there was anything.
    pub(in crate::control) fn take_nat_log(&mut self) -> bool {
        let Self { nat_log, workers, gateway_names, clock, .. } = self;
        nat_log.as_ref().is_some_and(|log| log.take(workers, gateway_names, clock.now()))
    }

    /// The configuration that this belongs to runs.
    pub(in crate::control) fn switch_nat_log(&mut self, switch: Switch) {
        match switch {
            Switch::Stay => {}
            Switch::End => {
                self.take_nat_log();
                self.nat_log = None;
            }
            Switch::To(path, file) => match NatLog::start(path, file) {
                Ok(log) => self.nat_log = Some(log),
                Err(error) => tracing::error!(%error, "the log of NAT has no thread"),
            },
        }
    }

    /// Writes what is left.
    pub(in crate::control) fn end_nat_log(&mut self) {
        while self.take_nat_log() {}
        if let Some(log) = self.nat_log.take() {
            log.finish();
        }
    }
}
