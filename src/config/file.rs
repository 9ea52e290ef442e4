//! The shape of the configuration file: every section, its fields, and what each accepts.

use std::time::Duration;

use super::{
    credential,
    cursor::{Cursor, Fields},
    mqtt::{self, PlacedDoor},
    problem::{Place, Report},
    settings::{
        ConnectTo, EndpointSettings, ListenerSettings, MetadataMode, TrustSettings, UpstreamSettings, default_zone,
    },
    token_entry::{self, MOST_ENTRIES, PlacedEntry},
    value,
};
use crate::{
    credential::Spec,
    policy::{
        Action, ClientAuthorization, DEFAULT_CREDENTIAL, Fallback, HostPattern, QuotaProject, Route, TokenKind,
        Unmatched,
    },
    shutdown::DrainSettings,
};

/// A value, and where to complain about it later.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// What a file says. `None` = it says nothing.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) credentials: Option<Vec<Placed<Spec>>>,
    pub(super) routes: Option<Vec<PlacedRoute>>,
    pub(super) unmatched: Option<Unmatched>,
    pub(super) allow: Vec<HostPattern>,
    pub(super) listeners: ListenerSettings,
    /// The place of each listener's value, by name, for clashes of ports.
    pub(super) listener_places: Vec<(&'static str, Place)>,
    pub(super) endpoints: Vec<Placed<EndpointSettings>>,
    pub(super) tokens: Vec<PlacedEntry>,
    pub(super) mqtt: Vec<PlacedDoor>,
    pub(super) metadata: Option<Placed<MetadataMode>>,
    pub(super) trust: TrustSettings,
    pub(super) upstream: UpstreamSettings,
    pub(super) workers: Option<usize>,
    pub(super) availability: Option<Duration>,
    pub(super) drain: DrainSettings,
}

/// A route with the places of what is checked against the rest.
#[derive(Clone, Debug)]
pub(super) struct PlacedRoute {
    pub(super) route: Route,
    pub(super) place: Place,
    pub(super) hosts: Vec<Place>,
    pub(super) credential: Place,
    pub(super) token: Place,
    pub(super) header: Place,
}

/// Reads the whole file.
pub(super) fn read(root: &Cursor<'_>, report: &mut Report) -> File {
    let fields = root.fields(SECTIONS, report);
    let mut file = File::default();
    if let Some(section) = fields.optional("credentials") {
        let items = section.items(MOST_CREDENTIALS, report);
        file.credentials = Some(items.iter().filter_map(|item| credential::read(item, report)).collect());
    }
    if let Some(section) = fields.optional("routes") {
        let items = section.items(MOST_ROUTES, report);
        file.routes = Some(items.iter().filter_map(|item| file_route(item, report)).collect());
    }
    file.unmatched = fields.optional("unmatched").and_then(|cursor| cursor.parse(report, value::unmatched));
    if let Some(section) = fields.optional("allow") {
        let allow = section.fields(&["hosts"], report);
        file.allow = allow.list("hosts", MOST_HOSTS, report, value::pattern).unwrap_or_default();
    }
    if let Some(section) = fields.optional("listeners") {
        listeners(section, &mut file, report);
    }
    if let Some(section) = fields.optional("endpoints") {
        let items = section.items(MOST_ENDPOINTS, report);
        file.endpoints = items.iter().filter_map(|item| endpoint(item, report)).collect();
    }
    if let Some(section) = fields.optional("tokens") {
        let items = section.items(MOST_ENTRIES, report);
        file.tokens = items.iter().filter_map(|item| token_entry::read(item, report)).collect();
    }
    if let Some(section) = fields.optional("mqtt") {
        let items = section.items(MOST_DOORS, report);
        file.mqtt = items.iter().filter_map(|item| mqtt::read(item, report)).collect();
    }
    if let Some(section) = fields.optional("metadata") {
        let section = section.fields(&["mode"], report);
        let mode = |cursor: &Cursor<'_>, report: &mut Report| {
            cursor.parse(report, value::metadata_mode).map(|value| Placed { value, place: cursor.place() })
        };
        file.metadata = section.optional("mode").and_then(|cursor| mode(cursor, report));
    }
    if let Some(section) = fields.optional("trust") {
        let section = section.fields(&["public", "private"], report);
        file.trust.public = section.parse_or("public", file.trust.public, report, value::path);
        file.trust.private = section.parse_or("private", file.trust.private, report, value::path);
    }
    if let Some(section) = fields.optional("upstream") {
        file.upstream = upstream(section, report);
    }
    running(&fields, &mut file, report);
    file
}

/// Workers, refresh and drain.
fn running(fields: &Fields<'_>, file: &mut File, report: &mut Report) {
    file.workers = fields.optional("workers").and_then(|cursor| cursor.parse(report, value::workers));
    if let Some(section) = fields.optional("refresh") {
        let section = section.fields(&["availability"], report);
        // A token lives an hour: more in hand than 55 min would mean refreshing without pause.
        let within = |text: &str| value::duration_within(text, "5m", "55m");
        file.availability = section.optional("availability").and_then(|cursor| cursor.parse(report, within));
    }
    if let Some(section) = fields.optional("drain") {
        let section = section.fields(&["linger", "deadline"], report);
        let DrainSettings { linger, deadline } = file.drain;
        let linger = section.parse_or("linger", linger, report, |text| value::duration_within(text, "0s", "10m"));
        let deadline = section.parse_or("deadline", deadline, report, |text| value::duration_within(text, "0s", "1h"));
        if linger > deadline {
            report.problem(&section.place, "linger is longer than deadline, want it shorter");
        }
        file.drain = DrainSettings { linger, deadline };
    }
}

fn file_route(cursor: &Cursor<'_>, report: &mut Report) -> Option<PlacedRoute> {
    let fields = cursor.fields(ROUTE_WITH_NAME, report);
    let name = fields.required("name", report).and_then(|name| name.parse(report, value::name));
    route(name.unwrap_or_default(), &fields, report)
}

/// A route without its name, which an annotation carries in its key.
pub(super) fn route(name: String, fields: &Fields<'_>, report: &mut Report) -> Option<PlacedRoute> {
    let mut hosts = Vec::new();
    let mut places = Vec::new();
    if let Some(list) = fields.required("hosts", report) {
        let none = "no hosts, want at least one such as storage.googleapis.com";
        for item in list.some_items(MOST_HOSTS, none, report) {
            if let Some(pattern) = item.parse(report, value::pattern) {
                hosts.push(pattern);
                places.push(item.place());
            }
        }
    }
    let default = Route::google_apis(hosts);
    let place_of = |name| fields.optional(name).map_or_else(|| fields.place.clone(), Cursor::place);
    let optional_audience = |text: &str| if text.is_empty() { Ok(None) } else { value::audience(text).map(Some) };
    let route = Route {
        name,
        methods: fields.list("methods", MOST_METHODS, report, value::method).unwrap_or_default(),
        paths: fields.list("paths", MOST_PATHS, report, value::path_prefix).unwrap_or_default(),
        action: fields.parse_or("action", Action::Inject, report, value::action),
        credential: fields.parse_or("credential", DEFAULT_CREDENTIAL.to_owned(), report, value::name),
        token: fields.parse_or("token", TokenKind::Access, report, value::token),
        audience: fields.parse_or("audience", None, report, optional_audience),
        fallback: fields.parse_or("fallback", Fallback::None, report, value::fallback),
        header: fields.parse_or("header", default.header.clone(), report, value::token_header),
        client_authorization: fields.parse_or(
            "clientAuthorization",
            ClientAuthorization::Replace,
            report,
            value::client_authorization,
        ),
        quota_project: fields.parse_or("quotaProject", QuotaProject::default(), report, value::quota_project),
        ..default
    };
    (!route.name.is_empty() && !route.hosts.is_empty()).then_some(PlacedRoute {
        route,
        place: fields.place.clone(),
        hosts: places,
        credential: place_of("credential"),
        token: place_of("token"),
        header: place_of("header"),
    })
}

fn listeners(cursor: &Cursor<'_>, file: &mut File, report: &mut Report) {
    let fields = cursor.fields(LISTENERS, report);
    let ListenerSettings { proxy, metadata, transparent, token_api, health, control } = &mut file.listeners;
    let slots = [proxy, metadata, transparent, token_api, health, control];
    for (name, slot) in LISTENERS.iter().copied().zip(slots) {
        let Some(field) = fields.optional(name) else { continue };
        let loopback = name != "health";
        *slot = field.parse(report, |text| value::listener(text, loopback)).unwrap_or(*slot);
        file.listener_places.push((name, field.place()));
    }
}

pub(super) fn endpoint(cursor: &Cursor<'_>, report: &mut Report) -> Option<Placed<EndpointSettings>> {
    let fields = cursor.fields(ENDPOINT, report);
    let listen = fields.required("listen", report).and_then(|field| field.parse(report, value::endpoint_listen));
    let upstream = fields.required("upstream", report);
    let place = upstream.map_or_else(|| cursor.place(), Cursor::place);
    let upstream = upstream.and_then(|field| field.parse(report, value::endpoint_upstream));
    Some(Placed { value: EndpointSettings { listen: listen?, upstream: upstream? }, place })
}

fn upstream(cursor: &Cursor<'_>, report: &mut Report) -> UpstreamSettings {
    let fields = cursor.fields(&["extraRoots", "connectTo", "parentProxy"], report);
    let optional_path = |text: &str| if text.is_empty() { Ok(None) } else { value::path(text).map(Some) };
    let extra_roots = fields.parse_or("extraRoots", None, report, optional_path);
    let parent_proxy = fields.parse_or("parentProxy", None, report, value::parent_proxy);
    let mut connect_to: Vec<ConnectTo> = Vec::new();
    let entries = fields.optional("connectTo").map(|map| map.entries(MOST_CONNECT_TO, report)).unwrap_or_default();
    for (from, cursor) in entries {
        let from = value::connect_from(from).map_err(|error| report.problem(&cursor.place(), error)).ok();
        let to = cursor.parse(report, value::authority);
        let (Some((host, port)), Some(to)) = (from, to) else { continue };
        if connect_to.iter().any(|entry| entry.host == host && entry.port == port) {
            report.problem(&cursor.place(), "given twice, want each name once");
        }
        connect_to.push(ConnectTo { host, port, to });
    }
    UpstreamSettings { extra_roots, connect_to, parent_proxy }
}

/// The zone, and the hosts of routes for which a look inside or a credential is needed.
pub(super) fn default_allow(routes: Option<&[PlacedRoute]>) -> Vec<HostPattern> {
    let mut allow = default_zone();
    for PlacedRoute { route, .. } in routes.unwrap_or_default() {
        let plain_pass = route.action == Action::Pass && !route.looks_inside();
        for host in route.hosts.iter().filter(|_| !plain_pass) {
            if !allow.iter().any(|known| known.covers(host)) {
                allow.push(host.clone());
            }
        }
    }
    allow
}

const SECTIONS: &[&str] = &[
    "credentials",
    "routes",
    "unmatched",
    "allow",
    "listeners",
    "endpoints",
    "tokens",
    "mqtt",
    "metadata",
    "trust",
    "upstream",
    "workers",
    "refresh",
    "drain",
];

/// Everything a route has; an annotation carries all but the name.
const ROUTE_WITH_NAME: &[&str] = &[
    "name",
    "hosts",
    "methods",
    "paths",
    "action",
    "credential",
    "token",
    "audience",
    "header",
    "clientAuthorization",
    "fallback",
    "quotaProject",
];

pub(super) fn route_fields() -> &'static [&'static str] {
    &ROUTE_WITH_NAME[1..]
}

pub(super) const ENDPOINT: &[&str] = &["listen", "upstream"];

/// In the order of [`ListenerSettings`].
pub(super) const LISTENERS: &[&str] = &["proxy", "metadata", "transparent", "tokenApi", "health", "control"];

pub(super) const MOST_HOSTS: usize = 64;
pub(super) const MOST_SCOPES: usize = 32;
pub(super) const MOST_ENDPOINTS: usize = 16;
pub(super) const MOST_ROUTES: usize = 64;
const MOST_DOORS: usize = 16;
const MOST_CREDENTIALS: usize = 16;
const MOST_METHODS: usize = 16;
const MOST_PATHS: usize = 64;
const MOST_CONNECT_TO: usize = 64;
