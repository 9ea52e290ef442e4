// h2spec, strict, against HTTP/2 as it is spoken inside an intercepted tunnel. `run` starts it.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2cases "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/reporter"
	"github.com/summerwind/h2spec/spec"
	"golang.org/x/net/http2"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: h2spec HOST PATH [SECTION...], with H2SPEC_PROXY and H2SPEC_CA")
		os.Exit(64)
	}
	settings := &config.Config{
		Host:         os.Args[1],
		Path:         os.Args[2],
		Sections:     os.Args[3:],
		Port:         443,
		TLS:          true,
		Strict:       true,
		Timeout:      2 * time.Second,
		MaxHeaderLen: 4000,
	}
	groups := []*spec.TestGroup{generic.Spec(), h2cases.Spec(), hpack.Spec(), literal()}
	failed := 0
	for _, group := range groups {
		group.Test(settings)
		failed += group.FailedCount
	}
	if failed > 0 {
		reporter.FailedTests(groups)
	}
	reporter.Summary(groups)
	if failed > 0 {
		os.Exit(1)
	}
}

// The case that h2spec's last release has and its last Go module has not: the second of HPACK's section 2.3.3.
func literal() *spec.TestGroup {
	group := &spec.TestGroup{Key: "literal", Name: "HPACK 2.3.3 once more"}
	group.AddTestCase(&spec.TestCase{
		Desc:        "Sends a literal whose name has an index beyond both tables",
		Requirement: "The endpoint MUST treat this as a decoding error.",
		Run: func(settings *config.Config, conn *spec.Conn) error {
			if err := conn.Handshake(); err != nil {
				return err
			}
			// With incremental indexing, the name at index 70, an empty value.
			block := append(conn.EncodeHeaders(spec.CommonHeaders(settings)), 0x7f, 70-63, 0)
			conn.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: block,
			})
			return spec.VerifyConnectionError(conn, http2.ErrCodeCompression)
		},
	})
	return group
}
