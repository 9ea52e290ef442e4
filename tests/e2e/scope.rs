//! What another pod can reach, asked from a network namespace of its own.

use std::{collections::BTreeSet, process::Command};

use crate::full;

/// The default doors of a sidecar without a key. Needs the right to make namespaces, so it runs in `.ci/full`.
#[test]
fn another_pod_reaches_the_health_port_and_nothing_else() {
    if !full() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    std::fs::write(dir.path().join("config.yaml"), format!("trust: {{public: {at}/trust, private: {at}/private}}\n"))
        .unwrap();
    let output = Command::new("timeout")
        .args(["60", "unshare", "--user", "--map-root-user", "--net", "bash", "-c", SCRIPT])
        .current_dir(dir.path())
        .env("BEARERD", env!("CARGO_BIN_EXE_bearerd"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    let open = |from: &str| -> BTreeSet<&str> {
        said.lines().filter_map(|line| line.strip_prefix(from)?.strip_prefix(" open ")).collect()
    };
    // The same doors are there for the pod itself: else closed ports would prove nothing.
    for door in ["127.0.0.1/14180", "127.0.0.1/14181", "127.0.0.1/14190", "127.0.0.1/14191", "::1/14190"] {
        assert!(open("inside").contains(door), "{door} is closed to the pod itself:\n{said}\n{errors}");
    }
    assert_eq!(open("outside"), BTreeSet::from(["10.99.0.1/14190", "fd99::1/14190"]), "{said}");
    assert!(said.contains("status HTTP/1.1 404"), "{said}");
    assert!(said.contains("probe HTTP/1.1 200"), "{said}");
}

/// Two namespaces on one cable. Prints which ports answer to whom; every port of ours is asked, and some beside them.
const SCRIPT: &str = r#"
set -eu
ip link set lo up
ip link add inside type veth peer name outside
mkfifo hold
unshare --net cat hold & other=$!
exec 9>hold
until [ "$(readlink "/proc/$other/ns/net")" != "$(readlink /proc/$$/ns/net)" ]; do :; done
ip link set outside netns "$other"
outside() { nsenter "--net=/proc/$other/ns/net" "$@"; }
ip addr add 10.99.0.1/24 dev inside
ip addr add fd99::1/64 dev inside nodad
ip link set inside up
outside ip link set lo up
outside ip addr add 10.99.0.2/24 dev outside
outside ip addr add fd99::2/64 dev outside nodad
outside ip link set outside up
"$BEARERD" run --config config.yaml --key none >log 2>&1 & sidecar=$!
"$BEARERD" ready --config config.yaml --wait 30s >&2 || { cat log >&2; exit 1; }
try='if timeout 2 bash -c ": <>/dev/tcp/$1" 2>/dev/null; then echo "$0 open $1"; fi'
for port in $(seq 14170 14210); do
  for address in 127.0.0.1 ::1; do bash -c "$try" inside "$address/$port"; done
  for address in 10.99.0.1 fd99::1; do outside bash -c "$try" outside "$address/$port"; done
done
ask='exec 3<>/dev/tcp/10.99.0.1/14190; printf "GET %s HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n" "$1" >&3; read -r line <&3; echo "$0 $line"'
outside timeout 5 bash -c "$ask" status /status.json
outside timeout 5 bash -c "$ask" probe /livez
kill "$sidecar" "$other"
wait
"#;
