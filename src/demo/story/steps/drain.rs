//! The sidecar is told to end while a request is on its way.

use tokio::net::TcpStream;

use super::{Expecting as _, Failed, Told, admitted, held, millis};
use crate::{
    clock::Clock,
    demo::story::{
        client::{get, with_bearer},
        stage::{SPEED, Stage},
        traffic::HOST,
    },
};

pub(super) async fn play(stage: &mut Stage) -> Result<Told, Failed> {
    let sidecar = stage.take_sidecar()?;
    let (client, clock, count) = (stage.client()?, Clock::system(), stage.google.request_count());
    let mut connection = client.https(HOST).await.expecting("a tunnel to the API")?;
    let slow = with_bearer(get(HOST, &format!("/slow?ms={}", SLOW * SPEED)), &stage.placeholder);
    let request = async {
        let answer = connection.send(slow).await.expecting("the answer to the request on its way")?;
        Ok::<_, Failed>((answer, clock.now()))
    };
    let end = async {
        let seen = || "none".to_owned();
        stage.until("a request on its way", seen, || stage.google.request_count() > count).await?;
        let told = clock.now();
        let clean = sidecar.finish().await;
        Ok::<_, Failed>((told, clean, clock.now()))
    };
    let (answered, ended) = tokio::join!(request, end);
    let (answer, answered) = answered?;
    let (told, clean, ended) = ended?;

    held(answer.status == 200, "200 for the request on its way", answer.status)?;
    held(told < answered && answered <= ended, "an end that waits for the request", "an end before its answer")?;
    held(clean, "nothing cut off", "work that was cut off")?;
    admitted(stage.since(count).last())?;
    let refused = TcpStream::connect(client.proxy()).await.is_err();
    held(refused, "a closed port afterwards", "a port that still accepts")?;
    Ok(Told::new("It was told to end, as by SIGTERM, while a slow request was on its way.")
        .client(format!(
            "its answer, 200, {} later; {} after that the sidecar was gone",
            millis(told.until(answered)),
            millis(answered.until(ended))
        ))
        .google("the request, with its token, to the end")
        .because("A rolling update costs no request."))
}

/// Milliseconds that Google takes.
const SLOW: u32 = 250;
