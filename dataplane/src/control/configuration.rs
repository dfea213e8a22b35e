//! The configuration as a whole: shown, applied, compared, saved.

use std::path::Path;
use std::sync::Arc;

use api::{ApplyQuery, Changes, ErrorBody, ErrorCode, Saved, Warnings};
use config::Config;

use super::change::Rollout;
use super::{Control, Reply, model};

impl Control {
    /// The configuration that runs.
    pub fn config(&self) -> Arc<Config> {
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
        let sent = read(text).await?;
        let (before, warnings) = self
            .change(move |config| Ok(model::merge(config, &sent, query.prune)))
            .await?;
        Ok(self.changes(&before, &self.config(), warnings))
    }

    /// What applying a configuration would change; without one, how what runs differs from the file.
    ///
    /// # Errors
    /// If there is something wrong with the configuration or the file.
    pub async fn diff(&self, text: Option<String>, query: ApplyQuery) -> Reply<Changes> {
        let running = self.config();
        let Some(text) = text else {
            let file = self.read_file().await?;
            return Ok(self.changes(&file, &running, Warnings::default()));
        };
        let sent = read(text).await?;
        let after = model::merge(&running, &sent, query.prune);
        let warnings = model::check(&after)?;
        Ok(self.changes(&running, &after, Warnings { warnings, generation: 0 }))
    }

    fn changes(&self, before: &Config, after: &Config, warnings: Warnings) -> Changes {
        let changes = model::diff(before, after);
        let at_restart = model::at_restart(&changes);
        let generation = self.state().snapshot.generation;
        Changes { changes, warnings: warnings.warnings, at_restart, generation }
    }

    /// Writes the configuration that runs to the file, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn save(&self) -> Reply<Saved> {
        let (config, path) = (self.config(), self.shared.file.clone());
        let written = tokio::task::spawn_blocking(move || {
            let text = model::print(&config);
            replace_file(&path, &text).map(|()| (path, text.len() as u64))
        });
        match written.await {
            Ok(Ok((path, bytes))) => {
                self.state().file_differs = Some(false);
                tracing::info!(file = %path.display(), bytes, "configuration saved");
                Ok(Saved { path: path.display().to_string(), bytes })
            }
            Ok(Err(error)) => Err(self.cannot_write(&error.to_string())),
            Err(error) => Err(self.cannot_write(&error.to_string())),
        }
    }

    fn cannot_write(&self, error: &str) -> ErrorBody {
        let file = self.shared.file.display();
        ErrorBody::new(ErrorCode::Internal, format!("cannot write {file}: {error}"))
    }

    /// Makes what runs equal to the file, as at a start: what SIGHUP asks for.
    ///
    /// # Errors
    /// If there is something wrong with the file. Nothing has changed then.
    pub async fn reload(&self) -> Reply<Changes> {
        let (file, before) = (Arc::new(self.read_file().await?), self.config());
        let (_, warnings) = self.roll_out(Rollout::Config(Arc::clone(&file))).await?;
        self.state().file_differs = Some(false);
        Ok(self.changes(&before, &file, warnings))
    }

    async fn read_file(&self) -> Reply<Config> {
        let path = self.shared.file.clone();
        let read = tokio::task::spawn_blocking(move || model::load(&path)).await;
        read.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
    }

    /// Looks whether what runs differs from the file.
    pub(super) async fn look_at_file(&self) {
        let file = self.read_file().await;
        let mut state = self.state();
        state.file_differs = file.ok().map(|file| file != *state.config);
    }
}

async fn read(text: String) -> Reply<model::Sent> {
    let read = tokio::task::spawn_blocking(move || model::read(&text)).await;
    read.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
}

/// Writes beside the file and renames, so that a reader sees the old one or the new one.
fn replace_file(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = std::path::PathBuf::from(beside);
    let written = (|| {
        let mut file = std::fs::File::create(&beside)?;
        if let Ok(old) = std::fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        // What is half written is of no use; the error that matters is the first one.
        let _ = std::fs::remove_file(&beside);
    }
    written
}
