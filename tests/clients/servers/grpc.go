package main

import (
	"context"
	"log"

	"cloud.google.com/go/bigtable/bttest"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// startPubsub serves Google's Pub/Sub test server; its own listener (without any gate) stays unused.
func startPubsub(l *ledger) *service {
	fake := pstest.NewServer()
	server := grpc.NewServer(callGates(l, "pubsub")...)
	pubsubpb.RegisterPublisherServer(server, &fake.GServer)
	pubsubpb.RegisterSubscriberServer(server, &fake.GServer)
	pubsubpb.RegisterSchemaServiceServer(server, &fake.GServer)
	listener := newHanded()
	go func() { log.Fatal(server.Serve(listener)) }()
	return &service{listener, []string{"h2"}}
}

// startBigtable serves Google's Bigtable test server, data and administration.
func startBigtable(l *ledger) (*service, error) {
	listener := newHanded()
	_, err := bttest.NewServerWithListener(listener, callGates(l, "bigtable")...)
	return &service{listener, []string{"h2"}}, err
}

// callGates are what gate is for HTTP.
func callGates(l *ledger, name string) []grpc.ServerOption {
	unary := func(ctx context.Context, request any, info *grpc.UnaryServerInfo, call grpc.UnaryHandler) (any, error) {
		if err := l.admit(ctx, name, info.FullMethod); err != nil {
			return nil, err
		}
		return call(ctx, request)
	}
	stream := func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, call grpc.StreamHandler) error {
		if err := l.admit(stream.Context(), name, info.FullMethod); err != nil {
			return err
		}
		return call(server, stream)
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream)}
}

// admit logs a call and refuses it without a live token.
func (l *ledger) admit(ctx context.Context, name, method string) error {
	head, _ := metadata.FromIncomingContext(ctx)
	line := entry{Server: name, Protocol: "grpc", Method: "POST", Path: method, Placeholder: marked(method, head)}
	if authority := head.Get(":authority"); len(authority) == 1 {
		line.Host = authority[0]
	}
	line.bearer = l.judge(head.Get("authorization"))
	line.Refused = line.Kind != "token"
	l.note(line)
	if line.Refused {
		return status.Error(codes.Unauthenticated, "Request had invalid authentication credentials.")
	}
	return nil
}
