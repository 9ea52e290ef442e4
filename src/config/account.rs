//! The account that an annotation names, in place of the mounted credential's own.

use super::{file::Placed, merge::main_credential, problem::Report, settings::CLOUD_PLATFORM};
use crate::credential::{CredentialName, Impersonated, Kind, Spec};

/// Makes the credential `default` (else the first) one that impersonates the account; what it was becomes its source.
pub(super) fn apply(account: &Placed<String>, allowed: &[String], credentials: &mut Vec<Spec>, report: &mut Report) {
    if !allowed.contains(&account.value) {
        report.problem(&account.place, beyond(allowed));
        return;
    }
    let at = main_credential(credentials);
    let Some(credential) = credentials.get_mut(at) else { return };
    match &mut credential.kind {
        Kind::ExternalAccount { account: own, .. } => *own = Some(account.value.clone()),
        Kind::Impersonation { impersonated, .. } => impersonated.account.clone_from(&account.value),
        Kind::SignedJwt { .. } | Kind::Downscoped { .. } => {
            let (name, kind) = (&credential.name, credential.kind.label());
            let message = format!("the credential '{name}' is a {kind}, which impersonates nobody, want this left out");
            report.problem(&account.place, message);
        }
        Kind::ServiceAccountKey { .. } | Kind::MetadataServer { .. } | Kind::AuthorizedUser { .. } => {
            derive(account, credentials, at);
        }
    }
}

fn derive(account: &Placed<String>, credentials: &mut Vec<Spec>, at: usize) {
    // No name that a file or an annotation may give: routes reach the mounted credential through this one alone.
    let source = CredentialName::new(&format!("{}:mounted", credentials[at].name));
    let mut scopes = credentials[at].kind.scopes().to_vec();
    if scopes.is_empty() {
        scopes.push(CLOUD_PLATFORM.to_owned());
    }
    let impersonated =
        Impersonated { account: account.value.clone(), delegates: Vec::new(), scopes, lifetime: LIFETIME };
    let derived = Kind::Impersonation { source: source.clone(), impersonated };
    let mut mounted = std::mem::replace(&mut credentials[at].kind, derived);
    // What the token may do is the derived one's; to impersonate takes this scope, whatever that is.
    if let Kind::ServiceAccountKey { scopes, .. } | Kind::MetadataServer { scopes } = &mut mounted {
        *scopes = vec![CLOUD_PLATFORM.to_owned()];
    }
    credentials.push(Spec { name: source, kind: mounted });
}

/// Without any listed account none may be named: whoever may annotate a pod would choose among all that the mounted
/// credential can become.
fn beyond(allowed: &[String]) -> String {
    match allowed {
        [] => {
            "not an allowed account: none is listed by --allow-accounts, the chart's sidecar.allowAccounts".to_owned()
        }
        _ => format!("not an allowed account, want {}", allowed.join(" or ")),
    }
}

/// Of the tokens: all that Google gives without an organisation's leave.
const LIFETIME: std::time::Duration = std::time::Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use crate::{
        config::{Flags, Settings, samples},
        credential::{CredentialName, Kind},
    };

    const APP: &str = "app@p.iam.gserviceaccount.com";
    const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";

    fn settings(yaml: &str, annotations: &[(&str, &str)], allowed: &[&str]) -> Result<Settings, String> {
        let flags = Flags { allow_accounts: allowed.iter().map(ToString::to_string).collect(), ..Flags::default() };
        samples::settings(yaml, annotations, flags)
    }

    #[test]
    fn the_mounted_credential_becomes_the_source_of_the_accounts_tokens() {
        let annotations = [("service-account", APP), ("scopes", "devstorage.read_only")];
        let settings = settings("", &annotations, &[APP]).unwrap();
        let [default, mounted] = &settings.credentials[..] else { panic!("{:?}", settings.credentials) };
        let Kind::Impersonation { source, impersonated } = &default.kind else { panic!("{default:?}") };
        assert_eq!((default.name.as_str(), source), ("default", &mounted.name));
        assert_eq!(impersonated.account, APP);
        assert_eq!(impersonated.scopes, ["https://www.googleapis.com/auth/devstorage.read_only"]);
        assert!(matches!(&mounted.kind, Kind::ServiceAccountKey { scopes, .. } if *scopes == [CLOUD]), "{mounted:?}");
        let route = &settings.policy.routes[0];
        assert_eq!(route.credential.as_str(), "default");
    }

    #[test]
    fn kinds_that_impersonate_by_themselves_do_it_with_the_other_account() {
        let federated = "credentials: [{name: default, externalAccount: {path: /identity.json}}]";
        let settings_of = |yaml| settings(yaml, &[("service-account", APP)], &[APP]).unwrap().credentials;
        let [one] = &settings_of(federated)[..] else { panic!("one credential") };
        assert!(matches!(&one.kind, Kind::ExternalAccount { account: Some(account), .. } if account == APP), "{one:?}");
        let chained = "credentials: [{name: key, serviceAccountKey: {path: /key}}, \
            {name: default, impersonation: {source: key, serviceAccount: other@p.iam.gserviceaccount.com}}]";
        let [_, one] = &settings_of(chained)[..] else { panic!("two credentials") };
        assert!(
            matches!(&one.kind, Kind::Impersonation { impersonated, .. } if impersonated.account == APP),
            "{one:?}"
        );
        let node = "credentials: [{name: node, metadataServer: {}}]\nroutes: [{name: r, hosts: ['*.googleapis.com'], credential: node}]";
        let [one, mounted] = &settings_of(node)[..] else { panic!("two credentials") };
        assert_eq!(
            (one.kind.source(), mounted.kind.label()),
            (Some(&CredentialName::new("node:mounted")), "metadataServer")
        );
    }

    #[test]
    fn only_listed_accounts_may_be_named_and_only_where_somebody_can_be_impersonated() {
        let other = "other@p.iam.gserviceaccount.com";
        let signed = "credentials: [{name: default, signedJwt: {path: /key, audience: a}}]\nroutes: [{name: r, hosts: [a.googleapis.com], token: jwt}]";
        for (yaml, account, allowed, words) in [
            ("", other, &[APP][..], "not an allowed account, want app@p.iam"),
            ("", APP, &[], "none is listed by --allow-accounts"),
            ("", "a@b", &[APP], "want a service account's e-mail address"),
            ("", "a/b@p.iam.gserviceaccount.com", &["a/b@p.iam.gserviceaccount.com"], "want a service account's"),
            ("", APP, &["a"], "--allow-accounts"),
            (signed, APP, &[APP], "'default' is a signedJwt, which impersonates nobody"),
        ] {
            let refused = settings(yaml, &[("service-account", account)], allowed).unwrap_err();
            assert!(refused.contains(words), "{account}: {refused}");
        }
    }

    #[test]
    fn no_route_reaches_past_the_account_to_what_is_mounted() {
        let route = ("route.x", "hosts=a.googleapis.com credential=default:mounted");
        let refused = settings("", &[("service-account", APP), route], &[APP]).unwrap_err();
        assert!(refused.contains("bearerd.dev/route.x"), "{refused}");
    }
}
