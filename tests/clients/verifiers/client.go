// One TLS handshake per line of standard input (name, host, port), with the roots of SSL_CERT_FILE.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		part := strings.Split(lines.Text(), "\t")
		dialer := &net.Dialer{Timeout: 10 * time.Second}
		conn, err := tls.DialWithDialer(dialer, "tcp", "127.0.0.1:"+part[2], &tls.Config{ServerName: part[1]})
		if err != nil {
			fmt.Printf("%s\trefused\t%v\n", part[0], err)
			continue
		}
		conn.Close()
		fmt.Printf("%s\taccepted\t\n", part[0])
	}
}
