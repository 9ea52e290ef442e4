//! What becomes of a request or a CONNECT, and why. Reasons are closed sets: they label metrics.

use std::sync::Arc;

use super::Route;

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// A token goes on it, in place of whatever the client sent in that header.
    Inject {
        /// Says which credential, and where.
        route: &'a Arc<Route>,
    },
    /// It asks for a signature under a signed URL, and is answered here.
    SignBlob {
        /// Says whose key signs.
        route: &'a Arc<Route>,
        /// Whose signature is asked for.
        account: String,
    },
    /// It goes out without a token of ours.
    Pass {
        /// The route that matched, if one did.
        route: Option<&'a Arc<Route>>,
        /// Why no token.
        reason: PassReason,
        /// Whether it carries the placeholder, which is then taken off.
        strip_placeholder: bool,
    },
    /// It is refused with 403 and never leaves.
    Deny {
        /// The route that matched, if one did.
        route: Option<&'a Arc<Route>>,
        /// Why.
        reason: DenyReason,
    },
}

/// What becomes of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// TLS ends here, with a leaf of the pod's CA.
    Intercept,
    /// Bytes are carried as they are; no credential can get in.
    Tunnel,
    /// 403.
    Refuse(DenyReason),
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal, $message:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every one, so that each series exists from the start.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The metric label.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// For people.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }
        }
    };
}

reasons! {
    /// Why a request goes out without a token.
    PassReason {
        /// No route has this host, method and path.
        Unmatched = "unmatched", "no route matches";
        /// The target is an address.
        IpLiteral = "ip_literal", "the target is an IP address, and only names get credentials";
        /// A route has this host, but credentials go to one port only.
        Port = "port", "credentials go to port 443 only";
        /// A route says so.
        Route = "route", "the route's action is pass";
        /// A route would inject where the ceiling forbids it.
        NotAllowed = "not_allowed", "the host is not among allow.hosts";
        /// It exchanges a credential for a token.
        TokenExchange = "token_exchange", "token exchanges never get a credential";
        /// SDKs ask this in the background and do without.
        AllowedLocations = "allowed_locations", "the regional access boundary is looked up without credential";
        /// The URL is signed.
        SignedUrl = "signed_url", "the request carries its own signed URL";
        /// It has an API key.
        ApiKey = "api_key", "the request carries its own API key";
        /// It has a token in the query.
        TokenInQuery = "token_in_query", "the request carries its own token in the query";
        /// It is signed with an HMAC key.
        Hmac = "hmac", "the request carries its own HMAC signature";
        /// The client's own credential wins here.
        ClientCredential = "client_credential", "the request carries its own credential, and the route keeps it";
        /// The placeholder is required and absent.
        NoPlaceholder = "no_placeholder", "the route wants this pod's placeholder on the request, and it is not there";
    }
}

reasons! {
    /// Why a request or CONNECT is refused.
    DenyReason {
        /// Loopback, link-local, the metadata server and their like.
        Local = "local_address", "loopback, link-local, unspecified, multicast and metadata addresses are never reached through the proxy";
        /// A route says so.
        Route = "route", "the route's action is deny";
        /// No route matches, and `unmatched` is `deny`.
        Unmatched = "unmatched", "no route matches, and unmatched requests are denied";
        /// The answer would hold a credential.
        Minting = "minting", "this method creates or returns credentials, which the sidecar's credential must not be used for";
        /// None of them could win alone.
        SeveralCredentials = "several_credentials", "the route keeps the client's own credential, and the request carries several";
        /// The method that counts is not the one seen.
        MethodOverride = "method_override", "a method override is refused where the method decides";
    }
}
