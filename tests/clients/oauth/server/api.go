package main

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// api is a protected resource: it asks the server that gives its tokens about each of them, and says whose it was.
func api(asks rs.ResourceServer) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		token, isBearer := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
		if !isBearer {
			answer.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(answer, "no token", http.StatusUnauthorized)
			return
		}
		found, err := rs.Introspect[*oidc.IntrospectionResponse](request.Context(), asks, token)
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadGateway)
			return
		}
		if !found.Active {
			answer.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(answer, "the token is not active", http.StatusUnauthorized)
			return
		}
		answer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(answer).Encode(map[string]string{"subject": found.Subject})
	})
}
