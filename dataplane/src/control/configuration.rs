//! The configuration as a whole: shown, applied, compared, saved.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use api::{ApplyQuery, Changes, ErrorBody, ErrorCode, Saved, Warnings};
use config::{Config, Effect, Model, Overlay, Warning};

use super::{Control, Reply, blocking};

/// Held by the save that runs: the last one to end is the last one to have looked at what runs.
static SAVING: Mutex<()> = Mutex::new(());

/// What is known of the configuration file.
#[derive(Debug, Default)]
pub(super) struct FileState {
    /// Whether what runs differs from it; `None` if it cannot be read.
    pub differs: Option<bool>,
    /// Of which file and which generation that is true.
    of: Option<(SystemTime, u64, u64)>,
}

impl Control {
    /// The configuration that runs.
    pub fn config(&self) -> Arc<Model> {
        Arc::clone(&self.state().config)
    }

    /// Changes what runs by a configuration in YAML or JSON, as one transaction.
    ///
    /// # Errors
    /// If the text is no configuration, or the outcome cannot be. Nothing has changed then.
    pub async fn apply(&self, text: String, query: ApplyQuery) -> Reply<Changes> {
        if query.dry_run {
            return self.diff(Some(text), query).await;
        }
        let changes = self.lay_over(text, "<request>".to_owned(), query.prune).await?;
        tracing::info!(changes = changes.changes.len(), "configuration applied");
        Ok(changes)
    }

    async fn lay_over(&self, text: String, file: String, prune: bool) -> Reply<Changes> {
        let sent = blocking(move || read(&text, &file)).await?;
        let changed = self.change(move |before| over(before, &sent, prune)).await?;
        let Warnings { warnings, generation } = changed.warnings;
        let compared = blocking(move || Ok(changes(&changed.before, &changed.after))).await?;
        Ok(Changes { warnings, generation, ..compared })
    }

    /// What applying a configuration would change; without one, how what runs differs from the file.
    ///
    /// # Errors
    /// If there is something wrong with the configuration or the file.
    pub async fn diff(&self, text: Option<String>, query: ApplyQuery) -> Reply<Changes> {
        let (running, path) = (self.config(), self.shared.file.clone());
        let generation = self.state().snapshot.generation;
        let compared = blocking(move || {
            let Some(text) = text else {
                let file = load(&path)?;
                return Ok(changes(&file, &running));
            };
            let sent = read(&text, "<request>")?;
            let (after, warnings) = over(&running, &sent, query.prune)?;
            Ok(Changes { warnings, ..changes(&running, &after) })
        });
        Ok(Changes { generation, ..compared.await? })
    }

    /// Writes the configuration that runs to the file, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn save(&self) -> Reply<Saved> {
        let (control, path) = (self.clone(), self.shared.file.clone());
        let saved = blocking(move || {
            let _saving = SAVING.lock().unwrap_or_else(PoisonError::into_inner);
            let text = config::to_yaml(&control.config())?;
            replace_file(&path, &text).map_err(|error| {
                let message = format!("cannot write {}: {error}", path.display());
                ErrorBody::new(ErrorCode::Internal, message)
            })?;
            Ok(Saved { path: path.display().to_string(), bytes: text.len() as u64 })
        });
        let saved = saved.await?;
        tracing::info!(file = saved.path, bytes = saved.bytes, "configuration saved");
        Ok(saved)
    }

    /// Makes the sections that the file has equal to it: what SIGHUP asks for.
    ///
    /// # Errors
    /// If there is something wrong with the file. Nothing has changed then.
    pub async fn reload(&self) -> Reply<Changes> {
        let path = self.shared.file.clone();
        let file = path.display().to_string();
        let text = blocking(move || read_file(&path)).await?;
        self.lay_over(text, file, true).await
    }

    /// Looks whether what runs differs from the file, if either has changed since.
    pub(super) async fn look_at_file(&self) {
        let path = self.shared.file.clone();
        let stamp = blocking(move || Ok(stamp(&path))).await.ok().flatten();
        let (running, generation, known) = {
            let state = self.state();
            (Arc::clone(&state.config), state.snapshot.generation, state.file.of)
        };
        let of = stamp.map(|(modified, len)| (modified, len, generation));
        if of.is_some() && of == known {
            return;
        }
        let path = self.shared.file.clone();
        let compare = move || {
            let file = load(&path)?;
            Ok(file.config() != running.config())
        };
        let differs = blocking(compare).await.ok();
        self.state().file = FileState { differs, of };
    }
}

fn read(text: &str, file: &str) -> Reply<Overlay> {
    Overlay::parse(text, file).map_err(|errors| ErrorBody::from_config(errors.errors))
}

fn over(before: &Model, sent: &Overlay, prune: bool) -> Reply<(Arc<Model>, Vec<Warning>)> {
    let (after, warnings) = sent.apply(before, prune).map_err(ErrorBody::from_config)?;
    Ok((Arc::new(after), warnings))
}

fn changes(before: &Config, after: &Config) -> Changes {
    let changes = config::diff(before, after);
    let late = changes.iter().filter(|change| change.effect == Effect::Restart);
    let at_restart = late.map(|change| change.path.clone()).collect();
    Changes { changes, at_restart, ..Changes::default() }
}

fn load(path: &Path) -> Reply<Model> {
    let text = read_file(path)?;
    let loaded = config::load(&text, &path.display().to_string());
    let (model, _) = loaded.map_err(|errors| ErrorBody::from_config(errors.errors))?;
    Ok(model)
}

fn read_file(path: &Path) -> Reply<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        ErrorBody::new(ErrorCode::NotFound, message)
    })
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Writes beside the file and renames, so that a reader sees the old one or the new one. One call at a
/// time.
fn replace_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    // A process of our number may have been killed while it wrote.
    let _ = std::fs::remove_file(&beside);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        if let Ok(old) = std::fs::metadata(path) {
            if let Err(error) = fchown(&file, Some(old.uid()), Some(old.gid())) {
                tracing::warn!(%error, "the configuration file changes its owner");
            }
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    })();
    if written.is_err() {
        // What is half written is of no use; the error that matters is the first one.
        let _ = std::fs::remove_file(&beside);
    }
    written
}
