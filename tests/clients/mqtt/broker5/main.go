// A broker that speaks MQTT 5: mochi over TLS, with the rules and the lines of broker.js.
//
//	broker5 CERTIFICATE KEY PUBLIC_KEY AUDIENCE
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

type line map[string]any

var output sync.Mutex

func tell(told line) {
	output.Lock()
	defer output.Unlock()
	if json.NewEncoder(os.Stdout).Encode(told) != nil {
		os.Exit(1)
	}
}

type judge struct {
	mqtt.HookBase
	parser *jwt.Parser
	key    any
	timers sync.Map
}

func (*judge) ID() string { return "judge" }

func (*judge) Provides(event byte) bool {
	events := []byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublished, mqtt.OnDisconnect, mqtt.OnWillSent}
	return bytes.Contains(events, []byte{event})
}

func (*judge) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

// A token that ends takes its connection with it.
func (j *judge) OnConnectAuthenticate(client *mqtt.Client, packet packets.Packet) bool {
	token, err := j.parser.Parse(string(packet.Connect.Password), func(*jwt.Token) (any, error) { return j.key, nil })
	if err != nil {
		tell(line{"event": "refused", "device": client.ID, "why": err.Error()})
		return false
	}
	end, err := token.Claims.GetExpirationTime()
	if err != nil {
		return false
	}
	j.timers.Store(client, time.AfterFunc(time.Until(end.Time), func() {
		tell(line{"event": "expired", "device": client.ID})
		client.Net.Conn.Close()
	}))
	username := string(packet.Connect.Username)
	version := client.Properties.ProtocolVersion
	tell(line{"event": "login", "device": client.ID, "username": username, "exp": end.Unix(), "version": version})
	return true
}

func (j *judge) OnDisconnect(client *mqtt.Client, _ error, _ bool) {
	if timer, ok := j.timers.LoadAndDelete(client); ok {
		timer.(*time.Timer).Stop()
	}
	tell(line{"event": "gone", "device": client.ID})
}

func (*judge) OnPublished(client *mqtt.Client, packet packets.Packet) {
	if number, err := strconv.Atoi(string(packet.Payload)); err == nil {
		tell(line{"event": "publish", "device": client.ID, "number": number, "qos": packet.FixedHeader.Qos})
	}
}

func (*judge) OnWillSent(client *mqtt.Client, packet packets.Packet) {
	tell(line{"event": "will", "device": strings.TrimPrefix(packet.TopicName, "will/")})
}

func run(certificate, key, public, audience string) error {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(public)
	if err != nil {
		return err
	}
	verifier, err := jwt.ParseECPublicKeyFromPEM(pem)
	if err != nil {
		return err
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(audience), jwt.WithExpirationRequired())
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err := server.AddHook(&judge{parser: parser, key: verifier}, nil); err != nil {
		return err
	}
	settings := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	door := listeners.NewTCP(listeners.Config{ID: "tls", Address: "127.0.0.1:0", TLSConfig: settings})
	if err := server.AddListener(door); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	_, port, _ := strings.Cut(door.Address(), ":")
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	tell(line{"event": "listening", "port": number})
	select {}
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		slog.Error("broker5", "error", err)
		os.Exit(1)
	}
}
