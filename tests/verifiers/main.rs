//! rustls in the verifier matrix: what a stolen CA key can and cannot do. The other verifiers, which need
//! their own tools, are in `tests/clients/verifiers/run`.

#![expect(clippy::unwrap_used, reason = "test code: a failure here is a failed test")]

mod forge;

use std::{fs, sync::Arc};

use bearerd::tls::{client_config, client_roots};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, pki_types::ServerName};

#[test]
fn rustls_takes_good_leaves_and_refuses_forged_ones() {
    let place = tempfile::tempdir().unwrap();
    let (trust, cases) = forge::cases(place.path());
    let roots = client_roots(Some(&fs::read(trust.bundle).unwrap())).unwrap();
    let client = client_config(roots, &[]).unwrap();
    let wrong: Vec<_> = cases
        .iter()
        .filter(|case| is_accepted(&client, &case.config, &case.host) != case.accept)
        .map(|case| &case.name)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn is_accepted(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, host: &str) -> bool {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    server.read_tls(&mut bytes.as_slice()).unwrap();
    server.process_new_packets().unwrap();
    bytes.clear();
    server.write_tls(&mut bytes).unwrap();
    client.read_tls(&mut bytes.as_slice()).unwrap();
    client.process_new_packets().is_ok() && !client.is_handshaking()
}
