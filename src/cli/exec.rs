//! `exec`: a sidecar and a command beside it, on a laptop or a VM.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context as _;
use tokio::process::Command;

use super::{ExecArgs, env, process};
use crate::{
    app::{Ground, Listeners, Metadata, Settings, Sidecar, from_config, trust},
    check,
    clock::Clock,
    environment::{self, Existing, Proxy, Trust, Wanted},
    secret::Secret,
    shutdown::DrainSettings,
    telemetry,
};

/// Runs the command; its exit status is ours.
pub(super) fn main(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    if !args.source.is_given() {
        return Ok(super::usage("no credential: give --key PATH or --config FILE before the `--`"));
    }
    let (program, arguments) = args.command.split_first().context("no command")?;
    // Before anything is started: a slip of the pen should not cost a wait for a token.
    if let Some((status, problem)) = cannot_run(program) {
        super::complain(&format!("cannot run {program}: {problem}"));
        return Ok(ExitCode::from(status));
    }
    let loaded = args.source.load()?;
    for spec in &loaded.settings.credentials {
        if let Some(why) = check::unusable(spec) {
            anyhow::bail!("credential '{}' has no usable key: {why}", spec.name.as_str());
        }
    }
    // The command's own output is what the user wants to see; ours only when something is wrong.
    telemetry::start(telemetry::Format::Text, args.log.log_level.as_deref().unwrap_or("error"));
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
        wait(&sidecar).await;
        let mut existing = env::existing();
        let trust = trust_with_roots_of(&mut existing, &private.path)?;
        let addresses = sidecar.addresses();
        let wanted = Wanted {
            proxy: addresses.proxy.map(|address| Proxy { address, user_info: Some(password) }),
            metadata: addresses.metadata.filter(|_| metadata),
            trust: Some(trust),
            project,
            http_proxy: args.http_proxy,
            ..Wanted::default()
        };
        let status = command(program, arguments, &wanted, &existing, &ground).await;
        sidecar.finish().await;
        status
    })?;
    Ok(ExitCode::from(exit_code(status)))
}

/// Why a program will not start, with the status that shells give.
fn cannot_run(program: &str) -> Option<(u8, &'static str)> {
    let is_program =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let places: Vec<PathBuf> = if program.contains('/') {
        vec![PathBuf::from(program)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
    };
    if places.iter().any(|path| is_program(path)) {
        return None;
    }
    match places.iter().any(|path| path.is_file()) {
        true => Some((126, "it may not be executed")),
        false if program.contains('/') => Some((127, "there is no such file")),
        false => Some((127, "it is not in PATH")),
    }
}

/// Free ports, files of our own, and a password: loopback is shared with every user of the machine. When the command has
/// ended, nothing more can come.
fn local(settings: Settings, folder: &Path, password: &str) -> Settings {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Settings {
        // The token API gives real tokens and asks for no password: every user of the machine could have them.
        listeners: Listeners { proxy: any, metadata: any, token_api: None, health: None, control: None },
        // An MQTT client has no way to show that it may use the credential.
        mqtt: Vec::new(),
        trust: trust::Settings { public: folder.join("trust"), private: folder.join("private") },
        wait_for: crate::app::WaitFor::Token,
        // The metadata door asks for no password, so what it gives every user of the machine can have.
        metadata: match settings.metadata {
            Metadata::Token => Metadata::Placeholder,
            other => other,
        },
        password: Some(Secret::from(password.to_owned())),
        drain: DrainSettings { linger: Duration::ZERO, ..settings.drain },
        ..settings
    }
}

/// The command starts when there is a token, or after a while without one: its own errors then say why.
async fn wait(sidecar: &Sidecar) {
    for look in 0..WAITS {
        let unmet = sidecar.unmet();
        if unmet.is_empty() {
            return;
        }
        if look == SILENT_WAITS {
            super::complain(&format!("waiting for {}", reasons(&unmet)));
        }
        tokio::time::sleep(WAIT).await;
    }
    super::complain(&format!("starting the command without {}", reasons(&sidecar.unmet())));
}

fn reasons(unmet: &[(String, String)]) -> String {
    let one = |(condition, reason): &(String, String)| format!("{condition}: {reason}");
    unmet.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The sidecar's trust files, with the roots that the user's variables name added to them, and those variables taken off
/// `existing`: the command goes on trusting what it trusted. The sidecar itself does not.
fn trust_with_roots_of(existing: &mut BTreeMap<String, Existing>, folder: &Path) -> anyhow::Result<Trust> {
    let mut trust = Trust::under(&folder.join("trust").display().to_string());
    let mut added: Vec<(String, Vec<u8>)> = Vec::new();
    let mut has_extra = false;
    for name in environment::BUNDLES.into_iter().chain([environment::EXTRA]) {
        let Some(Existing::Literal(path)) = existing.get(name) else { continue };
        if !added.iter().any(|(known, _)| known == path) {
            // One that cannot be read is kept, and reported as such.
            let Some(roots) = certificates(path) else { continue };
            added.push((path.clone(), roots));
        }
        has_extra |= name == environment::EXTRA;
        existing.remove(name);
    }
    if added.is_empty() {
        return Ok(trust);
    }
    let mut roots = fs::read(&trust.bundle).unwrap_or_default();
    for (_, more) in added {
        roots.push(b'\n');
        roots.extend(more);
    }
    let path = folder.join("roots.pem");
    fs::write(&path, roots).with_context(|| format!("cannot write {}", path.display()))?;
    trust.bundle = path.display().to_string();
    if has_extra {
        trust.ca.clone_from(&trust.bundle);
    }
    Ok(trust)
}

/// A file of certificates in PEM.
fn certificates(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = Path::new(path);
    if !file.is_file() {
        return None;
    }
    fs::File::open(file).ok()?.take(MOST_ROOTS).read_to_end(&mut bytes).ok()?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    bytes.windows(begin.len()).any(|window| window == begin).then_some(bytes)
}

async fn command(
    program: &str,
    arguments: &[String],
    wanted: &Wanted,
    existing: &BTreeMap<String, Existing>,
    ground: &Ground,
) -> anyhow::Result<ExitStatus> {
    let variables = environment::environment(wanted, existing);
    for warning in environment::warnings(&variables) {
        super::complain(&warning);
    }
    let mut command = Command::new(program);
    command.args(arguments);
    for variable in &variables {
        command.env(variable.name, &variable.value);
    }
    let mut ending = process::Ending::listen().context("cannot listen for signals")?;
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    loop {
        tokio::select! {
            status = child.wait() => return status.with_context(|| format!("cannot wait for {program}")),
            // Ctrl-C reaches the command by itself, as one of the terminal's group; the others are passed on.
            signal = ending.next() => if signal != "SIGINT" && let Some(pid) = child.id() {
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
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
        let base = runtime.unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("bearerd-{:016x}", rand::random::<u64>()));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Ten seconds, of which the first is silent.
const WAITS: u32 = 200;
const SILENT_WAITS: u32 = 20;
const WAIT: Duration = Duration::from_millis(50);
/// The public roots are a quarter of a megabyte.
const MOST_ROOTS: u64 = 4 * 1024 * 1024;

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
            assert_eq!(settings.listeners.token_api, None);
        }
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (raw, code) in [(0, 0), (3 << 8, 3), (15, 143), (9, 137)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), code);
        }
    }

    #[test]
    fn programs_are_looked_for_as_shells_do() {
        assert_eq!(cannot_run("sh"), None);
        assert_eq!(cannot_run("/bin/sh"), None);
        for (program, status) in [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126)] {
            assert_eq!(cannot_run(program).map(|(status, _)| status), Some(status), "{program}");
        }
    }

    #[test]
    fn roots_that_the_command_trusted_stay_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(folder.path().join("trust")).unwrap();
        fs::write(file("trust/bundle.pem"), "ours").unwrap();
        fs::write(file("corporate.pem"), "-----BEGIN CERTIFICATE-----\ntheirs").unwrap();
        fs::write(file("other"), "no certificate").unwrap();
        let set =
            [("SSL_CERT_FILE", "corporate.pem"), ("CURL_CA_BUNDLE", "corporate.pem"), ("HTTPLIB2_CA_CERTS", "other")];
        let mut existing = BTreeMap::from(set.map(|(name, path)| (name.to_owned(), Existing::Literal(file(path)))));
        let trust = trust_with_roots_of(&mut existing, folder.path()).unwrap();
        assert_eq!(existing.keys().collect::<Vec<_>>(), ["HTTPLIB2_CA_CERTS"]);
        assert_eq!(fs::read_to_string(&trust.bundle).unwrap(), "ours\n-----BEGIN CERTIFICATE-----\ntheirs");
        assert_eq!(trust.ca, file("trust/ca.pem"));
        assert_eq!(trust_with_roots_of(&mut BTreeMap::new(), folder.path()).unwrap(), Trust::under(&file("trust")));
    }

    #[test]
    fn the_folder_is_private_and_goes_away() {
        use std::os::unix::fs::PermissionsExt;
        let folder = PrivateFolder::make().unwrap();
        let path = folder.path.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
