//! Defaults, file, annotations and flags into one set of settings, checked against each other.

use std::path::{Path, PathBuf};

use super::{
    Flags, account, annotated,
    annotated_route::{FileRoutes, reaches_signing},
    annotations::Annotations,
    file::{File, LISTENERS, MOST_ENDPOINTS, MOST_ROUTES, Placed, PlacedRoute, default_allow},
    mqtt,
    problem::{Place, Report, unknown},
    settings::{DEFAULT_KEY, MetadataMode, PolicySettings, Settings, default_credential, default_zone},
    token_entry, tokens, value,
};
use crate::{
    credential::{CredentialName, Kind, Spec, Want},
    policy::{Action, DEFAULT_CREDENTIAL, HostPattern, Route, Unmatched},
};

/// The reports of the three sources.
pub(super) struct Reports<'a> {
    pub(super) file: &'a mut Report,
    pub(super) annotations: &'a mut Report,
    pub(super) flags: &'a mut Report,
}

/// Joins the three, later ones winning. The result counts only if no report has a problem.
pub(super) fn merge(file: File, annotations: Annotations, flags: &Flags, reports: &mut Reports<'_>) -> Settings {
    let allow = allow(&file, flags, reports.flags);
    let mut credentials = credentials(&file, flags.key.as_ref(), reports.file);
    let scopes = flag_list(&flags.allow_scopes, "--allow-scopes", value::scope, reports.flags);
    annotated::scopes(&annotations.scopes, &scopes, &mut credentials, reports.annotations);
    let accounts = flag_list(&flags.allow_accounts, "--allow-accounts", value::service_account, reports.flags);
    if let Some(account) = &annotations.service_account {
        account::apply(account, &accounts, &mut credentials, reports.annotations);
    }
    let ceiling = (&allow[..], is_ceiling_set(&file, flags));
    let routes = routes(&file, &annotations, &credentials, ceiling, reports);
    mqtt::check(&file, flags, &credentials, &allow, reports.file);
    ports(&file, &annotations, reports);
    endpoints(&file, &annotations, &allow, reports);
    let door_is_open = file.listeners.token_api.is_some();
    let tokens = token_entry::resolve(&file.tokens, &credentials, door_is_open, reports.file);
    let intercepts = file.listeners.intercepts();
    annotated::metadata(&annotations, &file, flags.allow_metadata_token, reports.annotations);
    let metadata = metadata(&file, &annotations, intercepts, reports);
    let default = Settings::default();
    let wait_for = flag(flags.wait_for.as_deref(), "--wait-for", value::wait_for, reports.flags);
    let log_level = flag(flags.log_level.as_deref(), "--log-level", value::log_level, reports.flags);
    let endpoints = file.endpoints.into_iter().chain(annotations.endpoints).map(|placed| placed.value).collect();
    Settings {
        credentials,
        policy: PolicySettings { routes, unmatched: file.unmatched.unwrap_or(Unmatched::Pass), allow },
        listeners: file.listeners,
        endpoints,
        tokens,
        mqtt: file.mqtt.into_iter().map(|door| door.settings).collect(),
        metadata,
        trust: file.trust,
        upstream: file.upstream,
        workers: file.workers.unwrap_or(default.workers),
        availability: file.availability.unwrap_or(default.availability),
        drain: file.drain,
        wait_for: wait_for.or(annotations.wait_for).unwrap_or(default.wait_for),
        log_level: log_level.or(annotations.log_level).unwrap_or(default.log_level),
        shape: annotations.shape,
    }
}

fn flag<T>(
    text: Option<&str>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
    report: &mut Report,
) -> Option<T> {
    parse(text?).map_err(|error| report.problem(&flag_place(name), error)).ok()
}

fn flag_place(name: &str) -> Place {
    Place { at: None, path: name.to_owned() }
}

/// The values of a flag that takes comma-separated lists.
fn flag_list<T>(
    lists: &[String],
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    report: &mut Report,
) -> Vec<T> {
    let texts = lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|text| !text.is_empty());
    texts.filter_map(|text| flag(Some(text), name, &parse, report)).collect()
}

/// Whether somebody said what the ceiling is. An empty flag says nothing.
pub(super) fn is_ceiling_set(file: &File, flags: &Flags) -> bool {
    let says = |list: &String| list.split(',').any(|text| !text.trim().is_empty());
    !file.allow.is_empty() || flags.allow_hosts.iter().any(says)
}

/// The ceiling: the flag, else the file's, else the zone and the file's own hosts.
fn allow(file: &File, flags: &Flags, report: &mut Report) -> Vec<HostPattern> {
    let allow = flag_list(&flags.allow_hosts, "--allow-hosts", value::pattern, report);
    match () {
        () if !allow.is_empty() => allow,
        () if !file.allow.is_empty() => file.allow.clone(),
        () => default_allow(file.routes.as_deref()),
    }
}

fn credentials(file: &File, key: Option<&PathBuf>, report: &mut Report) -> Vec<Spec> {
    let mut credentials = match &file.credentials {
        Some(listed) => {
            distinct(listed.iter().map(|placed| (placed.value.name.as_str(), &placed.place)), "credential", report);
            check_sources(listed, report);
            listed.iter().map(|placed| placed.value.clone()).collect()
        }
        None => vec![default_credential(DEFAULT_KEY.into())],
    };
    let named = credentials.iter().position(|credential| credential.name.as_str() == DEFAULT_CREDENTIAL);
    if let Some(key) = key {
        match named {
            Some(at) => set_key(&mut credentials[at], key),
            None => credentials.push(default_credential(key.clone())),
        }
    }
    credentials
}

/// The credential that annotations are about: the one named `default`, else the first.
pub(super) fn main_credential(credentials: &[Spec]) -> usize {
    let named = credentials.iter().position(|credential| credential.name.as_str() == DEFAULT_CREDENTIAL);
    named.unwrap_or_default()
}

/// Every derived credential has a source that gives access tokens, and none is derived from itself.
fn check_sources(listed: &[Placed<Spec>], report: &mut Report) {
    let find =
        |name: &CredentialName| listed.iter().find(|placed| placed.value.name == *name).map(|found| &found.value);
    for Placed { value, place } in listed {
        let Some(source) = value.kind.source() else { continue };
        let place = Place { at: place.at, path: format!("{}.{}.source", place.path, value.kind.label()) };
        let Some(found) = find(source) else {
            let names = listed.iter().map(|placed| placed.value.name.as_str());
            report.problem(&place, unknown("credential", source.as_str(), names));
            continue;
        };
        if found.first_want() != Some(Want::Access) {
            report.problem(&place, format!("a {} gives no access tokens, want another kind", found.kind.label()));
        }
        let chain = std::iter::successors(Some(found), |spec| find(spec.kind.source()?));
        // As many steps as there are credentials lead to an end, or in a circle.
        if chain.take(listed.len()).any(|spec| spec.name == value.name) {
            report.problem(&place, "the credential is derived from itself, want a source that is not");
        }
    }
}

/// `--key` says where the key of the credential `default` lies, whatever it is used for.
fn set_key(credential: &mut Spec, key: &Path) {
    match &mut credential.kind {
        Kind::ServiceAccountKey { path, .. }
        | Kind::SignedJwt { path, .. }
        | Kind::ExternalAccount { path, .. }
        | Kind::AuthorizedUser { path, .. } => key.clone_into(path),
        Kind::Impersonation { .. } | Kind::MetadataServer { .. } | Kind::Downscoped { .. } => {}
    }
}

fn distinct<'a>(names: impl Iterator<Item = (&'a str, &'a Place)>, what: &str, report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for (name, place) in names {
        if seen.contains(&name) {
            report.problem(place, format!("a second {what} named '{name}', want distinct names"));
        }
        seen.push(name);
    }
}

fn routes(
    file: &File,
    annotations: &Annotations,
    credentials: &[Spec],
    ceiling: (&[HostPattern], bool),
    reports: &mut Reports<'_>,
) -> Vec<Route> {
    let allow = ceiling.0;
    let place = Place { at: None, path: "routes".to_owned() };
    let mut listed = file.routes.clone().unwrap_or_else(|| {
        // Under a narrower ceiling the route of a sidecar that was told nothing narrows with it.
        let zone = default_zone();
        let is_whole = zone.iter().all(|host| covered(host, allow));
        let below = allow.iter().filter(|host| covered(host, &zone)).cloned().collect();
        let hosts = if is_whole { zone } else { below };
        if hosts.is_empty() {
            return Vec::new();
        }
        let places = vec![place.clone(); hosts.len()];
        let route = Route::google_apis(hosts);
        vec![PlacedRoute {
            route,
            place: place.clone(),
            hosts: places,
            credential: place.clone(),
            token: place.clone(),
            header: place.clone(),
        }]
    });
    distinct(listed.iter().map(|placed| (placed.route.name.as_str(), &placed.place)), "route", reports.file);
    for placed in &listed {
        check_route(placed, credentials, allow, reports.file);
    }
    let of_file = FileRoutes::new(file, &listed, credentials, ceiling);
    let signing: Vec<&str> = credentials
        .iter()
        .filter(|spec| matches!(spec.kind, Kind::ServiceAccountKey { signs_urls: true, .. }))
        .map(|spec| spec.name.as_str())
        .filter(|name| reaches_signing(&listed, name))
        .collect();
    if let Some(hosts) = &annotations.hosts {
        annotated::hosts(&mut listed, hosts, allow, &of_file, reports.annotations);
    }
    for placed in &annotations.routes {
        check_route(placed, credentials, allow, reports.annotations);
        of_file.check(placed, reports.annotations);
        if listed.iter().any(|other| other.route.name == placed.route.name) {
            reports.annotations.problem(&placed.place, "a route of the file has this name, want another");
        }
    }
    distinct(
        annotations.routes.iter().map(|placed| (placed.route.name.as_str(), &placed.place)),
        "route",
        reports.annotations,
    );
    if listed.len() + annotations.routes.len() > 2 * MOST_ROUTES {
        reports.annotations.problem(&Place::default(), format!("more than {MOST_ROUTES} routes"));
    }
    // Ahead of the file's, but never around one of its refusals.
    let at = listed.iter().rposition(|placed| placed.route.action == Action::Deny).map_or(0, |last| last + 1);
    let ours = |placed: &PlacedRoute| {
        let route = Route { is_annotated: true, ..placed.route.clone() };
        PlacedRoute { route, ..placed.clone() }
    };
    listed.splice(at..at, annotations.routes.iter().map(ours));
    warn_unreachable(&listed, reports.file);
    let signs = |route: &Route| signing.contains(&route.credential.as_str());
    let routes = listed.into_iter().map(|placed| placed.route);
    routes.map(|route| Route { signs_urls: signs(&route), ..route }).collect()
}

pub(super) fn covered(host: &HostPattern, allow: &[HostPattern]) -> bool {
    allow.iter().any(|pattern| pattern.covers(host))
}

fn check_route(placed: &PlacedRoute, credentials: &[Spec], allow: &[HostPattern], report: &mut Report) {
    let PlacedRoute { route, hosts, credential, .. } = placed;
    if route.action != Action::Inject {
        return;
    }
    match credentials.iter().find(|known| known.name.as_str() == route.credential) {
        Some(spec) => check_token(placed, spec, report),
        None => {
            let names = credentials.iter().map(|known| known.name.as_str());
            report.problem(credential, unknown("credential", &route.credential, names));
        }
    }
    for (host, place) in route.hosts.iter().zip(hosts) {
        check_ceiling(host, place, allow, report);
    }
}

/// Whether the credential gives what the route wants, and the route's hosts may see it.
fn check_token(placed: &PlacedRoute, spec: &Spec, report: &mut Report) {
    let PlacedRoute { route, hosts, token, .. } = placed;
    if let Err(message) = tokens::given(&spec.kind, route) {
        report.problem(token, message);
    }
    for (host, place) in route.hosts.iter().zip(hosts) {
        if let Err(message) = tokens::sent(host, route.token) {
            report.problem(place, message);
        }
    }
}

pub(super) fn check_ceiling(host: &HostPattern, place: &Place, allow: &[HostPattern], report: &mut Report) {
    if !covered(host, allow) {
        let list: Vec<String> = allow.iter().map(ToString::to_string).collect();
        report.problem(
            place,
            format!("'{host}' is beyond the hosts a credential may go to (allowed: {})", list.join(", ")),
        );
    }
}

fn warn_unreachable(routes: &[PlacedRoute], report: &mut Report) {
    for (index, later) in routes.iter().enumerate() {
        let hides = |earlier: &&PlacedRoute| {
            let route = &earlier.route;
            // An injecting route leaves other ports than 443 to those below it.
            let same_ports = route.action != Action::Inject || later.route.action == Action::Inject;
            !route.looks_inside() && same_ports && later.route.hosts.iter().all(|host| covered(host, &route.hosts))
        };
        if let Some(earlier) = routes[..index].iter().find(hides) {
            let name = &earlier.route.name;
            report.warning(&later.place, format!("never reached: the route '{name}' before it has all of its hosts"));
        }
    }
}

fn endpoints(file: &File, annotations: &Annotations, allow: &[HostPattern], reports: &mut Reports<'_>) {
    let sources = [(&file.endpoints, &mut *reports.file), (&annotations.endpoints, &mut *reports.annotations)];
    for (endpoints, report) in sources {
        for endpoint in endpoints {
            if let Some(host) = endpoint.value.upstream.host() {
                check_ceiling(&HostPattern::exact(host.clone()), &endpoint.place, allow, report);
            }
        }
    }
    if file.endpoints.len() + annotations.endpoints.len() > 2 * MOST_ENDPOINTS {
        reports.annotations.problem(&Place::default(), format!("more than {MOST_ENDPOINTS} endpoints"));
    }
}

/// No two doors at one port: the second bind would fail, and which is second nobody can tell.
fn ports(file: &File, annotations: &Annotations, reports: &mut Reports<'_>) {
    let listeners = &file.listeners;
    let slots = [
        listeners.proxy,
        listeners.metadata,
        listeners.transparent,
        listeners.token_api,
        listeners.health,
        listeners.control,
    ];
    let mut taken: Vec<(u16, String)> = Vec::new();
    for (name, address) in LISTENERS.iter().zip(slots) {
        let path = format!("listeners.{name}");
        let placed = file.listener_places.iter().find(|(listed, _)| listed == name).map(|(_, place)| place.clone());
        let place = placed.unwrap_or_else(|| Place { at: None, path: path.clone() });
        claim(address.map_or(0, |address| address.port()), path, &place, &mut taken, reports.file);
    }
    for endpoint in &file.endpoints {
        let (port, place) = (endpoint.value.listen.port(), &endpoint.place);
        claim(port, place.path.replace(".upstream", ".listen"), place, &mut taken, reports.file);
    }
    for door in &file.mqtt {
        let place = &door.listen;
        claim(door.settings.listen.port(), place.path.clone(), place, &mut taken, reports.file);
    }
    for endpoint in &annotations.endpoints {
        let (port, place) = (endpoint.value.listen.port(), &endpoint.place);
        claim(port, place.path.replace(".upstream", ".listen"), place, &mut taken, reports.annotations);
    }
}

fn claim(port: u16, path: String, place: &Place, taken: &mut Vec<(u16, String)>, report: &mut Report) {
    if port == 0 {
        return;
    }
    if let Some((_, other)) = taken.iter().find(|(known, _)| *known == port) {
        report.problem(&Place { at: place.at, path }, format!("port {port} is that of {other} too, want another or 0"));
    } else {
        taken.push((port, path));
    }
}

/// A placeholder without a door that replaces it would only produce 401s.
fn metadata(file: &File, annotations: &Annotations, intercepts: bool, reports: &mut Reports<'_>) -> MetadataMode {
    let by_default = if intercepts { MetadataMode::Placeholder } else { MetadataMode::Off };
    let (chosen, report) = match (&annotations.metadata, &file.metadata) {
        (Some(chosen), _) => (Some(chosen), &mut *reports.annotations),
        (None, chosen) => (chosen.as_ref(), &mut *reports.file),
    };
    let Some(chosen) = chosen else { return by_default };
    if chosen.value == MetadataMode::Placeholder && !intercepts {
        let message =
            "placeholder is of no use: listeners.proxy and listeners.transparent are off, so nothing replaces it";
        report.warning(&chosen.place, message);
    }
    chosen.value
}
