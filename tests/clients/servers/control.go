package main

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// registration is a key as the tests tell of it.
type registration struct {
	ID     string `json:"id"`
	KeyID  string `json:"keyId"`
	Email  string `json:"email"`
	Public string `json:"public"`
}

// controlHandler is what the tests steer the servers by, in plain HTTP; ca is the file with the root's certificate.
func controlHandler(l *ledger, ca string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /keys", func(answer http.ResponseWriter, request *http.Request) {
		done(answer, l.register(request))
	})
	mux.HandleFunc("DELETE /keys/{id}", func(answer http.ResponseWriter, request *http.Request) {
		done(answer, l.remove(request.PathValue("id")))
	})
	mux.HandleFunc("POST /federation", func(answer http.ResponseWriter, request *http.Request) {
		done(answer, l.federate(request))
	})
	mux.HandleFunc("POST /ahead/{value}", set(l, &l.ahead, time.ParseDuration))
	mux.HandleFunc("POST /delay/{value}", set(l, &l.delay, time.ParseDuration))
	mux.HandleFunc("POST /lifetime/{value}", set(l, &l.lifetime, strconv.Atoi))
	mux.HandleFunc("GET /ca", func(answer http.ResponseWriter, request *http.Request) {
		http.ServeFile(answer, request, ca)
	})
	mux.HandleFunc("POST /outage/{state}", func(answer http.ResponseWriter, request *http.Request) {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		l.outage = request.PathValue("state") == "on"
		done(answer, nil)
	})
	mux.HandleFunc("POST /revoke/{token}", func(answer http.ResponseWriter, request *http.Request) {
		done(answer, l.revoke(request.PathValue("token")))
	})
	mux.HandleFunc("GET /log", func(answer http.ResponseWriter, request *http.Request) {
		since, _ := strconv.Atoi(request.FormValue("since"))
		l.mutex.Lock()
		defer l.mutex.Unlock()
		write(answer, http.StatusOK, l.entries[min(since, len(l.entries)):])
	})
	mux.HandleFunc("GET /assertions", func(answer http.ResponseWriter, _ *http.Request) {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		write(answer, http.StatusOK, l.assertions)
	})
	return mux
}

func (l *ledger) register(request *http.Request) error {
	var told registration
	if err := json.NewDecoder(request.Body).Decode(&told); err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(told.Public))
	if block == nil {
		return errors.New("public is no PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return errors.New("public is no RSA key")
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.keys = append(l.keys, key{told.ID, told.KeyID, told.Email, public})
	return nil
}

// federate takes what Google knows of clusters, in place of what it knew.
func (l *ledger) federate(request *http.Request) error {
	var told federation
	if err := json.NewDecoder(request.Body).Decode(&told); err != nil {
		return err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.federation = told
	return nil
}

// remove forgets a key, as its deletion at Google does, and stricter than there: its tokens end with it.
func (l *ledger) remove(id string) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	before := len(l.keys)
	l.keys = slices.DeleteFunc(l.keys, func(known key) bool { return known.ID == id })
	if len(l.keys) == before {
		return errors.New("no key has that id")
	}
	for _, issued := range l.tokens {
		issued.revoked = issued.revoked || issued.key == id
	}
	return nil
}

func (l *ledger) revoke(number string) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, issued := range l.tokens {
		if strconv.Itoa(issued.number) == number {
			issued.revoked = true
			return nil
		}
	}
	return errors.New("no token has that number")
}

// set is the handler of a setting that changes while requests are served: its value is the end of the path.
func set[T any](l *ledger, setting *T, parse func(string) (T, error)) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		value, err := parse(request.PathValue("value"))
		if err == nil {
			l.mutex.Lock()
			*setting = value
			l.mutex.Unlock()
		}
		done(answer, err)
	}
}

func done(answer http.ResponseWriter, err error) {
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
	}
}
