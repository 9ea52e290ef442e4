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
    credential::{Exchange, Source, Spec, Want},
    net::client::Client,
    policy::{Action, Connect, Decision, Facts},
    secret::Secret,
    shutdown::Tasks,
};

/// What `check` found.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    good: bool,
    what: String,
    result: String,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.good)
    }

    /// A line for each thing looked at.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
        let mut table = String::new();
        for Row { good, what, result } in &self.rows {
            let mark = if *good { "ok  " } else { "FAIL" };
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{mark}  {what:width$}  {result}");
        }
        table
    }

    fn add(&mut self, good: bool, what: impl Into<String>, result: impl Into<String>) {
        self.rows.push(Row { good, what: what.into(), result: result.into() });
    }
}

/// Looks at everything; `offline` asks no token endpoint.
pub async fn run(loaded: &Loaded, offline: bool, clock: Clock) -> Report {
    let mut report = Report::default();
    report.add(true, "configuration", format!("{} routes", loaded.settings.policy.routes.len()));
    for warning in &loaded.warnings {
        report.add(true, "warning", warning.to_string());
    }
    let exchange = match exchange(&loaded.settings, clock) {
        Ok(exchange) => Some(exchange).filter(|_| !offline),
        Err(error) => {
            report.add(false, "upstream", format!("{error:#}"));
            None
        }
    };
    for spec in from_config::credentials(&loaded.settings) {
        check_credential(&mut report, &spec, exchange.as_ref()).await;
    }
    report
}

async fn check_credential(report: &mut Report, spec: &Spec, exchange: Option<&Exchange>) {
    let sources = keys(spec);
    let name = spec.name.as_str();
    let mut usable = Vec::new();
    for (file, source) in sources {
        match source {
            Ok(source) => {
                let id = source.key_id().unwrap_or("without id");
                report.add(true, format!("key {name}/{file}"), format!("{} ({id})", source.account()));
                usable.push(source);
            }
            Err(problem) => report.add(false, format!("key {name}/{file}"), problem),
        }
    }
    let Some(exchange) = exchange else { return };
    if usable.is_empty() {
        return;
    }
    match first_token(&usable, exchange).await {
        Ok(token) => {
            report.add(true, format!("exchange {name}"), format!("a token for {} s", token.lifetime.as_secs()));
        }
        Err(error) => report.add(false, format!("exchange {name}"), format!("{error:#}")),
    }
}

/// Each file of a credential, read or refused; a path without any is one refusal.
fn keys(spec: &Spec) -> Vec<(String, Result<Source, String>)> {
    let found = crate::watch::look(spec.path());
    let mut keys: Vec<_> = found
        .files
        .iter()
        .map(|file| {
            let source = match &file.content {
                Ok(content) => spec.load(content).map_err(|error| error.to_string()),
                Err(unread) => Err(unread.to_string()),
            };
            (file.name.clone(), source)
        })
        .collect();
    if let Some(problem) = &found.problem {
        keys.push((spec.path().display().to_string(), Err(problem.to_string())));
    }
    keys
}

async fn first_token(sources: &[Source], exchange: &Exchange) -> anyhow::Result<crate::credential::Token> {
    let mut last = anyhow::anyhow!("no usable key");
    for source in sources {
        match source.fetch(&Want::Access, exchange).await {
            Ok(token) => return Ok(token),
            Err(error) => last = anyhow::anyhow!("{} ({})", error, error.label()),
        }
    }
    Err(last)
}

/// How a token endpoint is reached with these settings.
///
/// # Errors
/// When the roots cannot be read.
pub fn exchange(config: &config::Settings, clock: Clock) -> anyhow::Result<Exchange> {
    let settings = from_config::settings(config)?;
    let (tls, dialer) = app::upstream(&settings.upstream, clock)?;
    let client = Client::new(dialer, tls, &Tasks::new());
    Ok(Exchange::new(Arc::new(VerifiedPost(client)), clock))
}

/// One token of the credential called `name`.
///
/// # Errors
/// Why there is none.
pub async fn mint(config: &config::Settings, name: &str, exchange: &Exchange) -> anyhow::Result<Secret> {
    let specs = from_config::credentials(config);
    let spec = specs.iter().find(|spec| spec.name.as_str() == name).context("no such credential")?;
    let mut usable = Vec::new();
    let mut problems = Vec::new();
    for (file, source) in keys(spec) {
        match source {
            Ok(source) => usable.push(source),
            Err(problem) => problems.push(format!("{file}: {problem}")),
        }
    }
    anyhow::ensure!(!usable.is_empty(), "no usable key: {}", problems.join("; "));
    Ok(first_token(&usable, exchange).await?.secret)
}

/// What would happen to a request, in words.
///
/// # Errors
/// When method, URL or a header cannot be read; says what is accepted.
pub fn explain(config: &config::Settings, method: &str, url: &str, headers: &[String]) -> Result<String, String> {
    let method: Method = method.parse().map_err(|_| format!("{method:?} is no HTTP method; want GET, POST, …"))?;
    let uri: Uri = url.parse().map_err(|_| "the URL cannot be read; want https://HOST/PATH".to_owned())?;
    let (Some(scheme), Some(claimed)) = (uri.scheme_str(), uri.authority()) else {
        return Err("the URL names no host; want https://HOST/PATH".to_owned());
    };
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err("the URL's scheme is not http or https".to_owned()),
    };
    let headers = header_map(headers)?;
    let written = Authority::parse(claimed.as_str(), Some(port)).map_err(|error| error.to_string())?;
    let policy = from_config::policy(config);
    let routed = |host| policy.routes().iter().any(|route| route.has_host(host));
    let upgraded = scheme == "http" && matches!(written.port, 80 | 443) && written.host().is_some_and(routed);
    let authority = if upgraded { Authority { port: 443, ..written } } else { written };
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let facts = Facts { authority: &authority, method: &method, target, headers: &headers, placeholder: None };
    let decision = policy.decide(&facts);
    Ok(words(&policy.connect(&authority), &decision, &authority, upgraded))
}

fn words(connect: &Connect, decision: &Decision<'_>, authority: &Authority, upgraded: bool) -> String {
    let mut text = format!("authority   {authority}\n");
    let way = match connect {
        Connect::Intercept => "TLS is ended in bearerd, each request is judged".to_owned(),
        Connect::Tunnel => "bytes are carried unseen, without a credential".to_owned(),
        Connect::Refuse(reason) => format!("refused: {} ({})", reason.message(), reason.label()),
    };
    let _ = writeln!(text, "CONNECT     {way}");
    if upgraded {
        text.push_str("http://     sent on over TLS to port 443\n");
    }
    let (route, outcome) = match decision {
        Decision::Inject { route } => {
            let what =
                format!("injected: {} token of credential {} in {}", route.token, route.credential, route.header);
            (Some(*route), what)
        }
        Decision::Pass { route, reason, .. } => {
            (*route, format!("passed without a token: {} ({})", reason.message(), reason.label()))
        }
        Decision::Deny { route, reason } => {
            (*route, format!("denied with 403: {} ({})", reason.message(), reason.label()))
        }
    };
    let route =
        route.map_or_else(|| "none matches".to_owned(), |route| format!("{} ({})", route.name, action(route.action)));
    let _ = writeln!(text, "route       {route}\nresult      {outcome}");
    text
}

fn action(action: Action) -> &'static str {
    action.as_str()
}

fn header_map(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header without a colon; want `name: value`")?;
        let name: HeaderName = name.trim().parse().map_err(|_| "a header's name is not valid; want `name: value`")?;
        let value: HeaderValue =
            value.trim().parse().map_err(|_| "a header's value is not valid; want visible ASCII")?;
        headers.append(name, value);
    }
    Ok(headers)
}
