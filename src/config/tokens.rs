//! Which tokens a credential gives, and which hosts may see them (pure): what would fail at the first request, or would
//! give the credential away, is refused when it is read.

use crate::{
    credential::Kind,
    policy::{Fallback, HostPattern, Route, TokenKind},
};

/// Whether `kind` gives what `route` puts on requests.
pub(super) fn given(kind: &Kind, route: &Route) -> Result<(), String> {
    gives(kind, route.token)?;
    if route.audience.is_some() && route.token != TokenKind::Id {
        return Err(format!("audience goes with token: id only, and this route's token is {}", route.token));
    }
    match kind {
        Kind::SignedJwt { template, .. } if !template.parameters().is_empty() => {
            let names = template.parameters().join(", ");
            Err(format!("the credential has parameters ({names}), which no route can give, want an entry of tokens"))
        }
        _ if route.fallback == Fallback::None => Ok(()),
        _ if route.token != TokenKind::Access => {
            Err(format!("fallback: selfSigned goes with token: access only, and this route's token is {}", route.token))
        }
        // The same key would sign in place of the exchange.
        _ => gives(kind, TokenKind::SelfSigned),
    }
}

/// Whether `kind` gives such tokens at all.
pub(super) fn gives(kind: &Kind, token: TokenKind) -> Result<(), String> {
    let gives: &[TokenKind] = match kind {
        Kind::ServiceAccountKey { .. } => &[TokenKind::Access, TokenKind::SelfSigned, TokenKind::Id],
        Kind::SignedJwt { .. } => &[TokenKind::Jwt],
        Kind::ExternalAccount { .. } | Kind::Impersonation { .. } | Kind::MetadataServer { .. } => {
            &[TokenKind::Access, TokenKind::Id]
        }
        Kind::AuthorizedUser { .. } | Kind::Downscoped { .. } => &[TokenKind::Access],
    };
    if !gives.contains(&token) {
        let list = gives.iter().map(|token| token.as_str()).collect::<Vec<_>>().join(" or ");
        return Err(format!("a {} gives no token of the kind {token}, want {list}", kind.label()));
    }
    match kind {
        Kind::ServiceAccountKey { subject: Some(_), .. } if token == TokenKind::SelfSigned => {
            Err(NOT_FOR_A_SUBJECT.to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether tokens of this kind may go to such a host at all.
pub(super) fn sent(host: &HostPattern, token: TokenKind) -> Result<(), String> {
    let is_good_anywhere = matches!(token, TokenKind::Access | TokenKind::SelfSigned);
    let customers = CUSTOMERS_CODE.iter().find(|zone| is_in(host, zone));
    match customers {
        Some(zone) if is_good_anywhere => Err(format!(
            "customers' code answers below {zone}, and this token is good at every Google API, want token: id"
        )),
        _ => Ok(()),
    }
}

const NOT_FOR_A_SUBJECT: &str =
    "a self-signed token cannot act for the credential's subject, want token: access without fallback";

fn is_in(host: &HostPattern, zone: &str) -> bool {
    let name = host.zone().as_str();
    name == zone || name.strip_suffix(zone).is_some_and(|front| front.ends_with('.'))
}

/// Where Google's customers run code of their own. An access token that arrives there can be used by whoever wrote it.
const CUSTOMERS_CODE: [&str; 11] = [
    "run.app",
    "cloudfunctions.net",
    "appspot.com",
    "web.app",
    "firebaseapp.com",
    "hosted.app",
    "gateway.dev",
    "cloud.goog",
    "cloudshell.dev",
    "cloudworkstations.dev",
    "googleusercontent.com",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Preset, Template};

    #[test]
    fn every_kind_gives_its_own_tokens_only() {
        let key = |subject: Option<&str>| Kind::ServiceAccountKey {
            path: "/k".into(),
            scopes: Vec::new(),
            subject: subject.map(ToOwned::to_owned),
            signs_urls: false,
        };
        let jwt = |template| Kind::SignedJwt { path: "/k".into(), template };
        let plain = jwt(Template::new("p"));
        let fleet = jwt(Preset::named("fleetEngineDriver").unwrap().template());
        let route = |token, audience: Option<&str>, fallback| Route {
            token,
            audience: audience.map(ToOwned::to_owned),
            fallback,
            ..Route::google_apis(Vec::new())
        };
        use {Fallback as F, TokenKind as T};
        for (kind, token, audience, fallback, said) in [
            (key(None), T::Access, None, F::None, ""),
            (key(None), T::Access, None, F::SelfSigned, ""),
            (key(None), T::SelfSigned, None, F::None, ""),
            (key(None), T::Id, None, F::None, ""),
            (key(None), T::Id, Some("a"), F::None, ""),
            (key(None), T::Jwt, None, F::None, "a serviceAccountKey gives no token of the kind jwt, want access or"),
            (key(None), T::Access, Some("a"), F::None, "audience goes with token: id only"),
            (key(None), T::Id, None, F::SelfSigned, "fallback: selfSigned goes with token: access only"),
            (key(Some("u@e.x")), T::Access, None, F::None, ""),
            (key(Some("u@e.x")), T::SelfSigned, None, F::None, "a self-signed token cannot act for"),
            (key(Some("u@e.x")), T::Access, None, F::SelfSigned, "a self-signed token cannot act for"),
            (plain.clone(), T::Jwt, None, F::None, ""),
            (plain.clone(), T::Access, None, F::None, "a signedJwt gives no token of the kind access, want jwt"),
            (plain, T::Jwt, None, F::SelfSigned, "fallback: selfSigned goes with token: access only"),
            (fleet, T::Jwt, None, F::None, "the credential has parameters (vehicleId)"),
        ] {
            let message = given(&kind, &route(token, audience, fallback)).err().unwrap_or_default();
            assert_eq!(message.is_empty(), said.is_empty(), "{token} {message}");
            assert!(message.starts_with(said), "{message}");
        }
    }

    #[test]
    fn access_tokens_never_go_where_customers_code_answers() {
        for (host, is_customers) in [
            ("service-abc.a.run.app", true),
            ("*.run.app", true),
            ("*.a.run.app", true),
            ("europe-west1-p.cloudfunctions.net", true),
            ("storage.googleapis.com", false),
            ("*.googleapis.com", false),
            ("notrun.app", false),
            ("xrun.app.example.com", false),
        ] {
            let host = HostPattern::parse(host).unwrap();
            for (token, is_bound) in [
                (TokenKind::Access, false),
                (TokenKind::SelfSigned, false),
                (TokenKind::Id, true),
                (TokenKind::Jwt, true),
            ] {
                assert_eq!(sent(&host, token).is_err(), is_customers && !is_bound, "{host} {token}");
            }
        }
    }
}
