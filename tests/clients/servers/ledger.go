package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// placeholderMark is in every placeholder of bearerd; a server must never see it.
const placeholderMark = "bearerd-placeholder"

// key is a service-account key whose assertions the token endpoint accepts.
type key struct {
	ID     string
	KeyID  string
	Email  string
	Public *rsa.PublicKey
}

// owner is whose a token is: a key's id, an account or a principal, and the cluster's own name for who came first.
type owner struct{ key, subject string }

// token is what the ledger remembers of one it issued; the value itself is only the map's key.
type token struct {
	owner
	number  int
	revoked bool
}

// bearer tells what a request's Authorization was, never its value.
type bearer struct {
	// Kind is token, placeholder, none, several, unknown or revoked.
	Kind  string `json:"authorization"`
	Token int    `json:"token,omitempty"`
	Key   string `json:"key,omitempty"`
	// Subject is the `sub` that the cluster's token had, also after an impersonation.
	Subject string `json:"subject,omitempty"`
}

// entry is one request, as logged.
type entry struct {
	Sequence int    `json:"sequence"`
	Server   string `json:"server"`
	Host     string `json:"host"`
	Protocol string `json:"protocol"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Upload   string `json:"upload,omitempty"`
	bearer
	// Placeholder says that the mark was anywhere in the head.
	Placeholder bool   `json:"placeholder,omitempty"`
	Refused     bool   `json:"refused,omitempty"`
	Issued      int    `json:"issued,omitempty"`
	Reason      string `json:"reason,omitempty"`
	// Shown is the `jti` of the cluster's token that was exchanged.
	Shown string `json:"shown,omitempty"`
}

type ledger struct {
	mutex      sync.Mutex
	keys       []key
	tokens     map[string]*token
	entries    []entry
	assertions []string
	outage     bool
	// lifetime of tokens in seconds, 0 = an hour.
	lifetime int
	// delay is how long an API of plain HTTP takes for its answer.
	delay time.Duration
	// federation is for the tokens of clusters; ahead is what is added to the time that those are judged by.
	federation federation
	ahead      time.Duration
	// most bounds the log in memory.
	most  int
	lines *json.Encoder
}

func newLedger(lines io.Writer, most int) *ledger {
	return &ledger{tokens: map[string]*token{}, most: most, lines: json.NewEncoder(lines)}
}

// issue makes a new opaque token and returns it with its number.
func (l *ledger) issue(whose owner) (string, int) {
	random := make([]byte, 96)
	_, _ = rand.Read(random)
	// Google's own may end in dots; a client that trims them would be refused here.
	value := "ya29.c." + base64.RawURLEncoding.EncodeToString(random) + "..."
	l.mutex.Lock()
	defer l.mutex.Unlock()
	number := len(l.tokens) + 1
	l.tokens[value] = &token{owner: whose, number: number}
	return value, number
}

// judge names the Authorization of a request.
func (l *ledger) judge(values []string) bearer {
	if len(values) == 0 {
		return bearer{Kind: "none"}
	}
	if len(values) > 1 {
		return bearer{Kind: "several"}
	}
	value, isBearer := strings.CutPrefix(values[0], "Bearer ")
	if strings.Contains(value, placeholderMark) {
		return bearer{Kind: "placeholder"}
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	known := l.tokens[value]
	switch {
	case !isBearer || known == nil:
		return bearer{Kind: "unknown"}
	case known.revoked:
		return bearer{Kind: "revoked", Token: known.number, Key: known.key, Subject: known.subject}
	default:
		return bearer{Kind: "token", Token: known.number, Key: known.key, Subject: known.subject}
	}
}

// note logs one request, numbered in order of arrival.
func (l *ledger) note(line entry) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.entries) == l.most {
		panic("the log is full: some client repeats itself without end")
	}
	line.Sequence = len(l.entries) + 1
	l.entries = append(l.entries, line)
	_ = l.lines.Encode(line)
}

// pause is what an answer waits for once its request is in the log; it ends early with the request.
func (l *ledger) pause(request *http.Request) {
	l.mutex.Lock()
	delay := l.delay
	l.mutex.Unlock()
	select {
	case <-time.After(delay):
	case <-request.Context().Done():
	}
}

// marked says whether the placeholder is anywhere in a head.
func marked(target string, headers map[string][]string) bool {
	if strings.Contains(target, placeholderMark) {
		return true
	}
	for _, values := range headers {
		for _, value := range values {
			if strings.Contains(value, placeholderMark) {
				return true
			}
		}
	}
	return false
}

// httpEntry is what the log keeps of an HTTP request, before it was judged.
func httpEntry(server string, request *http.Request) entry {
	query := request.URL.Query()
	upload := query.Get("uploadType")
	if query.Has("upload_id") {
		upload = "session"
	}
	return entry{
		Server:      server,
		Host:        request.Host,
		Protocol:    request.Proto,
		Method:      request.Method,
		Path:        request.URL.EscapedPath(),
		Upload:      upload,
		Placeholder: marked(request.RequestURI, request.Header),
	}
}
