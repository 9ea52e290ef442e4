//! The settings file, followed: a bad new version keeps the last good one.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    app::Ground,
    inject::Settings,
    watch::{self as looks, Pace},
};

/// Reads the settings; the error is everything that is wrong, a line each.
pub(super) fn read(path: &Path) -> Result<Settings, Vec<String>> {
    let name = path.display().to_string();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(vec![format!("{name}: {error}")]),
        Ok(_) if text.len() as u64 > MOST_BYTES => Err(vec![format!("{name}: larger than {MOST_BYTES} bytes")]),
        Ok(_) => Settings::read(&text, &name).map_err(|found| found.iter().map(ToString::to_string).collect()),
    }
}

/// Publishes what the file holds after each change, until everything is ended.
pub(super) async fn follow(path: PathBuf, publish: watch::Sender<Arc<Settings>>, ground: Ground) {
    let mut looks = looks::start(path.clone(), Pace::default(), ground.clock, &ground.tasks);
    let mut refused: Option<Vec<String>> = None;
    while looks.changed().await.is_ok() {
        match read(&path) {
            Ok(settings) => {
                refused = None;
                let settings = Arc::new(settings);
                let is_new = publish.send_if_modified(|held| {
                    let is_new = **held != *settings;
                    *held = settings;
                    is_new
                });
                if is_new {
                    ground.metrics.config_reloads.inc();
                    tracing::info!("the changed settings are in use");
                }
            }
            Err(problems) => {
                if refused.as_ref() == Some(&problems) {
                    continue;
                }
                ground.metrics.config_reload_failures.inc();
                for problem in &problems {
                    tracing::error!("the changed settings are not used: {problem}");
                }
                refused = Some(problems);
            }
        }
    }
}

/// As much as a ConfigMap holds.
const MOST_BYTES: u64 = 1024 * 1024;
