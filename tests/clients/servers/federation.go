package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

const (
	tradeGrant  = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessToken = "urn:ietf:params:oauth:token-type:access_token"
	subjectJWT  = "urn:ietf:params:oauth:token-type:jwt"
	// longestImpersonation is Google's limit where an organisation's policy says nothing.
	longestImpersonation = time.Hour
)

// federation is all that Google knows of clusters, told as a whole.
type federation struct {
	Providers []provider `json:"providers"`
	// Accounts that may be impersonated, each with the principals that have a binding on it.
	Accounts map[string][]string `json:"accounts"`
}

// provider is what a workload identity pool knows of a cluster. Its keys are those that the cluster publishes.
type provider struct {
	Audience string             `json:"audience"`
	Issuer   string             `json:"issuer"`
	Keys     jose.JSONWebKeySet `json:"keys"`
	// Allowed are the audiences of its tokens; none = its own name.
	Allowed []string `json:"allowedAudiences"`
	// Only stands for an attribute condition: no other subject is let in. Empty = all are.
	Only string `json:"onlySubject"`
}

// refusal is OAuth's: a code and words for people. The words are Google's, since some of them are all by which two
// refusals of one code can be told apart.
type refusal struct{ code, words string }

func refuse(code, words string, values ...any) *refusal {
	return &refusal{code, fmt.Sprintf(words, values...)}
}

// shown is a cluster's token that was verified: whose it is, here and for Google, and which one.
type shown struct{ subject, principal, id string }

// trade is the Security Token Service: RFC 8693, and only tokens of clusters that it knows are taken.
func trade(l *ledger) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		line := httpEntry("sts", request)
		line.bearer = l.judge(request.Header.Values("Authorization"))
		told, refused := l.verify(request)
		status, body := http.StatusOK, map[string]any{}
		if refused != nil {
			line.Refused, line.Reason = true, refused.code+": "+refused.words
			status, body = http.StatusBadRequest, map[string]any{"error": refused.code, "error_description": refused.words}
		} else {
			value, number := l.issue(owner{key: told.principal, subject: told.subject})
			line.Issued, line.Key, line.Subject, line.Shown = number, told.principal, told.subject, told.id
			body = map[string]any{"access_token": value, "issued_token_type": accessToken,
				"token_type": "Bearer", "expires_in": l.life()}
		}
		l.note(line)
		answer.Header().Set("Cache-Control", "no-store")
		write(answer, status, body)
	})
}

// verify says whose the subject token of a request is, or why it is refused.
func (l *ledger) verify(request *http.Request) (shown, *refusal) {
	if request.Method != http.MethodPost {
		return shown{}, refuse("invalid_request", "only POST")
	}
	for name, wanted := range map[string]string{
		"grant_type": tradeGrant, "requested_token_type": accessToken, "subject_token_type": subjectJWT,
	} {
		if got := request.PostFormValue(name); got != wanted {
			return shown{}, refuse("invalid_request", "the %s is %q", name, got)
		}
	}
	if request.PostFormValue("scope") == "" {
		return shown{}, refuse("invalid_scope", "the scope is empty")
	}
	audience := request.PostFormValue("audience")
	l.mutex.Lock()
	providers, now := l.federation.Providers, time.Now().Add(l.ahead)
	l.mutex.Unlock()
	at := slices.IndexFunc(providers, func(known provider) bool { return known.Audience == audience })
	if at < 0 {
		return shown{}, refuse("invalid_target", `The target service indicated by the "audience" parameters is invalid. `+
			"This might either be because the pool or provider is disabled or deleted or because it doesn't exist.")
	}
	claims, refused := providers[at].claims(request.PostFormValue("subject_token"), now)
	if refused != nil {
		return shown{}, refused
	}
	pool, _, _ := strings.Cut(strings.TrimPrefix(audience, "//"), "/providers/")
	return shown{claims.Subject, "principal://" + pool + "/subject/" + claims.Subject, claims.ID}, nil
}

// claims are those of a token that the cluster signed for this provider. Stricter than Google's, which takes tokens for
// a minute beyond their end.
func (p provider) claims(token string, now time.Time) (jwt.RegisteredClaims, *refusal) {
	allowed := p.Allowed
	if len(allowed) == 0 {
		allowed = []string{"https:" + p.Audience, p.Audience}
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(parsed *jwt.Token) (any, error) {
		kid, _ := parsed.Header["kid"].(string)
		for _, key := range p.Keys.Key(kid) {
			return key.Key, nil
		}
		return nil, errors.New("the provider has no key of that name")
	},
		jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithIssuer(p.Issuer), jwt.WithAudience(allowed...),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now }))
	switch {
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return claims, refuse("invalid_grant", "The issuer in ID Token %s does not match the expected ones: %s",
			claims.Issuer, p.Issuer)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return claims, refuse("invalid_grant", "The audience in ID Token %s does not match the expected audience.",
			claims.Audience)
	case errors.Is(err, jwt.ErrTokenExpired):
		return claims, refuse("invalid_grant", "ID Token issued at %s is stale to sign-in.", seconds(claims.IssuedAt))
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return claims, refuse("invalid_grant", "Unable to verify the ID Token signature.")
	case err != nil:
		// So it says for a key that it does not know, whether the keys were fetched or given to it.
		return claims, refuse("invalid_grant", "Error connecting to the given credential's issuer.")
	case p.Only != "" && p.Only != claims.Subject:
		return claims, refuse("unauthorized_client", "The given credential is rejected by the attribute condition.")
	}
	return claims, nil
}

func seconds(date *jwt.NumericDate) string {
	if date == nil {
		return "null"
	}
	return fmt.Sprint(date.Unix())
}

// impersonate is generateAccessToken, for principals that have a binding.
func impersonate(l *ledger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/projects/-/serviceAccounts/{called}", func(answer http.ResponseWriter, request *http.Request) {
		line := httpEntry("iamcredentials", request)
		line.bearer = l.judge(request.Header.Values("Authorization"))
		account, method, _ := strings.Cut(request.PathValue("called"), ":")
		l.mutex.Lock()
		bound, exists := l.federation.Accounts[account]
		l.mutex.Unlock()
		lifetime, err := lifetimeOf(request)
		code, status, words := 0, "", ""
		switch {
		case line.Kind != "token":
			code, status, words = http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials."
		case method != "generateAccessToken":
			code, status, words = http.StatusNotFound, "NOT_FOUND", "Method not found."
		case !exists:
			code, status, words = http.StatusNotFound, "NOT_FOUND", "Not found; Gaia id not found for email "+account
		case !slices.Contains(bound, line.Key):
			code, status = http.StatusForbidden, "PERMISSION_DENIED"
			words = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
		case err != nil:
			code, status, words = http.StatusBadRequest, "INVALID_ARGUMENT", err.Error()
		}
		if code != 0 {
			line.Refused, line.Reason = true, status
			l.note(line)
			write(answer, code, map[string]any{"error": map[string]any{"code": code, "status": status, "message": words}})
			return
		}
		value, number := l.issue(owner{key: account, subject: line.Subject})
		line.Issued = number
		l.note(line)
		ends := time.Now().Add(lifetime).UTC().Format(time.RFC3339)
		write(answer, http.StatusOK, map[string]any{"accessToken": value, "expireTime": ends})
	})
	return mux
}

// lifetimeOf is how long the token that is asked for is to live.
func lifetimeOf(request *http.Request) (time.Duration, error) {
	var asked struct {
		Scope    []string `json:"scope"`
		Lifetime string   `json:"lifetime"`
	}
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		return 0, err
	}
	lifetime, err := time.ParseDuration(asked.Lifetime)
	if err == nil && (lifetime <= 0 || lifetime > longestImpersonation || len(asked.Scope) == 0) {
		err = errors.New("a scope and a lifetime of an hour at most are required")
	}
	return lifetime, err
}
