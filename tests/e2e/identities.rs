//! Several identities in one pod: host, method and path decide, and nothing else ever does.

use bearerd::{
    demo::{Admission, FakeNode},
    policy::{HostPattern, Policy, Route, Unmatched},
};
use http::{Method, Request};

use crate::{
    bed::{Bed, World, apis, credential, send_to},
    client::{DOORS, empty},
    derived::{NODE, PROVIDER, REPORTS, federated, identity_file, impersonation, metadata_server, named},
};

const ACCOUNTS: [&str; 3] = [
    "a@demo-project.iam.gserviceaccount.com",
    "b@demo-project.iam.gserviceaccount.com",
    "c@demo-project.iam.gserviceaccount.com",
];
const CLUSTER: &str = "principal://cluster";

/// Method, host and path of a request, and who it must be for Google.
static TARGETS: [(Method, &str, &str, &str); 7] = [
    (Method::GET, "storage.googleapis.com", "/echo/of-c/x", ACCOUNTS[2]),
    (Method::GET, "storage.googleapis.com", "/echo/of-a", ACCOUNTS[0]),
    (Method::DELETE, "storage.googleapis.com", "/echo/of-a", ACCOUNTS[1]),
    (Method::GET, "pubsub.googleapis.com", "/echo/of-a", ACCOUNTS[1]),
    (Method::GET, "bigquery.googleapis.com", "/echo/of-a", REPORTS),
    (Method::GET, "logging.googleapis.com", "/echo/of-c/x", CLUSTER),
    (Method::GET, "compute.googleapis.com", "/echo/of-c/x", NODE),
];

fn route(name: &str, credential: &str, host: &str) -> Route {
    let hosts = vec![HostPattern::parse(host).unwrap()];
    Route { name: name.to_owned(), credential: credential.to_owned(), ..Route::google_apis(hosts) }
}

fn policy() -> Policy {
    let routes = vec![
        Route { paths: vec!["/echo/of-c".to_owned()], ..route("by-path", "c", "storage.googleapis.com") },
        Route { methods: vec![Method::DELETE], ..route("by-method", "b", "storage.googleapis.com") },
        route("storage", "a", "storage.googleapis.com"),
        route("pubsub", "b", "pubsub.googleapis.com"),
        route("bigquery", "reports", "bigquery.googleapis.com"),
        route("logging", "cluster", "logging.googleapis.com"),
        route("compute", "node", "compute.googleapis.com"),
    ];
    Policy::new(routes, Unmatched::Pass, apis())
}

/// Six identities of four kinds in one pod.
async fn crowd() -> Bed {
    let world = World::new().await;
    world.google.allow_impersonation(ACCOUNTS[0], REPORTS);
    for token in ["subject-0", "subject-1", "subject-2"] {
        world.google.allow_subject(token, PROVIDER, CLUSTER);
    }
    let dir = world.dir.path().to_owned();
    for (account, name) in ACCOUNTS.iter().zip(["a", "b", "c"]) {
        let key = world.google.add_account(account, "demo-project").unwrap();
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("key.json"), key.json()).unwrap();
    }
    std::fs::write(dir.join("token"), "subject-0").unwrap();
    let identity = identity_file(&dir, false);
    let node = FakeNode::start(&world.tasks, &world.google, NODE).await.unwrap();
    world.start(|settings| {
        settings.credentials = ["a", "b", "c"].map(|name| credential(name, dir.join(name))).to_vec();
        settings.credentials.push(named("reports", impersonation("a")));
        settings.credentials.push(named("cluster", federated(identity)));
        settings.credentials.push(named("node", metadata_server()));
        settings.policy = policy();
        send_to(settings, "metadata.google.internal", 80, node.address());
    })
}

async fn ask(bed: &Bed, number: usize) {
    let (method, host, path, _) = &TARGETS[number % TARGETS.len()];
    let mut client = bed.client(DOORS[number % DOORS.len()], host).await;
    let request = Request::builder().method(method).uri(*path).body(empty()).unwrap();
    let status = client.call(request).await.status().as_u16();
    // There is nothing at these paths; what counts is who asked.
    assert!([404, 405].contains(&status), "{status} {method} {host}{path}");
}

/// Keys of all accounts and the cluster's token, replaced one after the other, and tokens that Google forgets.
async fn rotate(bed: &Bed) {
    for round in 0..3 {
        for (account, name) in ACCOUNTS.iter().zip(["a", "b", "c"]) {
            let next = bed.google.add_key(account).unwrap();
            std::fs::write(bed.dir.path().join(name).join(format!("key-{round}.json")), next.json()).unwrap();
            tokio::task::yield_now().await;
        }
        std::fs::write(bed.dir.path().join("token"), format!("subject-{round}")).unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_request_ever_carries_another_identity_s_token() {
    let bed = crowd().await;
    let requests = async {
        for _ in 0..3 {
            futures_util::future::join_all((0..200).map(|number| ask(&bed, number))).await;
        }
    };
    futures_util::future::join(requests, rotate(&bed)).await;
    let requests = bed.google.requests();
    assert!(requests.len() >= 600, "{}", requests.len());
    for request in &requests {
        assert_eq!(request.admission, Admission::Token);
        let is_this = |(method, host, path, _): &&(Method, &str, &str, &str)| {
            (&request.method, request.authority.as_str(), request.target.as_str()) == (method, *host, *path)
        };
        let (.., account) = TARGETS.iter().find(is_this).unwrap();
        let token = request.token.as_ref().unwrap();
        assert_eq!(token.account, *account, "{} {}{}", request.method, request.authority, request.target);
    }
}
