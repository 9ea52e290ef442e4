//! What is counted while the names of routes and entries come and go.

use bearerd::{
    app::Settings,
    credential::Want,
    policy::{Policy, Route, Unmatched},
};
use http::StatusCode;

use crate::{
    bed::{Bed, STORAGE, apis},
    client::{Door, eventually, get, whole},
    handouts::entry,
};

/// `bearerd.dev/route.<name>` may be changed on a running pod by whoever can patch it, as often as there is time for.
const ROUNDS: usize = 250;
const AT_ONCE: usize = 64;

fn of_round(settings: &Settings, round: usize) -> Settings {
    let route = |number| Route {
        name: format!("r{round}-{number}"),
        paths: vec![format!("/r{round}-{number}"), "/drip".to_owned()],
        ..Route::google_apis(apis())
    };
    let routes = (0..AT_ONCE).map(route).chain([Route::google_apis(apis())]).collect();
    let mut settings = settings.clone();
    settings.policy = Policy::new(routes, Unmatched::Pass, apis());
    settings.tokens =
        (0..AT_ONCE).map(|number| entry(&format!("e{round}-{number}"), "default", Want::Access)).collect();
    settings
}

#[tokio::test]
async fn names_that_are_gone_leave_the_metrics_page_and_what_stays_is_counted_on() {
    let mut settings = None;
    let bed = Bed::with(|own| settings = Some(own.clone())).await;
    let settings = settings.unwrap();
    let mut client = bed.client(Door::Forward, STORAGE).await;
    let of_default = "http_requests_total{code=\"200\",method=\"GET\",route=\"google-apis\"}";
    assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK);
    eventually("its count", || bed.metric(of_default) == 1).await;
    let before = bed.ground.metrics.render().len();
    for round in 0..ROUNDS {
        bed.sidecar().apply(of_round(&settings, round));
        assert_eq!(client.call(get(&format!("/r{round}-7"))).await.status(), StatusCode::NOT_FOUND);
    }
    let page = bed.ground.metrics.render();
    assert!(page.len() < before + 200 * 1024, "{} bytes", page.len());
    let newest = format!("=\"r{}-", ROUNDS - 1);
    assert!(page.contains(&newest) && !page.contains("=\"r0-") && !page.contains("=\"e0-"), "{page}");
    // What is in flight ends under a name that is gone by then.
    let streaming = client.send(get("/drip?chunks=20&ms=1")).await;
    bed.sidecar().apply(settings);
    whole(streaming).await;
    eventually("nothing in flight", || bed.ground.tasks.in_flight() == 0).await;
    let page = bed.ground.metrics.render();
    assert!(!page.contains(&newest) && !page.contains("entry=\""), "{page}");
    assert_eq!(client.call(get("/echo")).await.status(), StatusCode::OK);
    eventually("its count", || bed.metric(of_default) == 2).await;
}
