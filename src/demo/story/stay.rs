//! A stage left standing, with lines to paste.

use super::{
    narration::Narrator,
    stage::{ACCOUNT, PROJECT, Pace, Stage},
    steps::Expecting as _,
    traffic::HOST,
};

/// Sets a new stage, on which time passes as it does, and says what can be done there.
pub(super) async fn set(narrator: &mut Narrator<'_>) -> anyhow::Result<Stage> {
    let mut stage = Stage::set(Pace::Real).await?;
    let lines = lines(&mut stage).await.map_err(|failed| anyhow::anyhow!("{}: {}", failed.expected, failed.seen))?;
    for line in lines {
        match line {
            Line::Heading(text) => narrator.heading(text)?,
            Line::Text(text) => narrator.line(&text)?,
        }
    }
    Ok(stage)
}

enum Line {
    Heading(&'static str),
    Text(String),
}

async fn lines(stage: &mut Stage) -> Result<Vec<Line>, super::Failed> {
    let content = stage.first.json();
    stage.mount.swap(&content).expecting("a key file")?;
    let addresses = stage.start().await?;
    let shown = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "off".to_owned(), |at| at.to_string());
    let [proxy, metadata, health, control] =
        [addresses.proxy, addresses.metadata, addresses.health, addresses.control].map(shown);
    let ca = stage.trust_files().ca.display().to_string();
    let curl = format!("  curl -sS --proxy http://{proxy} --cacert {ca} \\\n    ");
    let text = Line::Text;
    Ok(vec![
        Line::Heading("Left running until Ctrl-C: a new sidecar with a fake Google. To paste:"),
        text("  # a request that gets the token; Google says whose".to_owned()),
        text(format!("{curl}'https://{HOST}/storage/v1/b?project={PROJECT}'")),
        text("  # what Google receives, the token itself hidden".to_owned()),
        text(format!("{curl}https://{HOST}/echo")),
        text("  # a minting API, refused".to_owned()),
        text(format!(
            "{curl}-X POST https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
        )),
        text("  # what an SDK gets: a placeholder".to_owned()),
        text(format!(
            "  curl -sS -H 'Metadata-Flavor: Google' \\\n    \
             http://{metadata}/computeMetadata/v1/instance/service-accounts/default/token"
        )),
        text(format!("  # status (a page for your browser: http://{control}/) and metrics")),
        text(format!("  curl -sS http://{control}/status.json")),
        text(format!("  curl -sS http://{health}/metrics")),
    ])
}
