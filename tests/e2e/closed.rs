//! The program itself, as a process among others.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::{Command, Stdio},
};

/// The kernel gives what is not dumpable to root, and to root alone: another program of the same user reads neither
/// its memory nor its environment.
#[test]
fn the_running_sidecar_is_closed_to_its_own_user() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("bearerd");
    fs::copy(env!("CARGO_BIN_EXE_bearerd"), &program).unwrap();
    let config = dir.path().join("config.yaml");
    let listeners = "{proxy: 127.0.0.1:0, metadata: 127.0.0.1:0, health: 127.0.0.1:0, control: 127.0.0.1:0}";
    let trust = format!("{{public: {0}/trust, private: {0}/private}}", dir.path().display());
    fs::write(&config, format!("listeners: {listeners}\ntrust: {trust}\n")).unwrap();
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(&config).arg("--key").arg(dir.path().join("none"));
    // As root, everything belongs to root anyway.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let started = lines.by_ref().map(Result::unwrap).any(|line| line.contains("listening"));
    let of = |name: &str| format!("/proc/{}/{name}", child.id());
    let owners = ["environ", "mem", "maps"].map(|name| fs::metadata(of(name)).map(|facts| facts.uid()).ok());
    let limits = fs::read_to_string(of("limits")).unwrap_or_default();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(started, "it did not start");
    assert_eq!(owners, [Some(0); 3]);
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}
