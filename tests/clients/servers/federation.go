package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// provider is what a workload identity pool knows of a cluster. Its keys are those that the cluster publishes.
type provider struct {
	Audience string             `json:"audience"`
	Issuer   string             `json:"issuer"`
	Keys     jose.JSONWebKeySet `json:"keys"`
}

// binding lets a principal act as an account.
type binding struct {
	Account   string `json:"account"`
	Principal string `json:"principal"`
}

// refusal is OAuth's: a code and words for people.
type refusal struct{ code, words string }

func (r refusal) Error() string { return r.code + ": " + r.words }

// shown is a cluster's token that was verified: whose it is, here and for Google, and which one.
type shown struct{ subject, principal, id string }

// trade is the Security Token Service: RFC 8693, and only tokens of registered clusters are taken.
func trade(l *ledger) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		line := httpEntry("sts", request)
		line.bearer = l.judge(request.Header.Values("Authorization"))
		told, err := l.verify(request)
		var refused refusal
		status, body := http.StatusOK, map[string]any{}
		if errors.As(err, &refused) {
			line.Refused, line.Reason = true, err.Error()
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

// verify says whose the subject token of a request is; any error is a refusal.
func (l *ledger) verify(request *http.Request) (shown, error) {
	if request.Method != http.MethodPost {
		return shown{}, refusal{"invalid_request", "only POST"}
	}
	for name, wanted := range map[string]string{
		"grant_type": tradeGrant, "requested_token_type": accessToken, "subject_token_type": subjectJWT,
	} {
		if got := request.PostFormValue(name); got != wanted {
			return shown{}, refusal{"invalid_request", fmt.Sprintf("the %s is %q", name, got)}
		}
	}
	if request.PostFormValue("scope") == "" {
		return shown{}, refusal{"invalid_scope", "the scope is empty"}
	}
	audience := request.PostFormValue("audience")
	l.mutex.Lock()
	known, isKnown := l.providers[audience]
	l.mutex.Unlock()
	if !isKnown {
		return shown{}, refusal{"invalid_target", `no provider of that "audience", or it is disabled`}
	}
	claims, err := known.claims(request.PostFormValue("subject_token"))
	if err != nil {
		return shown{}, err
	}
	pool, _, _ := strings.Cut(strings.TrimPrefix(audience, "//"), "/providers/")
	return shown{claims.Subject, "principal://" + pool + "/subject/" + claims.Subject, claims.ID}, nil
}

// claims are those of a token that the cluster signed for this provider. The words of refusals begin as Google's do,
// since that is all by which they can be told apart.
func (p provider) claims(token string) (jwt.RegisteredClaims, error) {
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(token, &claims, func(parsed *jwt.Token) (any, error) {
		kid, _ := parsed.Header["kid"].(string)
		for _, key := range p.Keys.Key(kid) {
			return key.Key, nil
		}
		return nil, errors.New("the provider has no key of that name")
	},
		jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithIssuer(p.Issuer), jwt.WithAudience("https:"+p.Audience),
		jwt.WithExpirationRequired())
	words := map[error]string{
		jwt.ErrTokenInvalidIssuer:   "The issuer in ID Token does not match the expected ones.",
		jwt.ErrTokenInvalidAudience: "The audience in ID Token does not match the expected audience.",
		jwt.ErrTokenExpired:         "ID Token is stale to sign-in.",
	}
	for kind, said := range words {
		if errors.Is(err, kind) {
			return claims, refusal{"invalid_grant", said}
		}
	}
	if err != nil {
		return claims, refusal{"invalid_grant", "Invalid JWT signature."}
	}
	if claims.Subject == "" {
		return claims, refusal{"invalid_grant", "The mapped attribute google.subject is empty."}
	}
	return claims, nil
}

// impersonate is generateAccessToken, for principals that have a binding.
func impersonate(l *ledger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/projects/-/serviceAccounts/{called}", func(answer http.ResponseWriter, request *http.Request) {
		line := httpEntry("iamcredentials", request)
		line.bearer = l.judge(request.Header.Values("Authorization"))
		account, method, _ := strings.Cut(request.PathValue("called"), ":")
		lifetime, err := lifetimeOf(request)
		status, words := 0, ""
		switch {
		case line.Kind != "token":
			status, words = http.StatusUnauthorized, "UNAUTHENTICATED"
		case method != "generateAccessToken":
			status, words = http.StatusNotFound, "NOT_FOUND"
		case !l.isBound(account, line.Key):
			status, words = http.StatusForbidden, "PERMISSION_DENIED"
		case err != nil:
			status, words = http.StatusBadRequest, "INVALID_ARGUMENT"
		}
		if status != 0 {
			line.Refused, line.Reason = true, words
			l.note(line)
			write(answer, status, map[string]any{"error": map[string]any{
				"code": status, "status": words, "message": "not for this caller"}})
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

func (l *ledger) isBound(account, principal string) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.bindings[binding{account, principal}]
}
