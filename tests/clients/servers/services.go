package main

import (
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// unroutedHost is a name that no route of the tests has: its server must never see a credential.
const unroutedHost = "plain.example.com"

// service is one server behind a name.
type service struct {
	listener  *handed
	protocols []string
}

// startServices starts every server and returns them by name.
func startServices(l *ledger) (map[string]*service, error) {
	storage, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		NoListener:  true,
		ExternalURL: "https://storage.googleapis.com",
		PublicHost:  "storage.googleapis.com",
	})
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	storage.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "cells"})
	bigtable, err := startBigtable(l)
	if err != nil {
		return nil, fmt.Errorf("bigtable: %w", err)
	}
	www := http.NewServeMux()
	www.Handle("/oauth2/v4/token", exchange(l))
	www.Handle("/compute/", gate(l, "compute", instances()))
	oauth := http.NewServeMux()
	oauth.Handle("/token", exchange(l))
	sts := http.NewServeMux()
	sts.Handle("/v1/token", trade(l))
	return map[string]*service{
		"storage.googleapis.com":        serveHTTP(gate(l, "storage", storage.HTTPHandler())),
		"compute.googleapis.com":        serveHTTP(gate(l, "compute", instances())),
		"www.googleapis.com":            serveHTTP(www),
		"oauth2.googleapis.com":         serveHTTP(oauth),
		"sts.googleapis.com":            serveHTTP(sts),
		"iamcredentials.googleapis.com": serveHTTP(impersonate(l)),
		"fleetengine.googleapis.com":    serveHTTP(gate(l, "fleetengine", vehicles())),
		"pubsub.googleapis.com":         startPubsub(l),
		"bigtable.googleapis.com":       bigtable,
		"bigtableadmin.googleapis.com":  bigtable,
		unroutedHost:                    serveHTTP(plain(l)),
	}, nil
}

// serviceFor finds the service of a name; buckets are names below storage's.
func serviceFor(services map[string]*service, name string) *service {
	if strings.HasSuffix(name, ".storage.googleapis.com") {
		name = "storage.googleapis.com"
	}
	return services[name]
}

func serveHTTP(handler http.Handler) *service {
	listener := newHanded()
	server := &http.Server{Handler: sameName(handler)}
	go func() { log.Fatal(server.Serve(listener)) }()
	return &service{listener, []string{"h2", "http/1.1"}}
}

// sameName refuses a request for another name than the connection's, as Google's front end does.
func sameName(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if strings.TrimSuffix(request.Host, ":443") != request.TLS.ServerName {
			http.Error(answer, "misdirected", http.StatusMisdirectedRequest)
			return
		}
		inner.ServeHTTP(answer, request)
	})
}

// gate lets requests with a live token through to an API, and logs all.
func gate(l *ledger, name string, api http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		line := httpEntry(name, request)
		line.bearer = l.judge(request.Header.Values("Authorization"))
		line.Refused = line.Kind != "token"
		l.note(line)
		if line.Refused {
			answer.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/", error="invalid_token"`)
			write(answer, http.StatusUnauthorized, map[string]any{"error": map[string]any{
				"code": 401, "status": "UNAUTHENTICATED", "message": "Request had invalid authentication credentials."}})
			return
		}
		l.pause(request)
		// The storage server knows its bearer only as "someone": no token is kept in there.
		request.Header.Del("Authorization")
		api.ServeHTTP(answer, request)
	})
}

// plain answers anyone, and logs what they carried.
func plain(l *ledger) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		line := httpEntry("plain", request)
		line.bearer = l.judge(request.Header.Values("Authorization"))
		l.note(line)
		write(answer, http.StatusOK, map[string]any{"hello": request.Proto})
	})
}

// instances answers Compute's instances.list.
func instances() http.Handler {
	instance := func(name, state, zone string) map[string]any {
		return map[string]any{"kind": "compute#instance", "name": name, "status": state, "zone": zone}
	}
	list := func(answer http.ResponseWriter, request *http.Request) {
		zone := "projects/" + request.PathValue("project") + "/zones/" + request.PathValue("zone")
		write(answer, http.StatusOK, map[string]any{"kind": "compute#instanceList", "items": []any{
			instance("frontend-1", "RUNNING", zone), instance("backend-1", "TERMINATED", zone)}})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /compute/v1/projects/{project}/zones/{zone}/instances", list)
	return mux
}

// vehicles answers Fleet Engine's vehicles.get.
func vehicles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/providers/{provider}/vehicles/{vehicle}", func(answer http.ResponseWriter, request *http.Request) {
		name := "providers/" + request.PathValue("provider") + "/vehicles/" + request.PathValue("vehicle")
		write(answer, http.StatusOK, map[string]any{"name": name, "vehicleState": "ONLINE"})
	})
	return mux
}
