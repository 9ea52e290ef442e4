//! Where a token must not go: a look-alike, a request that names two hosts, an API that makes credentials.

use http::Method;

use super::{Expecting as _, Failed, Told, held};
use crate::demo::story::{
    client::{Answer, get, request, with_bearer},
    stage::{ACCOUNT, EVIL, Stage},
    traffic::HOST,
};

pub(super) async fn play(stage: &Stage) -> Result<Told, Failed> {
    let count = stage.google.request_count();
    let bytes = look_alike(stage).await?;
    let two_names = two_names(stage).await?;
    let minting = minting(stage).await?;
    let reached = stage.google.request_count() - count;
    held(reached == 0, "refused requests of which Google sees nothing", format!("{reached} requests"))?;

    Ok(Told::new(format!(
        "{EVIL} was asked over http and https; then a request named two hosts, and one wanted a new \
                          token from iamcredentials."
    ))
    .client(format!(
        "200 twice from the look-alike; {} ({}); {} ({})",
        two_names.status.as_u16(),
        two_names.reason(),
        minting.status.as_u16(),
        minting.reason()
    ))
    .row("look-alike", format!("saw {bytes} bytes in two requests: no token, and not even the placeholder"))
    .google("nothing of all this")
    .because("Hosts match by whole labels, all names must agree, and a token must not be turned into a new one."))
}

/// How many bytes it was sent.
async fn look_alike(stage: &Stage) -> Result<u64, Failed> {
    let (client, expected) = (stage.client()?, "a look-alike that can be reached as any host");
    let plain = with_bearer(get(EVIL, &format!("http://{EVIL}/")), &stage.placeholder);
    let plain = client.forward(plain).await.expecting(expected)?;
    bare(stage)?;
    // What is inside an opaque tunnel nobody can clean, so nothing is sent there that should be.
    let mut tunnel = client.https(EVIL).await.expecting(expected)?;
    let secure = tunnel.send(get(EVIL, "/")).await.expecting(expected)?;
    bare(stage)?;
    let bytes = [&stage.evil, &stage.evil_tls].map(|host| host.byte_count());
    held(bytes.iter().all(|count| *count > 0), expected, format!("{bytes:?} bytes over http and https"))?;
    let statuses = format!("{} and {}", plain.status, secure.status);
    held(plain.status == 200 && secure.status == 200, expected, statuses)?;
    Ok(bytes.iter().sum())
}

/// Nothing of worth has arrived there.
fn bare(stage: &Stage) -> Result<(), Failed> {
    let saw = |secret: &str| stage.evil.saw(secret.as_bytes()) || stage.evil_tls.saw(secret.as_bytes());
    held(!stage.tokens().iter().any(|token| saw(token)), "no token at the look-alike", "a real token there")?;
    held(!saw(&stage.placeholder), "no placeholder at the look-alike", "the placeholder there")
}

/// Inside a tunnel to one host, another is named.
async fn two_names(stage: &Stage) -> Result<Answer, Failed> {
    let mut connection = stage.client()?.https(HOST).await.expecting("a tunnel to the API")?;
    let request = with_bearer(get("pubsub.googleapis.com", "/echo"), &stage.placeholder);
    let answer = connection.send(request).await.expecting("a refusal that can be read")?;
    held(answer.status == 421, "421 for a request that names two hosts", answer.status)?;
    Ok(answer)
}

/// An API whose answer is a token that is not bound to this pod.
async fn minting(stage: &Stage) -> Result<Answer, Failed> {
    let host = "iamcredentials.googleapis.com";
    let target = format!("/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken");
    let mut connection = stage.client()?.https(host).await.expecting("a tunnel to the API")?;
    let request = with_bearer(request(Method::POST, host, &target), &stage.placeholder);
    let answer = connection.send(request).await.expecting("a refusal that can be read")?;
    held(answer.status == 403, "403 from a minting API", answer.status)?;
    Ok(answer)
}
