//! `exec`: a sidecar and a command beside it, on a laptop or a VM.

use std::{
    net::SocketAddr,
    os::unix::{fs::DirBuilderExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context as _;
use tokio::process::Command;

use super::{ExecArgs, env, process};
use crate::{
    app::{Ground, Listeners, Metadata, Settings, Sidecar, from_config, trust},
    clock::Clock,
    environment::{self, Proxy, Trust, Wanted},
    secret::Secret,
    telemetry,
};

/// Runs the command; its exit status is ours.
pub(super) fn main(args: ExecArgs) -> anyhow::Result<ExitCode> {
    if args.source.config.is_none() && args.source.key.is_none() {
        return Ok(super::usage("no credential: give --key PATH or --config FILE before the `--`"));
    }
    let loaded = args.source.load()?;
    // The command's own output is what the user wants to see; ours only when something is wrong.
    telemetry::start(telemetry::Format::Text, args.source.log_level.as_deref().unwrap_or("error"));
    process::report_panics();
    process::close_to_others();
    let private = PrivateFolder::make()?;
    let project = env::project(&loaded.settings);
    let password = format!("bearerd:{:032x}", rand::random::<u128>());
    let settings = local(from_config::settings(&loaded.settings)?, &private.path, &password);
    let runtime = process::runtime(1).context("cannot start the runtime")?;
    let status = runtime.block_on(async {
        let ground = Ground::new(Clock::system())?;
        let metadata = env::metadata_is_on(settings.metadata);
        let sidecar = Sidecar::start(settings, ground.clone())?;
        wait(&ground).await;
        let wanted = wanted(&sidecar, &private.path, metadata, project, &password, args.http_proxy);
        let status = command(&args.command, &wanted, &ground).await;
        sidecar.finish().await;
        status
    })?;
    Ok(ExitCode::from(exit_code(status)))
}

/// Free ports, files of our own, and a password: loopback is shared with every user of the machine.
fn local(settings: Settings, folder: &Path, password: &str) -> Settings {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Settings {
        listeners: Listeners { proxy: any, metadata: any, health: None, control: None },
        trust: trust::Settings { public: folder.join("trust"), private: folder.join("private") },
        wait_for: crate::app::WaitFor::Token,
        // The metadata door asks for no password, so what it gives every user of the machine can have.
        metadata: match settings.metadata {
            Metadata::Token => Metadata::Placeholder,
            other => other,
        },
        password: Some(Secret::from(password.to_owned())),
        ..settings
    }
}

/// The command starts when there is a token, or after a while without one: its own errors then say why.
async fn wait(ground: &Ground) {
    for _ in 0..WAITS {
        if ground.ready.is_ready() {
            return;
        }
        tokio::time::sleep(WAIT).await;
    }
    for (condition, reason) in ground.ready.unmet() {
        super::complain(&format!("starting the command without {condition}: {reason}"));
    }
}

fn wanted(
    sidecar: &Sidecar,
    folder: &Path,
    metadata: bool,
    project: Option<String>,
    password: &str,
    http_proxy: bool,
) -> Wanted {
    let addresses = sidecar.addresses();
    Wanted {
        proxy: addresses.proxy.map(|address| Proxy { address, user_info: Some(password.to_owned()) }),
        metadata: addresses.metadata.filter(|_| metadata),
        trust: Some(Trust::under(&folder.join("trust").display().to_string())),
        project,
        http_proxy,
        ..Wanted::default()
    }
}

async fn command(words: &[String], wanted: &Wanted, ground: &Ground) -> anyhow::Result<ExitStatus> {
    let variables = environment::environment(wanted, &env::existing());
    for warning in environment::warnings(&variables) {
        super::complain(&warning);
    }
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    for variable in &variables {
        command.env(variable.name, &variable.value);
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let mut ending = process::Ending::listen().context("cannot listen for signals")?;
    loop {
        tokio::select! {
            status = child.wait() => return status.with_context(|| format!("cannot wait for {program}")),
            // Ctrl-C reaches the command by itself, as one of the terminal's group; SIGTERM is passed on.
            signal = ending.next() => if signal == "SIGTERM" && let Some(pid) = child.id() {
                terminate(pid);
            },
        }
        ground.tasks.drain();
    }
}

fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
    {
        super::complain(&format!("cannot pass on SIGTERM: {error}"));
    }
}

/// As shells report it: 128 and the signal's number when a signal ended the command.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// A folder that only this user can enter, removed at the end.
struct PrivateFolder {
    path: PathBuf,
}

impl PrivateFolder {
    fn make() -> anyhow::Result<Self> {
        let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = base.join(format!("bearerd-{:016x}", rand::random::<u64>()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

const WAITS: u32 = 200;
const WAIT: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_without_a_password_gives_no_real_token() {
        let flags = crate::config::Flags { key: Some("/nowhere".into()), ..Default::default() };
        let loaded = crate::app::Origin { flags, ..Default::default() }.load().unwrap();
        for (configured, given) in [
            (Metadata::Token, Metadata::Placeholder),
            (Metadata::Placeholder, Metadata::Placeholder),
            (Metadata::Off, Metadata::Off),
        ] {
            let settings = from_config::settings(&loaded.settings).unwrap();
            let settings = local(Settings { metadata: configured, ..settings }, Path::new("/tmp"), "user:password");
            assert_eq!(settings.metadata, given);
            assert!(settings.password.is_some() && settings.listeners.control.is_none());
        }
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (raw, code) in [(0, 0), (3 << 8, 3), (15, 143), (9, 137)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), code);
        }
    }

    #[test]
    fn the_folder_is_private_and_goes_away() {
        use std::os::unix::fs::PermissionsExt;
        let folder = PrivateFolder::make().unwrap();
        let path = folder.path.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
