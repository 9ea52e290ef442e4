//! The main job: a request through `HTTPS_PROXY`, with the placeholder, over HTTP/1.1.

use http::header;

use super::{Expecting as _, Failed, Told, admitted, held, token};
use crate::demo::story::{
    client::{get, with_bearer},
    stage::{ACCOUNT, PROJECT, Stage},
    traffic::HOST,
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let (client, count) = (stage.client()?, stage.google.request_count());
    let mut connection = client.https(HOST).await.expecting("TLS through the sidecar")?;
    let request = with_bearer(get(HOST, &format!("/storage/v1/b?project={PROJECT}")), &stage.placeholder);
    let answer = connection.send(request).await.expecting("an answer")?;

    let seen = stage.since(count);
    held(seen.len() == 1, "one request at Google", format!("{} requests", seen.len()))?;
    let request = seen.last();
    let used = admitted(request)?;
    held(used.key_id == stage.first.key_id, "a token of the mounted key", token(used))?;
    let credentials = request.map_or(0, |request| request.headers.get_all(header::AUTHORIZATION).iter().count());
    held(credentials == 1, "one Authorization header", credentials)?;
    held(answer.status == 200, "200", answer.status)?;
    let caller = answer.json()["caller"].as_str().unwrap_or_default().to_owned();
    held(caller == ACCOUNT, "an answer for the account", caller)?;

    let received = client.received();
    Ok(Told::new("A GET over HTTPS through the proxy, with the placeholder, HTTP/1.1.")
        .client(format!("200 and its buckets; {received} bytes so far, searched: no token among them"))
        .google(format!("{} in the one Authorization header", token(used)))
        .because(
            "TLS ends in the sidecar with a leaf of this pod's own CA; the token is written only on a connection that \
             has proved the host's name.",
        ))
}
