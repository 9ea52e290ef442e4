package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	// longestAssertion is Google's limit on exp - iat.
	longestAssertion = time.Hour
	// clockTolerance is for an iat in the future; Google's is not published.
	clockTolerance = 10 * time.Second
)

// assertionClaims are the claims that Google's endpoint reads.
type assertionClaims struct {
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

// exchange is the token endpoint: RFC 7523, for registered keys only.
func exchange(l *ledger) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		line := httpEntry("token", request)
		line.bearer = l.judge(request.Header.Values("Authorization"))
		signer, err := l.accept(request)
		status, body := http.StatusOK, map[string]any{}
		switch {
		case l.isOut():
			line.Refused, line.Reason = true, "outage"
			status, body = http.StatusServiceUnavailable, map[string]any{"error": "temporarily_unavailable"}
		case err != nil:
			line.Refused, line.Reason = true, err.Error()
			status, body = http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": err.Error()}
		default:
			value, number := l.issue(owner{key: signer})
			line.Issued, line.Key = number, signer
			body = map[string]any{"access_token": value, "expires_in": l.life(), "token_type": "Bearer"}
		}
		// Before the answer: whoever has it finds it in the log.
		l.note(line)
		answer.Header().Set("Cache-Control", "no-store")
		write(answer, status, body)
	})
}

// life is that of the next token, in seconds.
func (l *ledger) life() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.lifetime == 0 {
		return 3599
	}
	return l.lifetime
}

// accept verifies the assertion of a request and returns the id of the key that signed it.
func (l *ledger) accept(request *http.Request) (string, error) {
	if request.Method != http.MethodPost {
		return "", errors.New("only POST")
	}
	if kind := request.Header.Get("Content-Type"); kind != "application/x-www-form-urlencoded" {
		return "", fmt.Errorf("the content type is %q", kind)
	}
	if got := request.PostFormValue("grant_type"); got != grantType {
		return "", fmt.Errorf("the grant_type is %q", got)
	}
	assertion := request.PostFormValue("assertion")
	var claims assertionClaims
	var signer key
	_, err := jwt.ParseWithClaims(assertion, &claims, func(parsed *jwt.Token) (any, error) {
		var err error
		signer, err = l.signer(parsed.Header["kid"], claims.Issuer)
		return signer.Public, err
	},
		jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithAudience("https://"+request.Host+request.URL.Path),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(clockTolerance))
	if err != nil {
		return "", err
	}
	if claims.IssuedAt == nil || claims.ExpiresAt.Sub(claims.IssuedAt.Time) > longestAssertion {
		return "", errors.New("the assertion must live 60 minutes at most")
	}
	if claims.Scope == "" {
		return "", errors.New("the scope is empty")
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.assertions = append(l.assertions, assertion)
	return signer.ID, nil
}

// signer finds a key by issuer; a kid is optional, but must then be that key's.
func (l *ledger) signer(kid any, issuer string) (key, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, known := range l.keys {
		if known.Email == issuer && (kid == nil || kid == known.KeyID) {
			return known, nil
		}
	}
	return key{}, errors.New("no such account or key")
}

func (l *ledger) isOut() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.outage
}

func write(answer http.ResponseWriter, status int, body any) {
	answer.Header().Set("Content-Type", "application/json; charset=utf-8")
	answer.WriteHeader(status)
	_ = json.NewEncoder(answer).Encode(body)
}
