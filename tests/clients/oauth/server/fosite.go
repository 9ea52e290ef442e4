package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	jose "github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
)

// keyStore is fosite's store in memory, with keys of the tests'.
type keyStore struct {
	*storage.MemoryStore
	told *policy
}

func (k keyStore) GetPublicKey(_ context.Context, issuer, subject, keyID string) (*jose.JSONWebKey, error) {
	// An account speaks for itself alone.
	if issuer != subject {
		return nil, fosite.ErrNotFound
	}
	key, err := k.told.key(issuer, keyID)
	if err != nil {
		return nil, err
	}
	return &jose.JSONWebKey{KeyID: keyID, Use: "sig", Algorithm: string(jose.RS256), Key: key}, nil
}

func (k keyStore) GetPublicKeyScopes(context.Context, string, string, string) ([]string, error) {
	return nil, nil
}

// settings are fosite's, but for the audience, which the tests change.
type settings struct {
	*fosite.Config
	told *policy
}

func (s settings) GetTokenURLs(context.Context) []string { return []string{s.told.issuer()} }

func newFosite(told *policy) (http.Handler, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	config := &fosite.Config{
		GlobalSecret:        secret,
		AccessTokenLifespan: 5 * time.Minute,
		HashCost:            4,
		// The account is who its assertion says, and no client besides (RFC 7521 4.1).
		GrantTypeJWTBearerCanSkipClientAuth: true,
		// Optional in RFC 7523 too; Google has none.
		GrantTypeJWTBearerIDOptional: true,
	}
	hash, err := config.GetSecretsHasher(context.Background()).Hash(context.Background(), []byte(apiSecret))
	if err != nil {
		return nil, err
	}
	store := keyStore{storage.NewMemoryStore(), told}
	store.Clients[apiClient] = &fosite.DefaultClient{ID: apiClient, Secret: hash}
	set := settings{config, told}
	strategy := compose.NewOAuth2HMACStrategy(config)
	server := fosite.NewOAuth2Provider(store, config)
	config.TokenEndpointHandlers.Append(
		compose.RFC7523AssertionGrantFactory(set, store, strategy).(fosite.TokenEndpointHandler))
	config.TokenIntrospectionHandlers.Append(
		compose.OAuth2TokenIntrospectionFactory(set, store, strategy).(fosite.TokenIntrospector))
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(answer http.ResponseWriter, request *http.Request) {
		asked, err := server.NewAccessRequest(request.Context(), request, new(fosite.DefaultSession))
		if err != nil {
			server.WriteAccessError(request.Context(), answer, asked, err)
			return
		}
		given, err := server.NewAccessResponse(request.Context(), asked)
		if err != nil {
			server.WriteAccessError(request.Context(), answer, asked, err)
			return
		}
		server.WriteAccessResponse(request.Context(), answer, asked, given)
	})
	mux.HandleFunc("/introspect", func(answer http.ResponseWriter, request *http.Request) {
		told, err := server.NewIntrospectionRequest(request.Context(), request, new(fosite.DefaultSession))
		if err != nil {
			server.WriteIntrospectionError(request.Context(), answer, err)
			return
		}
		server.WriteIntrospectionResponse(request.Context(), answer, told)
	})
	return mux, nil
}
