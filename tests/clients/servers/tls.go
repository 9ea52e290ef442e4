package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"time"
)

// handshakeLimit ends a client that connects and says nothing.
const handshakeLimit = 10 * time.Second

// names are what the leaf speaks for: Google's, and one host that no route names.
var names = []string{"*.googleapis.com", "*.storage.googleapis.com", "accounts.google.com", unroutedHost}

// newIdentity makes a throw-away CA, writes its certificate to path and returns a leaf.
func newIdentity(path string) (tls.Certificate, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	authority := template("client tests: throw-away root")
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	// Parsed back so that the leaf carries the root's subject key id: OpenSSL's strict mode asks for it.
	signer, err := x509.ParseCertificate(authorityDER)
	if err != nil {
		return tls.Certificate{}, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf := template("client tests: Google's names")
	leaf.DNSNames = names
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, signer, leafKey.Public(), authorityKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER})
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}, nil
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}

// acceptTLS ends TLS and hands each connection to the service its SNI names.
func acceptTLS(front net.Listener, identity tls.Certificate, services map[string]*service) error {
	config := &tls.Config{Certificates: []tls.Certificate{identity}}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		wanted := serviceFor(services, hello.ServerName)
		if wanted == nil {
			return nil, fmt.Errorf("no service has the name %q", hello.ServerName)
		}
		own := config.Clone()
		own.GetConfigForClient = nil
		own.NextProtos = wanted.protocols
		return own, nil
	}
	for {
		raw, err := front.Accept()
		if err != nil {
			return err
		}
		go func() {
			conn := tls.Server(raw, config)
			_ = raw.SetDeadline(time.Now().Add(handshakeLimit))
			if err := conn.Handshake(); err != nil {
				log.Printf("handshake: %v", err)
				_ = raw.Close()
				return
			}
			_ = raw.SetDeadline(time.Time{})
			serviceFor(services, conn.ConnectionState().ServerName).listener.hand(conn)
		}()
	}
}

// handed is a listener whose connections come from acceptTLS, so that each server's own accept loop runs.
type handed struct{ conns chan net.Conn }

func newHanded() *handed { return &handed{make(chan net.Conn)} }

func (h *handed) hand(conn net.Conn) { h.conns <- conn }

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) { return <-h.conns, nil }

// Close implements net.Listener; the process ends with its last test.
func (h *handed) Close() error { return nil }

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
