//! `token`: mints a token from the mounted credential, for debugging.
//!
//! It never asks the running sidecar, which gives no token to anyone who is not listed.

use std::process::ExitCode;

use super::{TokenArgs, process};
use crate::{check, clock::Clock, config};

/// Prints the token, or why there is none.
pub(super) fn main(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.source.load()?;
    let names: Vec<&str> = loaded.settings.credentials.iter().map(|credential| credential.name.as_str()).collect();
    anyhow::ensure!(names.contains(&args.name.as_str()), unknown(&args.name, &names));
    let runtime = process::runtime(1)?;
    let minted = runtime.block_on(mint(&loaded.settings, args));
    let token = match minted {
        Err(error) if !args.source.is_given() => anyhow::bail!("{error:#}; {}", super::GIVE_A_KEY),
        minted => minted?,
    };
    let text = String::from_utf8_lossy(token.expose());
    super::print(&if args.header { format!("Authorization: Bearer {text}\n") } else { format!("{text}\n") });
    Ok(ExitCode::SUCCESS)
}

async fn mint(settings: &config::Settings, args: &TokenArgs) -> anyhow::Result<crate::secret::Secret> {
    let exchange = check::exchange(settings, Clock::system())?;
    let TokenArgs { token, audience, parameters, .. } = args;
    let wish = check::Wish { token: *token, audience: audience.clone(), parameters: parameters.clone() };
    check::mint(settings, &args.name, wish, &exchange).await
}

fn unknown(name: &str, names: &[&str]) -> String {
    format!("no credential is called '{name}' (there is {})", names.join(", "))
}
