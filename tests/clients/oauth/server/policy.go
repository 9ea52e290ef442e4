package main

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// policy is what the tests decide of a server, and what they are told of it.
type policy struct {
	mutex sync.Mutex
	// Public keys by account and id.
	keys map[string]map[string]*rsa.PublicKey
	// What an assertion must be for.
	audience string
	// How far the server's clock is ahead.
	ahead time.Duration
	// Whether an assertion without `sub` is for the account that signs it, as at Google.
	alone bool
	log   []entry
	// Makes a subject token; nil where nobody takes one.
	subjectToken func(subjectWish) (string, error)
}

// entry is one request, without anything secret.
type entry struct {
	Host   string `json:"host"`
	Path   string `json:"path"`
	Grant  string `json:"grant,omitempty"`
	Kind   string `json:"kind,omitempty"`
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
	Words  string `json:"words,omitempty"`
}

// registration is a public key as the tests tell of it; without one, what is registered under the id is removed.
type registration struct {
	Email  string `json:"email"`
	KeyID  string `json:"keyId"`
	Public string `json:"public"`
}

// subjectWish is a subject token that the tests want.
type subjectWish struct {
	Subject  string `json:"subject"`
	Audience string `json:"audience"`
	Seconds  int    `json:"seconds"`
	// Signed by a key that the issuer does not publish.
	Forged bool `json:"forged"`
}

func newPolicy() *policy {
	return &policy{keys: map[string]map[string]*rsa.PublicKey{}, audience: oauthToken, log: []entry{}}
}

// key is the public key that an account has registered under an id.
func (p *policy) key(account, id string) (*rsa.PublicKey, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if key, ok := p.keys[account][id]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("no key %q of %q", id, account)
}

func (p *policy) register(wish registration) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if wish.Public == "" {
		delete(p.keys[wish.Email], wish.KeyID)
		return nil
	}
	block, _ := pem.Decode([]byte(wish.Public))
	if block == nil {
		return errors.New("not PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return errors.New("not RSA")
	}
	if p.keys[wish.Email] == nil {
		p.keys[wish.Email] = map[string]*rsa.PublicKey{}
	}
	p.keys[wish.Email][wish.KeyID] = key
	return nil
}

func (p *policy) issuer() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.audience
}

func (p *policy) takesAlone() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.alone
}

func (p *policy) skew() time.Duration {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.ahead
}

// logged sends each request to its host, dates the answer by the server's clock, and writes down what came of it.
func (p *policy) logged(hosts map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		host, ok := hosts[request.Host]
		if !ok {
			http.Error(answer, "no such host", http.StatusMisdirectedRequest)
			return
		}
		// Here and not in a library, whose copy of the request would keep what it reads.
		_ = request.ParseForm()
		answer.Header().Set("Date", time.Now().Add(p.skew()).UTC().Format(http.TimeFormat))
		seen := &seen{ResponseWriter: answer, status: http.StatusOK}
		host.ServeHTTP(seen, request)
		var failure struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		// A success is not kept, and no refusal's body is anything but JSON at a token endpoint.
		_ = json.Unmarshal(seen.body.Bytes(), &failure)
		line := entry{
			Host: request.Host, Path: request.URL.Path, Grant: request.PostForm.Get("grant_type"),
			Kind: request.PostForm.Get("subject_token_type"), Status: seen.status,
			Error: failure.Error, Words: failure.Description,
		}
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.log = append(p.log, line)
	})
}

// seen keeps status and body of a refusal.
type seen struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (s *seen) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (s *seen) Write(part []byte) (int, error) {
	if s.status >= http.StatusBadRequest {
		s.body.Write(part)
	}
	return s.ResponseWriter.Write(part)
}

// controlHandler is what the tests steer a server by, in plain HTTP.
func controlHandler(p *policy) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /keys", told(func(wish registration) (any, error) { return nil, p.register(wish) }))
	mux.HandleFunc("POST /audience", told(func(wish string) (any, error) {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.audience = wish
		return nil, nil
	}))
	mux.HandleFunc("POST /ahead", told(func(seconds int) (any, error) {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.ahead = time.Duration(seconds) * time.Second
		return nil, nil
	}))
	mux.HandleFunc("POST /alone", told(func(wish bool) (any, error) {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.alone = wish
		return nil, nil
	}))
	mux.HandleFunc("POST /subject", told(func(wish subjectWish) (any, error) { return p.subjectToken(wish) }))
	mux.HandleFunc("POST /log", told(func(since int) (any, error) {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		return p.log[min(since, len(p.log)):], nil
	}))
	return mux
}

// told reads a wish in JSON and answers in JSON.
func told[W any](does func(W) (any, error)) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		var wish W
		err := json.NewDecoder(request.Body).Decode(&wish)
		if err == nil {
			var result any
			if result, err = does(wish); err == nil {
				_ = json.NewEncoder(answer).Encode(result)
				return
			}
		}
		http.Error(answer, err.Error(), http.StatusBadRequest)
	}
}
