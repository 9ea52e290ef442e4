// Package spec gets this file beside h2spec's own: how it reaches a listener that stands behind CONNECT and TLS.
package spec

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/summerwind/h2spec/config"
)

// Through opens CONNECT for the host that requests will name, then TLS with its certificate checked against the pod's
// CA. H2SPEC_PROXY and H2SPEC_CA say where.
func Through(dialer *net.Dialer, c *config.Config, settings *tls.Config) (*tls.Conn, error) {
	conn, err := dialer.Dial("tcp", os.Getenv("H2SPEC_PROXY"))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", c.Addr()); err != nil {
		return nil, err
	}
	// The other side says nothing more before our hello: nothing can be left in this reader.
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New("CONNECT: " + answer.Status)
	}
	pem, err := os.ReadFile(os.Getenv("H2SPEC_CA"))
	if err != nil {
		return nil, err
	}
	settings.ServerName, settings.RootCAs = c.Host, x509.NewCertPool()
	if !settings.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in H2SPEC_CA")
	}
	secured := tls.Client(conn, settings)
	if err := secured.Handshake(); err != nil {
		return nil, err
	}
	return secured, conn.SetDeadline(time.Time{})
}
