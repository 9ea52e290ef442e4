//! The main job: a key goes in, requests come out with a token.

use crate::bed::{Bed, get};

#[tokio::test]
async fn a_forwarded_request_gets_the_token_and_goes_out_over_tls() {
    let bed = Bed::start().await;
    let response =
        bed.forward(get("storage.googleapis.com", "http://storage.googleapis.com/storage/v1/b?project=p")).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
    assert_eq!(bed.google.exchange_count(), 1);
    let requests = bed.google.requests();
    assert!(requests[0].admission.is_good(), "{:?}", requests[0]);
}

#[tokio::test]
async fn an_intercepted_request_gets_the_token_over_h1() {
    let bed = Bed::start().await;
    let response = bed.intercept(get("storage.googleapis.com", "/storage/v1/b?project=p")).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
}

#[tokio::test]
async fn an_intercepted_request_gets_the_token_over_h2() {
    let bed = Bed::start().await;
    let request = http::Request::get("https://storage.googleapis.com/storage/v1/b?project=p");
    let response = bed.intercept_h2(request.body(Default::default()).unwrap()).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
}
