package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// pool is the one provider of identities that the token exchange knows.
const pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"

// zitadelHosts makes three of zitadel's providers: the one that takes assertions, the one that exchanges tokens, and
// the issuer of what is exchanged.
func zitadelHosts(hosts map[string]http.Handler, told *policy, client *http.Client) error {
	cluster := "https://" + clusterHost
	stores := map[string]*registry{}
	for host, issuer := range map[string]func() string{
		oauthHost:   told.issuer,
		stsHost:     func() string { return "https://" + stsHost },
		clusterHost: func() string { return cluster },
	} {
		store := newRegistry(told)
		path := "token"
		if host == stsHost {
			path = "v1/token"
			store.keySet = rp.NewRemoteKeySet(client, cluster+"/keys")
		}
		provider, err := newProvider(store, issuer, path, told)
		if err != nil {
			return err
		}
		hosts[host], stores[host] = provider, store
	}
	stranger := newRegistry(told)
	told.subjectToken = func(wish subjectWish) (string, error) {
		signer := stores[clusterHost]
		if wish.Forged {
			signer = stranger
		}
		request := &oidc.JWTTokenRequest{Subject: wish.Subject, Audience: oidc.Audience{wish.Audience}}
		end := time.Now().Add(time.Duration(wish.Seconds) * time.Second)
		client := storage.NativeClient("kubelet")
		return op.CreateJWT(context.Background(), cluster, request, end, uuid.NewString(), client, signer)
	}
	return nil
}

// provider is zitadel's, with a clock that can be wrong: the library lets its verifier allow for a difference, which is
// added to the time that it compares `iat` and `exp` with.
type provider struct {
	*op.Provider
	told *policy
}

func newProvider(store *registry, issuer func() string, path string, told *policy) (http.Handler, error) {
	config := &op.Config{CryptoKeyId: "key"}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, err
	}
	of := func(bool) (op.IssuerFromRequest, error) {
		return func(*http.Request) string { return issuer() }, nil
	}
	made, err := op.NewProvider(config, store, of,
		op.WithCustomTokenEndpoint(op.NewEndpoint(path)),
		op.WithCustomIntrospectionEndpoint(op.NewEndpoint("introspect")),
	)
	if err != nil {
		return nil, err
	}
	return op.CreateRouter(provider{made, told}), nil
}

func (p provider) JWTProfileVerifier(ctx context.Context) *op.JWTProfileVerifier {
	// An hour and a second are the library's own.
	return op.NewJWTProfileVerifier(p.Storage(), op.IssuerFromContext(ctx), time.Hour, time.Second+p.told.skew(),
		op.SubjectCheck(func(request *oidc.JWTTokenRequest) error {
			if request.Subject == "" && p.told.takesAlone() {
				request.Subject = request.Issuer
			}
			return op.SubjectIsIssuer(request)
		}))
}

// registry is the store of zitadel's example, with keys and users of the tests'.
type registry struct {
	*storage.Storage
	told *policy
	// The keys of whoever issues subject tokens; nil where none are taken.
	keySet oidc.KeySet
}

func newRegistry(told *policy) *registry {
	clients := map[string]*storage.Client{
		apiClient: storage.WebClient(apiClient, apiSecret),
		// Whoever does not say who it is: in both grants the token that is shown says it (RFC 7521 4.1, RFC 8693 2.1).
		"": storage.NativeClient(""),
	}
	return &registry{Storage: storage.NewStorageWithClients(users{}, clients), told: told}
}

func (r *registry) GetKeyByIDAndClientID(_ context.Context, keyID, account string) (*jose.JSONWebKey, error) {
	key, err := r.told.key(account, keyID)
	if err != nil {
		return nil, err
	}
	return &jose.JSONWebKey{KeyID: keyID, Use: "sig", Algorithm: string(jose.RS256), Key: key}, nil
}

// ValidateJWTProfileScopes lets the APIs know whose the token is: Google's assertions carry their scopes inside.
func (r *registry) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return []string{oidc.ScopeOpenID}, nil
}

// CreateAccessToken gives tokens for the APIs, which may ask about no others.
func (r *registry) CreateAccessToken(ctx context.Context, request op.TokenRequest) (string, time.Time, error) {
	return r.Storage.CreateAccessToken(ctx, forAPIs{request})
}

type forAPIs struct{ op.TokenRequest }

func (forAPIs) GetAudience() []string { return []string{apiClient} }

func (r *registry) ValidateTokenExchangeRequest(ctx context.Context, request op.TokenExchangeRequest) error {
	if audience := request.GetAudience(); len(audience) != 1 || audience[0] != pool {
		return oidc.ErrInvalidTarget()
	}
	return r.Storage.ValidateTokenExchangeRequest(ctx, request)
}

// VerifyExchangeSubjectToken judges the tokens of another issuer, by the keys that it publishes.
func (r *registry) VerifyExchangeSubjectToken(
	ctx context.Context, token string, kind oidc.TokenType,
) (string, string, map[string]any, error) {
	if kind != oidc.JWTTokenType || r.keySet == nil {
		return "", "", nil, errors.New("not another issuer's")
	}
	verifier := rp.NewIDTokenVerifier("https://"+clusterHost, "https:"+pool, r.keySet)
	claims, err := rp.VerifyIDToken[*oidc.AccessTokenClaims](ctx, token, verifier)
	if err != nil {
		return "", "", nil, err
	}
	return claims.JWTID, claims.Subject, claims.Claims, nil
}

func (r *registry) VerifyExchangeActorToken(
	context.Context, string, oidc.TokenType,
) (string, string, map[string]any, error) {
	return "", "", nil, errors.New("nobody acts for another")
}

// users are service accounts and those of the cluster: whoever has proved to be one exists.
type users struct{}

func (users) GetUserByID(id string) *storage.User {
	// Whose token may be exchanged without another's beside it is what the example calls an administrator.
	return &storage.User{ID: id, IsAdmin: true}
}

func (users) GetUserByUsername(string) *storage.User { return nil }

func (users) ExampleClientID() string { return "nobody" }
