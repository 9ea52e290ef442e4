//! Which scopes give no more than others do (pure).

/// Whether a token of `wanted` may do nothing that one of `own` or of `allowed` may not.
pub(super) fn is_within(own: &[String], allowed: &[String], wanted: &str) -> bool {
    own.iter().chain(allowed).any(|whole| is_part(short(whole), short(wanted)))
}

/// As people write it.
pub(super) fn short(scope: &str) -> &str {
    scope.strip_prefix("https://www.googleapis.com/auth/").unwrap_or(scope)
}

fn is_part(whole: &str, part: &str) -> bool {
    // Of these two the read-only scope opens an API of its own.
    let reads = |end: &str| part.strip_suffix(end) == Some(whole) && !["analytics", "postmaster"].contains(&whole);
    whole == part
        || IDENTITY.contains(&part)
        || [".readonly", ".read_only", ".read-only"].into_iter().any(reads)
        || FAMILIES.iter().any(|family| is_lower(family, whole, part))
        || (whole == CLOUD_PLATFORM && is_of_cloud(part))
}

/// Whether both stand in a family, and `part` further to its end.
fn is_lower(family: &[&str], whole: &str, part: &str) -> bool {
    let place = |scope: &str| family.iter().position(|member| *member == scope);
    matches!((place(whole), place(part)), (Some(whole), Some(part)) if whole < part)
}

/// The scopes that the documents of Google Cloud's APIs name beside `cloud-platform`, which does for each of them
/// (<https://developers.google.com/identity/protocols/oauth2/scopes>). Those of Workspace, Ads, Maps and the rest are none.
fn is_of_cloud(scope: &str) -> bool {
    let api = scope.split('.').next().unwrap_or_default();
    CLOUD.contains(&api) || ["cloud-platform.read-only", "firebase.readonly", "firebase.messaging"].contains(&scope)
}

const CLOUD_PLATFORM: &str = "cloud-platform";

/// They name the account and open nothing.
const IDENTITY: [&str; 2] = ["openid", "userinfo.email"];

/// From more to less.
const FAMILIES: [&[&str]; 4] = [
    &["devstorage.full_control", "devstorage.read_write", "devstorage.read_only"],
    &["bigquery", "bigquery.insertdata"],
    &["logging.admin", "logging.read"],
    &["monitoring", "monitoring.read"],
];

const CLOUD: [&str; 50] = [
    "agentregistry",
    "aiplatform",
    "apihub",
    "apikeys",
    "appengine",
    "bigquery",
    "bigtable",
    "ces",
    "cloud-auditmanager",
    "cloud-backupdr",
    "cloud-bigtable",
    "cloud-billing",
    "cloud-healthcare",
    "cloud-language",
    "cloud-netapp",
    "cloud-translation",
    "cloud-vision",
    "cloud_debugger",
    "cloudasset",
    "cloudcomposer",
    "cloudiot",
    "cloudkms",
    "cloudplatformprojects",
    "cloudruntimeconfig",
    "compute",
    "container",
    "datalineage",
    "dataplex",
    "dataproc",
    "datastore",
    "devstorage",
    "dialogflow",
    "discoveryengine",
    "genomics",
    "logging",
    "monitoring",
    "ndev",
    "notebooks",
    "organizationpolicy",
    "pubsub",
    "redis",
    "run",
    "saasservicemgmt",
    "securitycenter",
    "service",
    "servicecontrol",
    "source",
    "spanner",
    "sqlservice",
    "trace",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_within_what_gives_as_much() {
        for (own, wanted, is_good) in [
            ("cloud-platform", "cloud-platform", true),
            ("cloud-platform", "cloud-platform.read-only", true),
            ("cloud-platform", "devstorage.read_only", true),
            ("cloud-platform", "pubsub", true),
            ("cloud-platform", "spanner.data", true),
            ("cloud-platform", "openid", true),
            ("cloud-platform", "drive", false),
            ("cloud-platform", "gmail.readonly", false),
            ("cloud-platform", "https://mail.google.com/", false),
            ("cloud-platform", "admin.directory.user", false),
            ("cloud-platform", "cloud-identity.groups", false),
            ("cloud-platform", "pubsubx", false),
            ("cloud-platform", "firebase.messaging", true),
            ("cloud-platform", "firebase.database", false),
            ("cloud-platform", "run.readonly", true),
            ("analytics", "analytics.readonly", false),
            ("cloud-platform.read-only", "cloud-platform", false),
            ("cloud-platform.read-only", "devstorage.read_only", false),
            ("devstorage.read_write", "devstorage.read_only", true),
            ("devstorage.full_control", "devstorage.read_write", true),
            ("devstorage.read_only", "devstorage.read_write", false),
            ("devstorage.read_only", "userinfo.email", true),
            ("drive", "drive.readonly", true),
            ("drive.readonly", "drive", false),
            ("drive", "drive.file", false),
            ("drive", "gmail.readonly", false),
            ("bigquery", "bigquery.readonly", true),
            ("bigquery", "bigquery.insertdata", true),
            ("bigquery.insertdata", "bigquery", false),
            ("pubsub", "cloud-platform", false),
        ] {
            let full = |scope: &str| crate::config::value::scope(scope).unwrap();
            assert_eq!(is_within(&[full(own)], &[], &full(wanted)), is_good, "{own} {wanted}");
            assert_eq!(is_within(&["openid".to_owned()], &[full(own)], &full(wanted)), is_good, "{own} {wanted}");
        }
    }
}
