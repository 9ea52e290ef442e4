//! Owns the environment that sends a program's Google traffic through the sidecar, as one pure function and its printed forms.
//! Refuses to know where its input comes from: a process's environment, a container in a pod, or a flag.
//! Called by `env`, `exec`, the webhook and `inject`, so that all four agree to the letter.
//!
//! A variable that the user set is never overwritten: lists and JVM options are merged, everything else is kept and
//! reported. Warnings name variables, never values, since a proxy URL may hold a password.

mod print;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, net::SocketAddr};

pub use self::print::{Format, print};

/// Where the sidecar is and what the user wants.
#[derive(Clone, Default)]
pub struct Wanted {
    /// The proxy door; `None` where traffic gets in by other ways (transparent, endpoint).
    pub proxy: Option<Proxy>,
    /// The metadata door; `None` where it is off.
    pub metadata: Option<SocketAddr>,
    /// The trust files, where TLS is intercepted.
    pub trust: Option<Trust>,
    /// The project, where it is known.
    pub project: Option<String>,
    /// Plain `http://` through the proxy too: by opt-in, since it also catches traffic inside the cluster.
    pub http_proxy: bool,
    /// The program runs in a pod, where the kubelet expands `$(NAME)`.
    pub kubernetes: bool,
    /// Leaves `JAVA_TOOL_OPTIONS` alone, as transparent mode does: in a pod it would hide the one of the image.
    pub without_java: bool,
    /// What else must not go through the proxy.
    pub no_proxy: Vec<String>,
}

/// The proxy door.
#[derive(Clone)]
pub struct Proxy {
    /// Its address.
    pub address: SocketAddr,
    /// `user:password`, percent-encoded, where the door asks for it (`exec`).
    pub user_info: Option<String>,
}

/// The files of the pod's CA, as the program sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The CA alone, for what adds to the built-in roots.
    pub ca: String,
    /// Public roots and the CA, for what replaces them: nearly everything.
    pub bundle: String,
    /// The same as PKCS#12, for JVMs.
    pub truststore: String,
}

impl Trust {
    /// The files in `directory`, under the names that the sidecar writes.
    pub fn under(directory: &str) -> Self {
        let file = |name: &str| format!("{}/{name}", directory.trim_end_matches('/'));
        Self { ca: file("ca.pem"), bundle: file("bundle.pem"), truststore: file("truststore.p12") }
    }
}

/// What the user has set already.
#[derive(Clone, PartialEq, Eq)]
pub enum Existing {
    /// This value.
    Literal(String),
    /// A value that cannot be seen from here (`valueFrom`).
    Reference,
}

/// One variable of the result.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value; for a kept one the user's, empty where that cannot be seen.
    pub value: String,
    /// Where the value comes from.
    pub how: How,
    /// What the user should know about it.
    pub warning: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is ours.
    Set,
    /// The user's with ours added.
    Merged,
    /// The user's, as it was.
    Kept,
}

/// The environment of a program, in a stable order: what to set, and what was kept and why that may be wrong.
pub fn environment(wanted: &Wanted, existing: &BTreeMap<String, Existing>) -> Vec<Variable> {
    let mut plan = Plan { existing, out: Vec::new() };
    proxies(wanted, &mut plan);
    trust(wanted, &mut plan);
    java(wanted, &mut plan);
    metadata(wanted, &mut plan);
    if let Some(project) = &wanted.project {
        plan.family(&["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"], project, "");
        plan.family(&["CLOUDSDK_CORE_PROJECT"], project, "");
    }
    switches(wanted, &mut plan);
    plan.out
}

/// The warnings, each once, with the names of its variables.
pub fn warnings(variables: &[Variable]) -> Vec<String> {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for variable in variables {
        let Some(warning) = &variable.warning else { continue };
        match grouped.iter_mut().find(|(known, _)| known == warning) {
            Some((_, names)) => names.push(variable.name),
            None => grouped.push((warning, vec![variable.name])),
        }
    }
    grouped.into_iter().map(|(warning, names)| format!("{}: {warning}", names.join(", "))).collect()
}

impl fmt::Debug for Variable {
    /// Without the value, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.how)
    }
}

struct Plan<'a> {
    existing: &'a BTreeMap<String, Existing>,
    out: Vec<Variable>,
}

impl Plan<'_> {
    /// Sets variables that mean the same to different programs. One of them set by the user speaks for all: filling in the
    /// rest would overrule it where a program prefers another spelling. Returns whether they are ours.
    fn family(&mut self, names: &[&'static str], value: &str, warning: &str) -> bool {
        let theirs = |name: &&'static str| match self.existing.get(*name) {
            Some(Existing::Literal(literal)) if literal == value => None,
            other => other.map(|other| (*name, other)),
        };
        let kept: Vec<_> = names.iter().filter_map(theirs).collect();
        if kept.is_empty() {
            let set = |name: &&'static str| Variable::new(name, value.to_owned(), How::Set);
            self.out.extend(names.iter().map(set));
            return true;
        }
        let kept: Vec<_> = kept.into_iter().map(|(name, existing)| Variable::kept(name, existing, warning)).collect();
        self.out.extend(kept);
        false
    }

    /// Says something about a variable that we never set.
    fn report(&mut self, name: &'static str, warning: &str) {
        if let Some(existing) = self.existing.get(name) {
            self.out.push(Variable::kept(name, existing, warning));
        }
    }
}

impl Variable {
    fn new(name: &'static str, value: String, how: How) -> Self {
        Self { name, value, how, warning: None }
    }

    fn kept(name: &'static str, existing: &Existing, warning: &str) -> Self {
        let value = existing.literal().unwrap_or_default().to_owned();
        let warning = (!warning.is_empty()).then(|| warning.to_owned());
        Self { name, value, how: How::Kept, warning }
    }
}

impl Existing {
    fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Reference => None,
        }
    }
}

fn proxies(wanted: &Wanted, plan: &mut Plan<'_>) {
    let Some(proxy) = &wanted.proxy else { return };
    let user = proxy.user_info.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let url = format!("http://{user}{}", proxy.address);
    // gRPC reads lower case only, .NET and Java's kin upper case first: both, always.
    if plan.family(&["HTTPS_PROXY", "https_proxy"], &url, OTHER_PROXY) {
        plan.family(&["grpc_proxy"], &url, OTHER_PROXY);
    }
    if wanted.http_proxy {
        plan.family(&["HTTP_PROXY", "http_proxy"], &url, OTHER_PROXY);
    }
    plan.report("ALL_PROXY", OTHER_PROXY);
    plan.report("all_proxy", OTHER_PROXY);
    no_proxy(wanted, plan);
}

/// The list of hosts that are reached directly, in both spellings, with what the user has in either.
fn no_proxy(wanted: &Wanted, plan: &mut Plan<'_>) {
    let existing = plan.existing;
    let theirs = |name: &str| existing.get(name).and_then(Existing::literal);
    for (name, twin) in [("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY"), ("no_grpc_proxy", "no_grpc_proxy")] {
        match existing.get(name) {
            Some(reference @ Existing::Reference) => {
                plan.out.push(Variable::kept(name, reference, HIDDEN_LIST));
                continue;
            }
            // gRPC prefers this one where it exists; it is no variable of ours.
            None if name == "no_grpc_proxy" => continue,
            _ => {}
        }
        // grpc-js takes an empty item for "everything" and does not trim blanks.
        let user = theirs(name).or_else(|| theirs(twin)).unwrap_or_default();
        let user = user.split(',').map(str::trim).filter(|item| !item.is_empty());
        let mut items: Vec<&str> = Vec::new();
        for item in user.chain(direct(wanted)) {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        let how = if theirs(name).is_some_and(|value| !value.is_empty()) { How::Merged } else { How::Set };
        let mut variable = Variable::new(name, items.join(","), how);
        variable.warning = items.iter().any(|item| covers_google(item)).then(|| PAST_US.to_owned());
        plan.out.push(variable);
    }
}

/// What never goes through the proxy. Addresses one by one, since Node and .NET know no CIDR.
fn direct(wanted: &Wanted) -> impl Iterator<Item = &str> {
    // Expanded by the kubelet: a literal address would be wrong in the next cluster.
    let api_server = wanted.kubernetes.then_some("$(KUBERNETES_SERVICE_HOST)");
    let own = wanted.no_proxy.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty());
    DIRECT.iter().copied().chain(api_server).chain(own)
}

/// Whether an item of the list makes clients go to Google without us.
fn covers_google(item: &str) -> bool {
    let host = item.split(':').next().unwrap_or_default();
    let item = host.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
    (item.is_empty() && host.starts_with('*'))
        || item == "com"
        || item == "googleapis.com"
        || item.ends_with(".googleapis.com")
}

fn trust(wanted: &Wanted, plan: &mut Plan<'_>) {
    let Some(trust) = &wanted.trust else { return };
    for name in BUNDLES {
        plan.family(&[name], &trust.bundle, OTHER_ROOTS);
    }
    plan.family(&[EXTRA], &trust.ca, OTHER_ROOTS);
}

/// A JVM reads no proxy or trust variable, only properties. Of two the last wins, so a group of which the user sets any
/// is left out whole: our password would not open their trust store.
fn java(wanted: &Wanted, plan: &mut Plan<'_>) {
    let name = "JAVA_TOOL_OPTIONS";
    let ours = java_options(wanted);
    if wanted.without_java || ours.is_empty() {
        return;
    }
    let user = match plan.existing.get(name) {
        Some(reference @ Existing::Reference) => {
            plan.out.push(Variable::kept(name, reference, HIDDEN_OPTIONS));
            return;
        }
        existing => existing.and_then(Existing::literal).unwrap_or_default().trim(),
    };
    let mut value = user.to_owned();
    let mut differs = false;
    for (prefix, flags) in ours {
        let theirs: Vec<_> = user.split_whitespace().filter(|option| option.starts_with(prefix)).collect();
        if theirs.is_empty() {
            let blank = if value.is_empty() { "" } else { " " };
            value = format!("{value}{blank}{}", flags.join(" "));
        } else {
            differs |= !flags.iter().all(|flag| theirs.contains(&flag.as_str()));
        }
    }
    let how = if user.is_empty() { How::Set } else { How::Merged };
    let mut variable = Variable::new(name, value, how);
    variable.warning = differs.then(|| OTHER_OPTIONS.to_owned());
    plan.out.push(variable);
}

/// Groups of flags, each with what all its flags begin with.
fn java_options(wanted: &Wanted) -> Vec<(&'static str, Vec<String>)> {
    let mut options = Vec::new();
    if let Some(proxy) = &wanted.proxy {
        let (host, port) = (proxy.address.ip(), proxy.address.port());
        let door = |scheme: &str| vec![format!("-D{scheme}.proxyHost={host}"), format!("-D{scheme}.proxyPort={port}")];
        options.push(("-Dhttps.proxy", door("https")));
        if wanted.http_proxy {
            options.push(("-Dhttp.proxy", door("http")));
        }
        // A suffix is written with a star here; `|` separates. The list replaces the JVM's own for loopback.
        let mut hosts = vec!["127.*".to_owned(), "[::1]".to_owned()];
        let named = direct(wanted).filter(|item| *item != "127.0.0.1" && *item != "::1");
        hosts.extend(named.map(|item| if item.starts_with('.') { format!("*{item}") } else { item.to_owned() }));
        options.push(("-Dhttp.nonProxyHosts", vec![format!("-Dhttp.nonProxyHosts={}", hosts.join("|"))]));
    }
    if let Some(trust) = &wanted.trust {
        let store = format!("-Djavax.net.ssl.trustStore={}", trust.truststore);
        let rest = ["-Djavax.net.ssl.trustStorePassword=changeit", "-Djavax.net.ssl.trustStoreType=PKCS12"];
        options.push(("-Djavax.net.ssl.trustStore", std::iter::once(store).chain(rest.map(str::to_owned)).collect()));
    }
    options
}

fn metadata(wanted: &Wanted, plan: &mut Plan<'_>) {
    let Some(address) = wanted.metadata else { return };
    // Python pings the second, gcloud asks the third, everything else the first; none of them wants a scheme.
    for name in ["GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"] {
        plan.family(&[name], &address.to_string(), OTHER_METADATA);
    }
    plan.family(&["METADATA_SERVER_DETECTION"], "assume-present", OTHER_METADATA);
    plan.report("NO_GCE_CHECK", OTHER_METADATA);
    plan.report("GOOGLE_APPLICATION_CREDENTIALS", KEY_FILE);
    plan.report("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", KEY_FILE);
}

/// Keeps SDKs on plain TLS to the usual hosts, where the proxy sees them.
fn switches(wanted: &Wanted, plan: &mut Plan<'_>) {
    if wanted.proxy.is_some() {
        plan.family(&["NODE_USE_ENV_PROXY"], "1", "");
        // gcloud without credentials of its own, where it could not get a placeholder either.
        if wanted.metadata.is_none() {
            plan.family(&["CLOUDSDK_AUTH_DISABLE_CREDENTIALS"], "true", "");
        }
    }
    if wanted.proxy.is_some() || wanted.trust.is_some() {
        plan.family(&["GOOGLE_API_USE_MTLS_ENDPOINT"], "never", OTHER_PATH);
        plan.family(&["GOOGLE_API_USE_CLIENT_CERTIFICATE"], "false", OTHER_PATH);
        plan.family(&["GOOGLE_CLOUD_DISABLE_DIRECT_PATH"], "true", OTHER_PATH);
        plan.report("GOOGLE_CLOUD_ENABLE_DIRECT_PATH_XDS", OTHER_PATH);
    }
    if wanted.metadata.is_some() {
        // Python asks with POST for tokens bound to a certificate, which the metadata door does not give.
        plan.family(&["GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN"], "false", OTHER_METADATA);
    }
}

const DIRECT: [&str; 7] =
    ["localhost", "127.0.0.1", "::1", "169.254.169.254", "metadata.google.internal", ".svc", ".cluster.local"];

/// Each replaces the built-in roots of someone: OpenSSL and Go, requests, curl, httplib2, gRPC core, gcloud.
pub const BUNDLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTPLIB2_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];

/// Adds to the built-in roots, where Node looks for more.
pub const EXTRA: &str = "NODE_EXTRA_CA_CERTS";

const OTHER_PROXY: &str = "already set, so clients that read it do not come through bearerd; chain that proxy with upstream.parentProxy instead";
const HIDDEN_LIST: &str =
    "set from a reference, so nothing could be added; loopback, the metadata server and cluster names must be in it";
const PAST_US: &str = "sends requests to Google past bearerd, where they get no credential";
const OTHER_ROOTS: &str = "already set, so HTTPS to intercepted hosts fails for clients that read it unless that file holds bearerd's CA; \
     unset it, and give its roots to upstream.extraRoots if Google is reached through them";
const HIDDEN_OPTIONS: &str =
    "set from a reference, so nothing could be added; a JVM will not find the proxy or trust its CA";
const OTHER_OPTIONS: &str =
    "sets a proxy or trust property of its own, which is kept; a JVM may pass bearerd by or not trust its CA";
const OTHER_METADATA: &str = "already set, so clients that read it may not find bearerd's metadata server";
const KEY_FILE: &str =
    "already set, so clients use that file and never ask bearerd's metadata server; remove it with the key";
const OTHER_PATH: &str = "already set; a client that leaves plain TLS cannot be given a credential";
