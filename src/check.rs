//! What the sidecar would do, without running it: configuration, keys, one exchange each; and one request explained.
//!
//! Owns the words of `check` and `explain`. Decides nothing: it asks the same `policy`, `credential` and `config` that
//! the sidecar runs on. Called by `cli`.

use std::{fmt::Write as _, sync::Arc};

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::{
    app::{self, VerifiedPost, from_config},
    authority::Authority,
    clock::Clock,
    config::{self, Loaded},
    credential::{Exchange, Kind, Parameters, Spec, Want},
    net::client::Client,
    policy::{Action, Connect, Decision, Facts, TokenKind},
    secret::Secret,
    shutdown::Tasks,
};

mod credentials;
mod handed_out;

pub use credentials::unusable;

/// What `check` found.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    mark: Mark,
    what: String,
    result: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    Odd,
    Bad,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.mark != Mark::Bad)
    }

    /// A line for each thing looked at.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
        let mut table = String::new();
        for Row { mark, what, result } in &self.rows {
            let mark = match mark {
                Mark::Good => "ok  ",
                Mark::Odd => "warn",
                Mark::Bad => "FAIL",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{mark}  {what:width$}  {result}");
        }
        table
    }

    fn add(&mut self, mark: Mark, what: impl Into<String>, result: impl Into<String>) {
        self.rows.push(Row { mark, what: what.into(), result: result.into() });
    }
}

/// Looks at everything; `offline` asks no token endpoint.
pub async fn run(loaded: &Loaded, offline: bool, clock: Clock) -> Report {
    let mut report = Report::default();
    report.add(Mark::Good, "configuration", summary(&loaded.settings));
    for warning in &loaded.warnings {
        report.add(Mark::Odd, "configuration", warning.to_string());
    }
    let injects = loaded.settings.policy.routes.iter().any(|route| route.action == Action::Inject);
    if !injects && loaded.settings.tokens.is_empty() && loaded.settings.mqtt.is_empty() {
        report.add(Mark::Odd, "routes", "none has the action inject, so no request gets a token");
    }
    let exchange = match exchange(&loaded.settings, clock) {
        Ok(exchange) => Some(exchange).filter(|_| !offline),
        Err(error) => {
            report.add(Mark::Bad, "upstream", format!("{error:#}"));
            None
        }
    };
    for spec in &loaded.settings.credentials {
        credentials::check(&mut report, spec, exchange.as_ref()).await;
    }
    for entry in &loaded.settings.tokens {
        handed_out::check(&mut report, entry);
    }
    for door in &loaded.settings.mqtt {
        let told = format!("{}: a token of {} as the password", door.upstream, door.credential);
        report.add(Mark::Good, format!("mqtt {}", door.listen), told);
    }
    report
}

/// `2 credentials (default, reports), 1 route (google-apis)`.
fn summary(settings: &config::Settings) -> String {
    let counted = |what: &str, names: Vec<&str>| match names.len() {
        0 => format!("no {what}"),
        1 => format!("1 {what} ({})", names.join(", ")),
        count => format!("{count} {what}s ({})", names.join(", ")),
    };
    let credentials = settings.credentials.iter().map(|credential| credential.name.as_str()).collect();
    let routes = settings.policy.routes.iter().map(|route| route.name.as_str()).collect();
    let entries: Vec<&str> = settings.tokens.iter().map(|entry| entry.name.as_str()).collect();
    let handed_out = if entries.is_empty() { String::new() } else { format!(", hands out {}", entries.join(", ")) };
    format!("{}, {}{handed_out}", counted("credential", credentials), counted("route", routes))
}

/// How a token endpoint is reached with these settings.
///
/// # Errors
/// When the roots cannot be read.
pub fn exchange(config: &config::Settings, clock: Clock) -> anyhow::Result<Exchange> {
    let settings = from_config::settings(config)?;
    let (tls, dialer) = app::upstream(&settings.upstream, clock)?;
    let client = Client::new(dialer, tls, &Tasks::new());
    let exchange = Exchange::new(Arc::new(VerifiedPost(client)), clock);
    let parents = Arc::new(credentials::Minting { specs: config.credentials.clone(), exchange: exchange.clone() });
    Ok(Exchange { parents: Some(parents), ..exchange })
}

/// Which token somebody wants of a credential, in the words of the command line.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The kind, as routes have it; `None` = what the credential is for.
    pub token: Option<TokenKind>,
    /// The audience of an ID token.
    pub audience: Option<String>,
    /// Names and values of parameters.
    pub parameters: Vec<(String, String)>,
}

impl Wish {
    fn want(self, spec: &Spec) -> anyhow::Result<Want> {
        let names = spec.parameters();
        let kind = self.token.unwrap_or_else(|| match spec.kind {
            _ if self.audience.is_some() => TokenKind::Id,
            Kind::SignedJwt { .. } => TokenKind::Jwt,
            _ => TokenKind::Access,
        });
        let parameters = Parameters::new(self.parameters, &names).map_err(|error| {
            let list = names.iter().map(|name| format!(" --parameter {name}=VALUE")).collect::<String>();
            anyhow::anyhow!("{error}{}", if list.is_empty() { list } else { format!("; want{list}") })
        })?;
        match (kind, self.audience) {
            (TokenKind::Id, None) => {
                anyhow::bail!("an ID token is for somebody; want --audience, such as a service's URL")
            }
            (TokenKind::Id, Some(audience)) => Ok(Want::Id(audience.into())),
            (_, Some(_)) => anyhow::bail!("--audience goes with --token id only"),
            (TokenKind::Access, None) => Ok(Want::Access),
            (TokenKind::SelfSigned, None) => Ok(Want::SelfSigned),
            (TokenKind::Jwt, None) => Ok(Want::Jwt(parameters)),
        }
    }
}

/// One token of the credential called `name`.
///
/// # Errors
/// Why there is none.
pub async fn mint(config: &config::Settings, name: &str, wish: Wish, exchange: &Exchange) -> anyhow::Result<Secret> {
    let spec = config.credentials.iter().find(|spec| spec.name.as_str() == name).context("no such credential")?;
    let want = wish.want(spec)?;
    let mut usable = Vec::new();
    let mut problems = Vec::new();
    for (file, source) in credentials::keys(spec) {
        match source {
            Ok(source) => usable.push(source),
            Err(problem) => problems.push(format!("{file}: {problem}")),
        }
    }
    anyhow::ensure!(!usable.is_empty(), "no usable key: {}", problems.join("; "));
    Ok(credentials::first_token(spec, &usable, &want, exchange).await?.secret)
}

/// What would happen to a request, in words.
///
/// # Errors
/// When method, URL or a header cannot be read; says what is accepted.
pub fn explain(config: &config::Settings, method: &str, url: &str, headers: &[String]) -> Result<String, String> {
    let method: Method = method.parse().map_err(|_| "not an HTTP method; want GET, POST, …".to_owned())?;
    let uri: Uri = url.parse().map_err(|_| "the URL cannot be read; want https://HOST/PATH".to_owned())?;
    let (Some(scheme), Some(claimed)) = (uri.scheme_str(), uri.authority()) else {
        return Err("the URL is not whole; want https://HOST/PATH".to_owned());
    };
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err("the URL's scheme is neither https nor http; want https://HOST/PATH".to_owned()),
    };
    let headers = header_map(headers)?;
    let written = Authority::parse(claimed.as_str(), Some(port)).map_err(|error| error.to_string())?;
    if method == Method::GET
        && let Some(told) = handed_out::explain(config, &written, &uri)
    {
        return Ok(told);
    }
    let policy = from_config::policy(config);
    let routed = |host| policy.routes().iter().any(|route| route.has_host(host));
    let upgraded = scheme == "http" && matches!(written.port, 80 | 443) && written.host().is_some_and(routed);
    let authority = if upgraded { Authority { port: 443, ..written } } else { written };
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let facts = Facts { authority: &authority, method: &method, target, headers: &headers, placeholder: None };
    let decision = policy.decide(&facts);
    let connect = (scheme == "https").then(|| policy.connect(&authority));
    let way = match connect {
        None if upgraded => "plain http to bearerd, sent on over TLS to port 443".to_owned(),
        None => "plain http through the proxy".to_owned(),
        Some(Connect::Intercept) => "CONNECT, TLS ended in bearerd: it sees each request".to_owned(),
        Some(Connect::Tunnel) => "CONNECT, a tunnel: bytes are carried unseen, nothing can be added".to_owned(),
        Some(Connect::Refuse(reason)) => format!("CONNECT, refused with 403 ({})", reason.label()),
    };
    let note = if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        "note    methods are case-sensitive: GET is not get\n"
    } else {
        ""
    };
    let (route, result) = words(&decision);
    let result = match connect {
        Some(Connect::Tunnel) if matches!(decision, Decision::Deny { .. }) => {
            "passes as it is: what a tunnel carries is not seen, so no request in it is refused".to_owned()
        }
        _ => result,
    };
    Ok(format!("goes to {authority}\nway     {way}\nroute   {route}\nresult  {result}\n{note}"))
}

/// The route and what becomes of the request.
fn words(decision: &Decision<'_>) -> (String, String) {
    let (route, result) = match decision {
        Decision::Inject { route } => {
            let result = format!(
                "gets the {} token of credential '{}' in its header {}",
                route.token, route.credential, route.header
            );
            (Some(*route), result)
        }
        Decision::SignBlob { route, .. } => {
            let result = format!("signed here by credential '{}', if it is a V4 signed URL", route.credential);
            (Some(*route), result)
        }
        Decision::Pass { route, reason, .. } => {
            (*route, format!("passes without a token: {} ({})", reason.message(), reason.label()))
        }
        Decision::Deny { route, reason } => {
            (*route, format!("refused with 403: {} ({})", reason.message(), reason.label()))
        }
    };
    let route = route.map_or_else(|| "none matches".to_owned(), |route| format!("{} ({})", route.name, route.action));
    (route, result)
}

fn header_map(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header without a colon; want 'name: value'")?;
        let name: HeaderName = name.trim().parse().map_err(|_| "a header's name is not valid; want 'name: value'")?;
        let value: HeaderValue =
            value.trim().parse().map_err(|_| "a header's value is not valid; want visible ASCII")?;
        headers.append(name, value);
    }
    Ok(headers)
}
