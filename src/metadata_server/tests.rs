use http::{Response, Version, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::*;

const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const IDENTITY: &str = "/computeMetadata/v1/instance/service-accounts/default/identity";
const EMAIL: &str = "/computeMetadata/v1/instance/service-accounts/default/email";
const PLACEHOLDER: &str = "ya29.bearerd-placeholder-test";
const STORAGE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

#[derive(Debug, Default)]
struct Source {
    expires_in: Option<u64>,
}

impl TokenSource for Source {
    async fn access(&self) -> Result<Handout, Unavailable> {
        match self.expires_in {
            Some(expires_in) => Ok(Handout { token: HeaderValue::from_static("ya29.real"), expires_in }),
            None => Err(Unavailable { retry_after: Duration::from_secs(3), message: "no token yet".to_owned() }),
        }
    }

    async fn id(&self, audience: &str) -> Result<Handout, Unavailable> {
        let token = HeaderValue::from_str(&format!("signed.{audience}.x")).unwrap();
        Ok(Handout { token, expires_in: 3600 })
    }
}

fn pod() -> Pod {
    Pod {
        project_id: Some("shop-prod".to_owned()),
        email: "app@shop-prod.iam.gserviceaccount.com".to_owned(),
        unique_id: Some("1234567890".to_owned()),
        scopes: vec![CLOUD_PLATFORM.to_owned()],
        universe_domain: "googleapis.com".to_owned(),
        name: "shop-7f9c".to_owned(),
        zone: None,
        attributes: BTreeMap::from([("cluster-name".to_owned(), "blue".to_owned())]),
        audiences: vec![Audience::of_host("app1.example"), Audience::of_host("*.run.app")],
    }
}

fn listen() -> SocketAddr {
    "127.0.0.1:14181".parse().unwrap()
}

struct Rig {
    pods: watch::Sender<Option<Arc<Pod>>>,
    tasks: Tasks,
    server: Server<Source>,
}

fn rig(mode: Mode, pod: Option<Pod>, source: Source) -> Rig {
    let (pods, receiver) = watch::channel(pod.map(Arc::new));
    let tasks = Tasks::new();
    let settings = Settings { mode, listen: listen() };
    let server = Server::new(settings, receiver, source, Clock::virtual_time(), tasks.clone());
    Rig { pods, tasks, server }
}

fn placeholder() -> Rig {
    rig(Mode::Placeholder(HeaderValue::from_static(PLACEHOLDER)), Some(pod()), Source::default())
}

fn real(expires_in: u64) -> Rig {
    rig(Mode::Token, Some(pod()), Source { expires_in: Some(expires_in) })
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn read(answer: Response<Full<Bytes>>) -> Got {
    let (parts, body) = answer.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Got { status: parts.status.as_u16(), headers: parts.headers, body }
}

fn request(target: &str) -> Request<Empty<Bytes>> {
    let builder = Request::builder().uri(target).header("host", "metadata.google.internal");
    builder.header("metadata-flavor", "Google").body(Empty::new()).unwrap()
}

impl Rig {
    async fn ask(&self, target: &str) -> Got {
        read(self.server.handle(request(target)).await).await
    }
}

type Row = (&'static str, &'static str, &'static str, u16);

/// "method target", headers as "name: value|name: value" ("+" first keeps the usual two), expected status.
const ROWS: &[Row] = &[
    // What SDKs send.
    ("plain", "GET TOKEN", "+", 200),
    ("flavor header in other case of name", "GET TOKEN", "host: metadata|METADATA-FLAVOR: Google", 200),
    ("user agent and accept", "GET TOKEN", "+user-agent: gcloud|accept: */*|accept-encoding: gzip", 200),
    ("ping without flavor", "GET /", "host: 169.254.169.254", 200),
    ("ping with flavor", "GET /", "+", 200),
    ("empty length", "GET TOKEN", "+content-length: 0", 200),
    ("proxy-connection of an absolute-form client", "GET TOKEN", "+proxy-connection: keep-alive", 200),
    // Flavor (M-1).
    ("no flavor", "GET TOKEN", "host: metadata", 403),
    ("flavor lower case", "GET TOKEN", "host: metadata|metadata-flavor: google", 403),
    ("flavor upper case", "GET TOKEN", "host: metadata|metadata-flavor: GOOGLE", 403),
    ("flavor empty", "GET TOKEN", "host: metadata|metadata-flavor:", 403),
    ("flavor other", "GET TOKEN", "host: metadata|metadata-flavor: Amazon", 403),
    ("flavor list", "GET TOKEN", "host: metadata|metadata-flavor: Google, Google", 403),
    ("flavor with a tail", "GET TOKEN", "host: metadata|metadata-flavor: Googlex", 403),
    ("flavor twice", "GET TOKEN", "+metadata-flavor: Google", 400),
    ("flavor twice, differing", "GET TOKEN", "+metadata-flavor: x", 400),
    ("flavor twice on ping", "GET /", "+metadata-flavor: Google", 400),
    ("old spelling", "GET TOKEN", "host: metadata|x-google-metadata-request: True", 403),
    ("flavor with underscore", "GET TOKEN", "host: metadata|metadata_flavor: Google", 403),
    ("flavor of another cloud", "GET TOKEN", "host: metadata|metadata: true", 403),
    ("flavor in the query", "GET TOKEN?Metadata-Flavor=Google", "host: metadata", 403),
    ("list without flavor", "GET /computeMetadata/v1/", "host: metadata", 403),
    ("list without flavor or slash", "GET /computeMetadata/v1", "host: metadata", 403),
    ("parent without flavor", "GET /computeMetadata/", "host: metadata", 403),
    ("parent without flavor or slash", "GET /computeMetadata", "host: metadata", 403),
    ("unknown path without flavor", "GET /computeMetadata/v1/nothing", "host: metadata", 403),
    ("identity without flavor", "GET IDENTITY?audience=https://app1.example", "host: metadata", 403),
    ("recursive without flavor", "GET /computeMetadata/v1/?recursive=true", "host: metadata", 403),
    // Relays (M-2).
    ("x-forwarded-for", "GET TOKEN", "+x-forwarded-for: 10.0.0.1", 403),
    ("x-forwarded-for empty", "GET TOKEN", "+x-forwarded-for:", 403),
    ("x-forwarded-for loopback", "GET TOKEN", "+x-forwarded-for: 127.0.0.1", 403),
    ("x-forwarded-host", "GET TOKEN", "+x-forwarded-host: evil.test", 403),
    ("x-forwarded-proto", "GET TOKEN", "+x-forwarded-proto: http", 403),
    ("x-forwarded-port", "GET TOKEN", "+x-forwarded-port: 80", 403),
    ("x-forwarded-server", "GET TOKEN", "+x-forwarded-server: a", 403),
    ("x-forwarded", "GET TOKEN", "+x-forwarded: for=10.0.0.1", 403),
    ("x-forwarded-client-cert", "GET TOKEN", "+x-forwarded-client-cert: By=spiffe://a", 403),
    ("forwarded", "GET TOKEN", "+forwarded: for=10.0.0.1", 403),
    ("via", "GET TOKEN", "+via: 1.1 proxy", 403),
    ("x-real-ip", "GET TOKEN", "+x-real-ip: 10.0.0.1", 403),
    ("x-client-ip", "GET TOKEN", "+x-client-ip: 10.0.0.1", 403),
    ("x-cluster-client-ip", "GET TOKEN", "+x-cluster-client-ip: 10.0.0.1", 403),
    ("true-client-ip", "GET TOKEN", "+true-client-ip: 10.0.0.1", 403),
    ("cf-connecting-ip", "GET TOKEN", "+cf-connecting-ip: 10.0.0.1", 403),
    ("x-original-url", "GET TOKEN", "+x-original-url: /admin", 403),
    ("x-original-forwarded-for", "GET TOKEN", "+x-original-forwarded-for: 10.0.0.1", 403),
    ("x-rewrite-url", "GET TOKEN", "+x-rewrite-url: /", 403),
    ("x-original-host", "GET TOKEN", "+x-original-host: evil.test", 403),
    ("x-host", "GET TOKEN", "+x-host: evil.test", 403),
    ("envoy", "GET TOKEN", "+x-envoy-external-address: 10.0.0.1", 403),
    ("relayed ping", "GET /", "+via: 1.1 proxy", 403),
    ("relayed list", "GET /computeMetadata/v1/", "+x-forwarded-for: 1.2.3.4", 403),
    ("relayed unknown path", "GET /computeMetadata/v1/nothing", "+x-forwarded-for: 1.2.3.4", 403),
    // Browsers.
    ("origin", "GET TOKEN", "+origin: http://evil.test", 403),
    ("origin null", "GET TOKEN", "+origin: null", 403),
    ("origin of ours", "GET TOKEN", "+origin: http://metadata.google.internal", 403),
    ("sec-fetch-site", "GET TOKEN", "+sec-fetch-site: same-origin", 403),
    ("sec-fetch-mode", "GET TOKEN", "+sec-fetch-mode: cors", 403),
    ("sec-fetch-dest", "GET TOKEN", "+sec-fetch-dest: empty", 403),
    ("sec-fetch-user", "GET TOKEN", "+sec-fetch-user: ?1", 403),
    ("browser ping", "GET /", "+sec-fetch-site: cross-site", 403),
    // Hosts (M-3).
    ("name with dot", "GET TOKEN", "host: metadata.google.internal.|metadata-flavor: Google", 200),
    ("name upper case", "GET TOKEN", "host: METADATA.google.internal|metadata-flavor: Google", 200),
    ("name with port 80", "GET TOKEN", "host: metadata.google.internal:80|metadata-flavor: Google", 200),
    ("name with our port", "GET TOKEN", "host: metadata.google.internal:14181|metadata-flavor: Google", 200),
    ("short name", "GET TOKEN", "host: metadata|metadata-flavor: Google", 200),
    ("address", "GET TOKEN", "host: 169.254.169.254|metadata-flavor: Google", 200),
    ("address with port", "GET TOKEN", "host: 169.254.169.254:80|metadata-flavor: Google", 200),
    ("IPv6 address", "GET TOKEN", "host: [fd20:ce::254]|metadata-flavor: Google", 200),
    ("loopback", "GET TOKEN", "host: 127.0.0.1:14181|metadata-flavor: Google", 200),
    ("localhost", "GET TOKEN", "host: localhost:14181|metadata-flavor: Google", 200),
    ("IPv6 loopback", "GET TOKEN", "host: [::1]:14181|metadata-flavor: Google", 200),
    ("name with another port", "GET TOKEN", "host: metadata.google.internal:8080|metadata-flavor: Google", 404),
    ("loopback on port 80", "GET TOKEN", "host: 127.0.0.1|metadata-flavor: Google", 404),
    ("loopback on another port", "GET TOKEN", "host: 127.0.0.1:14180|metadata-flavor: Google", 404),
    ("localhost without port", "GET TOKEN", "host: localhost|metadata-flavor: Google", 404),
    ("another loopback address", "GET TOKEN", "host: 127.0.0.2:14181|metadata-flavor: Google", 404),
    ("any address", "GET TOKEN", "host: 0.0.0.0:14181|metadata-flavor: Google", 404),
    ("decimal address", "GET TOKEN", "host: 2130706433:14181|metadata-flavor: Google", 404),
    ("short address", "GET TOKEN", "host: 127.1:14181|metadata-flavor: Google", 404),
    ("rebound name", "GET TOKEN", "host: evil.test:14181|metadata-flavor: Google", 404),
    ("rebound ping", "GET /", "host: evil.test|metadata-flavor: Google", 404),
    ("suffix", "GET TOKEN", "host: metadata.google.internal.evil.test|metadata-flavor: Google", 404),
    ("prefix", "GET TOKEN", "host: evilmetadata.google.internal|metadata-flavor: Google", 404),
    ("wildcard dns", "GET TOKEN", "host: 127.0.0.1.nip.io:14181|metadata-flavor: Google", 404),
    ("subdomain of localhost", "GET TOKEN", "host: a.localhost:14181|metadata-flavor: Google", 404),
    ("the real API", "GET TOKEN", "host: storage.googleapis.com|metadata-flavor: Google", 404),
    ("mapped address", "GET TOKEN", "host: [::ffff:169.254.169.254]|metadata-flavor: Google", 404),
    ("no host", "GET TOKEN", "metadata-flavor: Google", 400),
    ("host twice", "GET TOKEN", "+host: metadata.google.internal", 400),
    ("host twice, differing", "GET TOKEN", "+host: evil.test", 400),
    ("host empty", "GET TOKEN", "host:|metadata-flavor: Google", 400),
    ("host a dot", "GET TOKEN", "host: .|metadata-flavor: Google", 400),
    ("host with user info", "GET TOKEN", "host: a@metadata|metadata-flavor: Google", 400),
    ("host with comma", "GET TOKEN", "host: metadata,evil.test|metadata-flavor: Google", 400),
    ("host with path", "GET TOKEN", "host: metadata/x|metadata-flavor: Google", 400),
    ("host with blank", "GET TOKEN", "host: metadata x|metadata-flavor: Google", 400),
    ("host with fragment", "GET TOKEN", "host: metadata#x|metadata-flavor: Google", 400),
    ("host with scheme", "GET TOKEN", "host: http://metadata|metadata-flavor: Google", 400),
    ("port empty", "GET TOKEN", "host: metadata:|metadata-flavor: Google", 400),
    ("port signed", "GET TOKEN", "host: metadata:+80|metadata-flavor: Google", 400),
    ("port too large", "GET TOKEN", "host: metadata:65616|metadata-flavor: Google", 400),
    ("port zero", "GET TOKEN", "host: metadata:0|metadata-flavor: Google", 400),
    ("two ports", "GET TOKEN", "host: metadata:80:80|metadata-flavor: Google", 400),
    ("zone id", "GET TOKEN", "host: [fe80::1%eth0]:14181|metadata-flavor: Google", 400),
    ("bracketed name", "GET TOKEN", "host: [metadata]|metadata-flavor: Google", 400),
    ("bracket open", "GET TOKEN", "host: [::1|metadata-flavor: Google", 400),
    ("bracket and tail", "GET TOKEN", "host: [::1]x|metadata-flavor: Google", 400),
    // Absolute form.
    ("absolute", "GET http://metadata.google.internalTOKEN", "+", 200),
    ("absolute with dot and port", "GET http://metadata.google.internal.:80TOKEN", "+", 200),
    ("absolute loopback", "GET http://127.0.0.1:14181TOKEN", "host: 127.0.0.1:14181|metadata-flavor: Google", 200),
    (
        "absolute, host differs",
        "GET http://metadata.google.internalTOKEN",
        "host: evil.test|metadata-flavor: Google",
        421,
    ),
    ("absolute foreign, host ours", "GET http://evil.testTOKEN", "+", 421),
    ("absolute, another of our names", "GET http://metadataTOKEN", "+", 421),
    ("absolute foreign", "GET http://evil.testTOKEN", "host: evil.test|metadata-flavor: Google", 404),
    ("absolute https", "GET https://metadata.google.internalTOKEN", "+", 400),
    ("absolute ftp", "GET ftp://metadata.google.internalTOKEN", "+", 400),
    ("absolute user info", "GET http://u:p@metadata.google.internalTOKEN", "+", 400),
    ("absolute without host", "GET http://metadata.google.internalTOKEN", "metadata-flavor: Google", 400),
    ("asterisk", "GET *", "+", 400),
    ("authority form", "GET metadata.google.internal:80", "+", 400),
    // Paths.
    ("double slash in front", "GET //computeMetadata/v1/instance/service-accounts/default/token", "+", 404),
    ("double slash in front, no flavor", "GET //computeMetadata/v1/instance/", "host: metadata", 404),
    ("double slash inside", "GET /computeMetadata/v1//instance/service-accounts/default/token", "+", 404),
    ("double slash before the leaf", "GET /computeMetadata/v1/instance/service-accounts/default//token", "+", 404),
    ("dot segments", "GET /computeMetadata/v1/instance/../instance/id", "+", 404),
    ("dot segment", "GET /computeMetadata/v1/./instance/id", "+", 404),
    ("encoded dots", "GET /computeMetadata/v1/instance/%2e%2e/instance/id", "+", 404),
    ("encoded dots around the flavor", "GET /x/%2e%2e/computeMetadata/v1/instance/id", "host: metadata", 404),
    ("dots around the flavor", "GET /x/../computeMetadata/v1/instance/id", "host: metadata", 404),
    ("encoded letter", "GET /computeMetadata/v1/instance/service-accounts/default/%74oken", "+", 404),
    ("encoded letter around the flavor", "GET /%63omputeMetadata/v1/instance/id", "host: metadata", 404),
    ("encoded slash", "GET /computeMetadata/v1/instance%2fid", "+", 404),
    ("upper case", "GET /COMPUTEMETADATA/V1/instance/service-accounts/default/token", "+", 404),
    ("upper case, no flavor", "GET /computemetadata/v1/instance/", "host: metadata", 404),
    ("parameters in the path", "GET /computeMetadata/v1;x/instance/id", "+", 404),
    ("leaf with slash", "GET /computeMetadata/v1/instance/service-accounts/default/token/", "+", 404),
    ("below a leaf", "GET /computeMetadata/v1/instance/id/x", "+", 404),
    ("beta", "GET /computeMetadata/v1beta1/instance/service-accounts/default/token", "+", 404),
    (
        "beta without flavor",
        "GET /computeMetadata/v1beta1/instance/service-accounts/default/token",
        "host: metadata",
        404,
    ),
    ("beta list", "GET /computeMetadata/v1beta1/", "host: metadata", 404),
    ("beta bare", "GET /computeMetadata/v1beta1", "host: metadata", 404),
    ("v1beta2", "GET /computeMetadata/v1beta2/instance/id", "+", 404),
    ("v2", "GET /computeMetadata/v2/instance/id", "+", 404),
    ("oldest", "GET /0.1/meta-data/service-accounts/default/acquire", "host: metadata", 404),
    ("another cloud", "GET /latest/meta-data/iam/security-credentials/", "host: 169.254.169.254", 404),
    (
        "another account",
        "GET /computeMetadata/v1/instance/service-accounts/other@x.iam.gserviceaccount.com/token",
        "+",
        404,
    ),
    ("S2A", "GET /computeMetadata/v1/instance/platform-security/auto-mtls-configuration", "+", 404),
    ("platform-security", "GET /computeMetadata/v1/instance/platform-security/", "+", 404),
    ("unknown", "GET /computeMetadata/v1/instance/nothing", "+", 404),
    ("favicon", "GET /favicon.ico", "host: metadata", 404),
    // Methods and versions (M-6).
    ("post", "POST TOKEN", "+", 405),
    ("post identity", "POST IDENTITY?audience=https://app1.example", "+", 405),
    ("put", "PUT TOKEN", "+", 405),
    ("put of another cloud", "PUT /latest/api/token", "host: metadata", 405),
    ("delete", "DELETE TOKEN", "+", 405),
    ("head", "HEAD TOKEN", "+", 405),
    ("options", "OPTIONS TOKEN", "+", 405),
    ("patch", "PATCH TOKEN", "+", 405),
    ("trace", "TRACE TOKEN", "+", 405),
    ("connect", "CONNECT 169.254.169.254:80", "+", 405),
    ("lower case method", "get TOKEN", "+", 405),
    ("HTTP/1.0", "GET/1.0 TOKEN", "+", 505),
    ("HTTP/2", "GET/2 TOKEN", "+", 505),
    // Bodies.
    ("body", "GET TOKEN", "+content-length: 5", 400),
    ("chunked body", "GET TOKEN", "+transfer-encoding: chunked", 400),
    ("length twice", "GET TOKEN", "+content-length: 0|content-length: 0", 400),
    // Queries.
    ("scopes as Python sends them", "GET TOKEN?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fdrive", "+", 200),
    ("unknown parameter", "GET TOKEN?x=1", "+", 200),
    ("recursive no word", "GET /computeMetadata/v1/?recursive=yes", "+", 400),
    ("recursive twice", "GET /computeMetadata/v1/?recursive=true&recursive=false", "+", 400),
    ("alt unknown", "GET /computeMetadata/v1/?alt=xml", "+", 400),
    ("timeout no number", "GET /computeMetadata/v1/?wait_for_change=true&timeout_sec=-1", "+", 400),
    ("format unknown", "GET IDENTITY?audience=https://app1.example&format=x", "+", 400),
    ("identity without audience", "GET IDENTITY", "+", 400),
    ("identity with empty audience", "GET IDENTITY?audience=", "+", 400),
    ("identity, two audiences", "GET IDENTITY?audience=https://app1.example&audience=https://evil.test", "+", 400),
    ("identity, audience not listed", "GET IDENTITY?audience=https://evil.test", "+", 403),
    ("identity, gcloud's own", "GET IDENTITY?audience=32555940559.apps.googleusercontent.com&licenses=FALSE", "+", 404),
    ("identity, bad encoding", "GET IDENTITY?audience=%ff", "+", 400),
    ("token bound to ALTS", "GET TOKEN?transport=alts", "+", 404),
    ("token bound to mTLS", "GET TOKEN?transport=mtls&binding-enforcement=on", "+", 404),
];

fn row(what: &str, headers: &str) -> Request<Empty<Bytes>> {
    let (method, target) = what.split_once(' ').unwrap();
    let (method, version) = match method.split_once('/') {
        Some((method, "2")) => (method, Version::HTTP_2),
        Some((method, _)) => (method, Version::HTTP_10),
        None => (method, Version::HTTP_11),
    };
    let target = target.replace("TOKEN", TOKEN).replace("IDENTITY", IDENTITY);
    let mut builder = Request::builder().method(method).version(version).uri(target);
    let headers = match headers.strip_prefix('+') {
        Some(more) => format!("host: metadata.google.internal|metadata-flavor: Google|{more}"),
        None => headers.to_owned(),
    };
    for line in headers.split('|').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        builder = builder.header(name, value.trim());
    }
    builder.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn every_guard_row_gets_exactly_its_status_and_only_200_carries_a_token() {
    assert!(ROWS.len() >= 120, "{} rows", ROWS.len());
    for rig in [placeholder(), real(3000)] {
        for (name, what, headers, status) in ROWS {
            // Scopes are judged in token mode only, with a test of its own.
            if name.starts_with("scopes") && rig.server.settings.mode == Mode::Token {
                continue;
            }
            let got = read(rig.server.handle(row(what, headers)).await).await;
            assert_eq!(got.status, *status, "{name}: {}", got.body);
            assert_eq!(got.header("metadata-flavor"), "Google", "{name}");
            assert_eq!(got.header("server"), "Metadata Server for VM", "{name}");
            assert_eq!(got.header("cache-control"), "no-store", "{name}");
            assert_eq!(got.header("content-length"), got.body.len().to_string(), "{name}");
            assert_eq!(got.body.contains("ya29."), *status == 200 && what.contains("TOKEN"), "{name}: {}", got.body);
            assert_eq!(got.headers.contains_key("x-bearerd-error"), *status >= 400, "{name}");
            assert!(!got.body.contains("evil"), "{name} echoes the request");
        }
    }
}

#[tokio::test]
async fn every_path_that_sdks_ask_for_has_its_answer() {
    let rig = placeholder();
    let accounts = "/computeMetadata/v1/instance/service-accounts";
    let by_email = format!("{accounts}/app@shop-prod.iam.gserviceaccount.com");
    let rows: &[(&str, u16, &str, &str)] = &[
        ("/", 200, "application/text", "computeMetadata/\n"),
        ("/computeMetadata/", 200, "application/text", "v1/\n"),
        ("/computeMetadata/v1/", 200, "application/text", "instance/\nproject/\nuniverse/\n"),
        (
            "/computeMetadata/v1/instance/",
            200,
            "application/text",
            "attributes/\nhostname\nid\nname\nservice-accounts/\n",
        ),
        (
            "/computeMetadata/v1/instance/service-accounts/",
            200,
            "application/text",
            "default/\napp@shop-prod.iam.gserviceaccount.com/\n",
        ),
        (&format!("{accounts}/default/"), 200, "application/text", "aliases\nemail\nidentity\nscopes\ntoken\n"),
        (EMAIL, 200, "application/text", "app@shop-prod.iam.gserviceaccount.com"),
        (&format!("{accounts}/default/aliases"), 200, "application/text", "default\n"),
        (
            &format!("{accounts}/default/scopes"),
            200,
            "application/text",
            "https://www.googleapis.com/auth/cloud-platform\n",
        ),
        (&format!("{by_email}/email"), 200, "application/text", "app@shop-prod.iam.gserviceaccount.com"),
        (
            &format!("{}/email", by_email.replace('@', "%40")),
            200,
            "application/text",
            "app@shop-prod.iam.gserviceaccount.com",
        ),
        ("/computeMetadata/v1/project/project-id", 200, "application/text", "shop-prod"),
        ("/computeMetadata/v1/project/numeric-project-id", 200, "application/text", "0"),
        ("/computeMetadata/v1/universe/universe-domain", 200, "application/text", "googleapis.com"),
        ("/computeMetadata/v1/universe/universe_domain", 200, "application/text", "googleapis.com"),
        ("/computeMetadata/v1/instance/name", 200, "application/text", "shop-7f9c"),
        ("/computeMetadata/v1/instance/hostname", 200, "application/text", "shop-7f9c"),
        ("/computeMetadata/v1/instance/attributes/", 200, "application/text", "cluster-name\n"),
        ("/computeMetadata/v1/instance/attributes/cluster-name", 200, "application/text", "blue"),
        ("/computeMetadata/v1/instance/name?alt=json", 200, "application/json", "\"shop-7f9c\""),
        ("/computeMetadata/v1/project/numeric-project-id?alt=json", 200, "application/json", "0"),
        ("/computeMetadata/v1/project/?alt=json", 200, "application/json", r#"["numeric-project-id","project-id"]"#),
        (
            "/computeMetadata/v1/project/?recursive=true&alt=text",
            200,
            "application/text",
            "numeric-project-id 0\nproject-id shop-prod\n",
        ),
    ];
    for (target, status, content_type, body) in rows {
        let got = rig.ask(target).await;
        assert_eq!((got.status, got.header("content-type"), got.body.as_str()), (*status, *content_type, *body));
        assert_eq!(got.headers.contains_key("etag"), target.contains("/v1/"), "{target}");
    }
    assert_eq!(rig.ask("/computeMetadata/v1/instance/zone").await.status, 404);
    let id = rig.ask("/computeMetadata/v1/instance/id").await.body;
    assert!(id.parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn a_directory_without_its_slash_is_moved_there() {
    let rig = placeholder();
    for (target, location) in [
        ("/computeMetadata", "/computeMetadata/"),
        ("/computeMetadata/v1", "/computeMetadata/v1/"),
        ("/computeMetadata/v1/instance", "/computeMetadata/v1/instance/"),
        ("/computeMetadata/v1/instance/service-accounts", "/computeMetadata/v1/instance/service-accounts/"),
        (
            "/computeMetadata/v1/instance/service-accounts/default?recursive=true",
            "/computeMetadata/v1/instance/service-accounts/default/?recursive=true",
        ),
    ] {
        let got = rig.ask(target).await;
        assert_eq!((got.status, got.header("location")), (301, location));
        assert_eq!(got.header("metadata-flavor"), "Google");
        assert_eq!(rig.ask(location).await.status, 200);
    }
}

#[tokio::test]
async fn recursive_answers_are_camel_case_and_never_carry_a_token() {
    for rig in [placeholder(), real(3000)] {
        let got = rig.ask("/computeMetadata/v1/?recursive=true").await;
        assert_eq!(got.header("content-type"), "application/json");
        let account = json!({
            "aliases": ["default"],
            "email": "app@shop-prod.iam.gserviceaccount.com",
            "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
        });
        let tree = got.json();
        assert_eq!(tree["instance"]["serviceAccounts"]["default"], account);
        assert_eq!(tree["instance"]["serviceAccounts"]["app@shop-prod.iam.gserviceaccount.com"], account);
        assert_eq!(tree["instance"]["attributes"], json!({"cluster-name": "blue"}));
        assert!(tree["instance"]["id"].is_u64());
        assert_eq!(tree["project"], json!({"numericProjectId": 0, "projectId": "shop-prod"}));
        assert_eq!(tree["universe"], json!({"universeDomain": "googleapis.com"}));
        let default = rig.ask("/computeMetadata/v1/instance/service-accounts/default/?recursive=true").await;
        assert_eq!(default.json(), account);
        for target in
            ["/", "/computeMetadata/", "/computeMetadata/v1/", "/computeMetadata/v1/instance/service-accounts/"]
        {
            for query in ["?recursive=true", "?recursive=true&alt=text", "?recursive=true&alt=json"] {
                let body = rig.ask(&format!("{target}{query}")).await.body;
                assert!(!body.contains("ya29.") && !body.contains("token") && !body.contains("identity"), "{body}");
            }
        }
    }
}

#[tokio::test]
async fn the_placeholder_is_the_same_whatever_the_scopes_and_has_a_long_life() {
    let rig = placeholder();
    for target in [
        TOKEN.to_owned(),
        format!("{TOKEN}?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform,openid"),
        format!("{TOKEN}?scopes=https://www.googleapis.com/auth/drive"),
        format!("{TOKEN}?alt=json"),
        TOKEN.replace("default", "app@shop-prod.iam.gserviceaccount.com"),
    ] {
        let got = rig.ask(&target).await;
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.json(), json!({"access_token": PLACEHOLDER, "expires_in": 3599, "token_type": "Bearer"}));
    }
}

#[tokio::test]
async fn token_mode_gives_the_true_remainder_and_a_503_when_there_is_none() {
    for (expires_in, status) in [(Some(3000), 200), (Some(200), 200), (Some(0), 503), (None, 503)] {
        let got = rig(Mode::Token, Some(pod()), Source { expires_in }).ask(TOKEN).await;
        assert_eq!(got.status, status);
        assert_eq!(got.header("content-type"), "application/json");
        if status == 200 {
            assert_eq!(got.json()["expires_in"], json!(expires_in));
        } else {
            assert_eq!(got.json()["error"], "temporarily_unavailable");
            assert!(got.header("retry-after").parse::<u64>().unwrap() >= 1);
        }
    }
}

#[test]
fn scopes_are_granted_when_the_credential_has_one_of_them() {
    let cases: &[(&[&str], &str, bool)] = &[
        (&[CLOUD_PLATFORM], "", true),
        (&[CLOUD_PLATFORM], CLOUD_PLATFORM, true),
        (&[CLOUD_PLATFORM], STORAGE, true),
        (&[CLOUD_PLATFORM], "https://www.googleapis.com/auth/drive", false),
        (&[CLOUD_PLATFORM], "https://www.googleapis.com/auth/admin.directory.user", false),
        (&[CLOUD_PLATFORM], "https://mail.google.com/", false),
        (&[CLOUD_PLATFORM], "https://www.googleapis.com/auth/drive https://www.googleapis.com/auth/pubsub", true),
        (&[STORAGE], STORAGE, true),
        (&[STORAGE], CLOUD_PLATFORM, false),
        (&[STORAGE], "https://www.googleapis.com/auth/devstorage.full_control", false),
        (&["https://www.googleapis.com/auth/drive"], "https://www.googleapis.com/auth/drive", true),
    ];
    for (own, asked, granted) in cases {
        let pod = Pod { scopes: own.iter().map(|&scope| scope.to_owned()).collect(), ..pod() };
        let text = format!("scopes={asked}");
        let query = Query::parse(&text).unwrap();
        assert_eq!(pod.grants(query.scopes()), *granted, "{own:?} for {asked}");
    }
}

#[tokio::test]
async fn wider_scopes_than_the_credentials_are_refused_in_token_mode() {
    let pod = Pod { scopes: vec![STORAGE.to_owned()], ..pod() };
    let rig = rig(Mode::Token, Some(pod), Source { expires_in: Some(3000) });
    assert_eq!(rig.ask(&format!("{TOKEN}?scopes={CLOUD_PLATFORM}")).await.status, 403);
    assert_eq!(rig.ask(&format!("{TOKEN}?scopes={STORAGE}")).await.status, 200);
    assert_eq!(rig.ask(TOKEN).await.status, 200);
}

fn parts(jwt: &str) -> (Value, Value, &str) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let parts: Vec<_> = jwt.split('.').collect();
    assert_eq!(parts.len(), 3);
    let open = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (open(parts[0]), open(parts[1]), parts[2])
}

#[tokio::test]
async fn placeholder_identities_are_unsigned_and_carry_the_audience_asked_for() {
    let rig = placeholder();
    for (query, audience, full) in [
        ("audience=https://app1.example", "https://app1.example", false),
        ("audience=https%3A%2F%2Fapp1.example&format=full&licenses=TRUE", "https://app1.example", true),
        ("format=full&audience=https://svc-abc.a.run.app", "https://svc-abc.a.run.app", true),
    ] {
        let got = rig.ask(&format!("{IDENTITY}?{query}")).await;
        assert_eq!(got.status, 200, "{}", got.body);
        let (head, claims, signature) = parts(&got.body);
        assert_eq!((head["alg"].as_str(), signature), (Some("none"), ""));
        assert_eq!(claims["aud"], audience);
        assert_eq!(claims["jti"], PLACEHOLDER);
        assert_eq!(claims["sub"], "1234567890");
        assert_eq!(claims.get("email").is_some(), full);
        assert!(claims["exp"].as_u64() > claims["iat"].as_u64());
    }
}

#[tokio::test]
async fn fifty_audiences_at_once_get_each_its_own_and_the_65th_waits_a_minute() {
    for (rig, signed) in [(placeholder(), false), (real(3000), true)] {
        for number in 0..64 {
            let audience = format!("https://app{number}.run.app");
            for _ in 0..2 {
                let got = rig.ask(&format!("{IDENTITY}?audience={audience}")).await;
                assert_eq!(got.status, 200);
                assert_eq!(got.body.starts_with("signed."), signed);
                let own = if signed {
                    format!("signed.{audience}.x") == got.body
                } else {
                    parts(&got.body).1["aud"] == audience
                };
                assert!(own);
            }
        }
        let got = rig.ask(&format!("{IDENTITY}?audience=https://app64.run.app")).await;
        assert_eq!((got.status, got.header("retry-after")), (429, "1"));
        assert_eq!(rig.ask(&format!("{IDENTITY}?audience=https://app3.run.app")).await.status, 200);
    }
}

#[test]
fn the_memory_of_audiences_fades_after_a_minute() {
    let recent = identity::Recent::default();
    let start = Clock::system().now();
    assert!((0..64).all(|number| recent.admit(&number.to_string(), start)));
    assert!(!recent.admit("64", start + Duration::from_secs(59)));
    assert!(recent.admit("64", start + Duration::from_secs(60)));
}

#[test]
fn audiences_match_by_whole_labels() {
    for (host, asked, covered) in [
        ("app1.example", "https://app1.example", true),
        ("app1.example", "https://app1.example/", false),
        ("app1.example", "http://app1.example", false),
        ("app1.example", "https://app1.example.evil.test", false),
        ("*.run.app", "https://a.run.app", true),
        ("*.run.app", "https://a.b.run.app", true),
        ("*.run.app", "https://run.app", false),
        ("*.run.app", "https://.run.app", false),
        ("*.run.app", "https://arun.app", false),
        ("*.run.app", "https://a.run.app/path", false),
        ("*.run.app", "https://evil.test/.run.app", false),
        ("*.run.app", "https://evil.test?.run.app", false),
        ("*.run.app", "https://u@a.run.app", false),
        ("*.run.app", "https://a.run.app:443", false),
        ("*.run.app", "a.run.app", false),
        ("*.run.app", "https://a..run.app", false),
    ] {
        assert_eq!(Audience::of_host(host).covers(asked), covered, "{host} {asked}");
    }
    assert!(Audience::Exact("12-x.apps.googleusercontent.com".to_owned()).covers("12-x.apps.googleusercontent.com"));
}

#[test]
fn the_project_number_is_read_from_default_accounts_only() {
    for (email, number) in [
        ("918273-compute@developer.gserviceaccount.com", 918_273),
        ("918273@cloudservices.gserviceaccount.com", 918_273),
        ("918273-compute@evil.iam.gserviceaccount.com", 0),
        ("app@shop-prod.iam.gserviceaccount.com", 0),
        ("", 0),
    ] {
        assert_eq!(Pod { email: email.to_owned(), ..pod() }.project_number(), number, "{email}");
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_credential_is_known_detection_works_and_the_rest_is_a_503_never_a_404() {
    let rig = rig(Mode::Placeholder(HeaderValue::from_static(PLACEHOLDER)), None, Source::default());
    for (target, status) in [
        ("/", 200),
        ("/computeMetadata/v1/", 200),
        ("/computeMetadata/v1/instance", 301),
        ("/computeMetadata/v1/instance/", 200),
        ("/computeMetadata/v1/instance/service-accounts", 301),
        (TOKEN, 200),
        (EMAIL, 503),
        ("/computeMetadata/v1/project/project-id", 503),
        ("/computeMetadata/v1/project/numeric-project-id", 503),
        ("/computeMetadata/v1/instance/service-accounts/default/?recursive=true", 503),
        ("/computeMetadata/v1/instance/service-accounts/a@b.iam.gserviceaccount.com/token", 503),
        (IDENTITY, 503),
        ("/computeMetadata/v1/?recursive=true", 503),
    ] {
        assert_eq!(rig.ask(target).await.status, status, "{target}");
    }
    // One that arrives while a request waits is used for it.
    let (got, _) = tokio::join!(rig.ask(EMAIL), async { rig.pods.send_replace(Some(Arc::new(pod()))) });
    assert_eq!(got.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_a_change_a_known_difference_its_timeout_or_a_drain() {
    let rig = placeholder();
    let first = rig.ask(EMAIL).await;
    let etag = first.header("etag").to_owned();
    let wait = format!("{EMAIL}?wait_for_change=true");

    let stale = rig.ask(&format!("{wait}&last_etag=0000")).await;
    assert_eq!(stale.body, first.body);
    let timed_out = rig.ask(&format!("{wait}&last_etag={etag}&timeout_sec=5")).await;
    assert_eq!((timed_out.status, timed_out.header("etag")), (200, etag.as_str()));

    let rotated = Pod { email: "new@shop-prod.iam.gserviceaccount.com".to_owned(), ..pod() };
    let moved = Pod { name: "another".to_owned(), ..pod() };
    let (got, ()) = tokio::join!(rig.ask(&wait), async {
        // Not a change of this value.
        rig.pods.send_replace(Some(Arc::new(moved)));
        tokio::task::yield_now().await;
        rig.pods.send_replace(Some(Arc::new(rotated)));
    });
    assert_eq!(got.body, "new@shop-prod.iam.gserviceaccount.com");
    assert_ne!(got.header("etag"), etag);

    let (got, ()) = tokio::join!(rig.ask(&wait), async { rig.tasks.drain() });
    assert_eq!(got.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_65th_hanging_request_is_turned_away() {
    let rig = placeholder();
    let target = format!("{EMAIL}?wait_for_change=true&timeout_sec=10");
    let mut hanging: Vec<_> = (0..MAX_WAITS).map(|_| Box::pin(rig.ask(&target))).collect();
    for wait in &mut hanging {
        assert!(std::future::poll_fn(|context| std::task::Poll::Ready(wait.as_mut().poll(context).is_pending())).await);
    }
    let refused = rig.ask(&target).await;
    assert_eq!((refused.status, refused.header("x-bearerd-error")), (503, "many_waits"));
    for wait in hanging {
        assert_eq!(wait.await.status, 200);
    }
    assert_eq!(rig.ask(&target).await.status, 200);
}

#[tokio::test]
async fn switched_off_it_does_not_look_like_a_metadata_server() {
    let got = rig(Mode::Off, Some(pod()), Source::default()).ask("/").await;
    assert_eq!((got.status, got.headers.contains_key("metadata-flavor")), (404, false));
}

#[test]
fn refusals_have_labels_of_their_own() {
    let labels: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
    assert_eq!(labels.len(), Refusal::ALL.len());
}

#[test]
fn settings_never_show_the_placeholder() {
    let rig = placeholder();
    assert!(!format!("{:?}", rig.server).contains(PLACEHOLDER));
}

/// Raw bytes through a real hyper connection: what the handler returns is what goes over the wire.
#[tokio::test]
async fn one_connection_serves_several_requests_byte_for_byte() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rig = Arc::new(placeholder());
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let serving = {
        let rig = rig.clone();
        async move {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
                let rig = rig.clone();
                async move { Ok::<_, std::convert::Infallible>(rig.server.handle(request).await) }
            });
            let io = hyper_util::rt::TokioIo::new(server);
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).await.unwrap();
        }
    };
    let asking = async {
        let head = "Host: metadata.google.internal\r\nMetadata-Flavor: Google\r\n";
        client
            .write_all(format!("GET / HTTP/1.1\r\n{head}\r\nGET {TOKEN} HTTP/1.1\r\n{head}\r\n").as_bytes())
            .await
            .unwrap();
        let absolute =
            format!("GET http://metadata.google.internal{EMAIL} HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        client.write_all(absolute.as_bytes()).await.unwrap();
        let mut all = String::new();
        client.read_to_string(&mut all).await.unwrap();
        all
    };
    let (all, ()) = tokio::join!(asking, serving);
    assert_eq!(all.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{all}");
    assert_eq!(all.matches("metadata-flavor: Google\r\n").count(), 3);
    assert_eq!(all.matches("content-length: ").count(), 3);
    assert_eq!(all.matches(PLACEHOLDER).count(), 1);
    assert!(!all.contains("transfer-encoding"));
    assert!(all.ends_with("\r\n\r\napp@shop-prod.iam.gserviceaccount.com"), "{all}");
}

#[tokio::test]
async fn a_target_longer_than_any_sdk_sends_is_refused() {
    let got = placeholder().ask(&format!("{TOKEN}?x={}", "a".repeat(4096))).await;
    assert_eq!(got.status, 414);
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let answer: Answer = Refusal::Method.into();
    assert_eq!(answer.headers()[header::ALLOW], "GET");
}
