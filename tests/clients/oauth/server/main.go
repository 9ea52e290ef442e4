// Command server is an OAuth server that nobody here wrote, under Google's names: zitadel's OpenID provider, which
// knows the jwt-bearer grant (RFC 7523) and the exchange of tokens (RFC 8693), or Ory's fosite, which knows the first.
// Behind it stand APIs that ask it by introspection (RFC 7662) whose token they were sent.
//
//	server zitadel|fosite CERTIFICATE KEY CA
//
// What is ours here is policy, and the log: which keys are registered, which audience the server has, what its clock
// says. Grants, signatures, claims, answers and their words are the libraries'.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/pkg/client/rs"
)

// Google's names, which bearerd has pinned.
const (
	oauthHost  = "oauth2.googleapis.com"
	oauthToken = "https://oauth2.googleapis.com/token"
	stsHost    = "sts.googleapis.com"
	stsToken   = "https://sts.googleapis.com/v1/token"
	// Whoever the workload is known to: the issuer of subject tokens.
	clusterHost = "cluster.example.com"
)

// apiClient is who the APIs are where they ask about a token; the server gives its tokens to this audience.
const (
	apiClient = "api"
	apiSecret = "an-api's-secret"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 5 {
		log.Fatal("usage: server zitadel|fosite CERTIFICATE KEY CA")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		log.Fatal(err)
	}
}

func run(library, certificate, key, ca string) error {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	front, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	})
	if err != nil {
		return err
	}
	client, err := clientOf(front.Addr().String(), ca)
	if err != nil {
		return err
	}
	told := newPolicy()
	hosts, err := hostsOf(library, told, client)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	started := map[string]string{"tls": front.Addr().String(), "control": control.Addr().String()}
	if err := json.NewEncoder(os.Stdout).Encode(started); err != nil {
		return err
	}
	go func() { log.Fatal(http.Serve(control, controlHandler(told))) }()
	go endWithParent()
	return http.Serve(front, told.logged(hosts))
}

// endWithParent ends the server when standard input does: however the tests died, nothing of it stays.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// clientOf makes what servers and APIs here ask each other by: verified TLS under their names, all at one port.
func clientOf(address, ca string) (*http.Client, error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, nil
}

// hostsOf puts a server and its APIs behind their names.
func hostsOf(library string, told *policy, client *http.Client) (map[string]http.Handler, error) {
	hosts := map[string]http.Handler{}
	apis := map[string]string{"storage.googleapis.com": oauthHost}
	switch library {
	case "zitadel":
		apis["pubsub.googleapis.com"] = stsHost
		if err := zitadelHosts(hosts, told, client); err != nil {
			return nil, err
		}
	case "fosite":
		server, err := newFosite(told)
		if err != nil {
			return nil, err
		}
		hosts[oauthHost] = server
	default:
		return nil, fmt.Errorf("no such library: %s", library)
	}
	for name, server := range apis {
		asks, err := rs.NewResourceServerClientCredentials(context.Background(), "https://"+server, apiClient, apiSecret,
			rs.WithClient(client), rs.WithStaticEndpoints("https://"+server+"/token", "https://"+server+"/introspect"))
		if err != nil {
			return nil, err
		}
		hosts[name] = api(asks)
	}
	return hosts, nil
}
