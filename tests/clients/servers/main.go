// Command servers plays Google for the client tests: real storage, Pub/Sub and
// Bigtable test servers plus a token endpoint, on one TLS port, under Google's
// names. It owns what counts as a live token and the log of who came with which;
// it knows nothing of bearerd. tests/clients/run starts it on loopback, and
// tests/cluster in a pod of its own.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

// started is the one line on standard output: where the servers are.
type started struct {
	TLS     string `json:"tls"`
	Control string `json:"control"`
	CA      string `json:"ca"`
}

// options are the command line.
type options struct {
	directory, tls, control string
	stay                    bool
	most                    int
}

func main() {
	log.SetFlags(0)
	var told options
	flag.StringVar(&told.directory, "directory", "", "where ca.pem and requests.jsonl are written")
	flag.StringVar(&told.tls, "tls", "127.0.0.1:0", "where the services listen")
	flag.StringVar(&told.control, "control", "127.0.0.1:0", "where the control port listens")
	flag.BoolVar(&told.stay, "stay", false, "do not end with standard input")
	// A run of clients writes some hundreds of lines.
	flag.IntVar(&told.most, "most", 20_000, "after how many requests to end: some client repeats itself without end")
	flag.Parse()
	if told.directory == "" {
		log.Fatal("-directory is required")
	}
	if err := run(told); err != nil {
		log.Fatal(err)
	}
}

// endWithParent ends the servers when standard input does: however the tests died, nothing of them stays.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func run(told options) error {
	requests, err := os.Create(filepath.Join(told.directory, "requests.jsonl"))
	if err != nil {
		return err
	}
	ledger := newLedger(requests, told.most)
	services, err := startServices(ledger)
	if err != nil {
		return err
	}
	ca := filepath.Join(told.directory, "ca.pem")
	identity, err := newIdentity(ca)
	if err != nil {
		return err
	}
	front, err := net.Listen("tcp", told.tls)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", told.control)
	if err != nil {
		return err
	}
	line, err := json.Marshal(started{front.Addr().String(), control.Addr().String(), ca})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	go func() { log.Fatal(http.Serve(control, controlHandler(ledger, ca))) }()
	if !told.stay {
		go endWithParent()
	}
	return acceptTLS(front, identity, services)
}
