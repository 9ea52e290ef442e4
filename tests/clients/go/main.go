// Command go is Google's Go clients with default credentials. Over gRPC:
// pubsub-publish, pubsub-stream, bigtable; and over HTTP: storage, sign, and
// loop, which goes on until it is told to end.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/storage"
	"golang.org/x/oauth2/google"
)

const (
	project      = "cells-project"
	topic        = "projects/cells-project/topics/go"
	subscription = "projects/cells-project/subscriptions/go"
	greeting     = "hello from Go"
	limit        = 20 * time.Second
	rows         = 300
)

func main() {
	log.SetFlags(0)
	steps := map[string]func(context.Context) error{
		"pubsub-publish": publish, "pubsub-stream": stream, "bigtable": tables, "storage": objects, "sign": sign,
	}
	if os.Args[1] == "loop" {
		loop(os.Args[2:])
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := defaultCredentials(ctx); err != nil {
		log.Fatal(err)
	}
	if err := steps[os.Args[1]](ctx); err != nil {
		log.Fatal(err)
	}
}

// defaultCredentials asserts that they come from the metadata server: no file, a token, the project.
func defaultCredentials(ctx context.Context) error {
	found, err := google.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		return err
	}
	if found.JSON != nil || found.ProjectID != project {
		return fmt.Errorf("default credentials: project %q, from a file: %v", found.ProjectID, found.JSON != nil)
	}
	token, err := found.TokenSource.Token()
	if err == nil && !token.Valid() {
		err = fmt.Errorf("the default token is not valid")
	}
	return err
}

// sign prints a signed URL, whose signature the client asks of IAM, since it has no key.
func sign(ctx context.Context) error {
	client, err := storage.NewClient(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	options := &storage.SignedURLOptions{
		Scheme: storage.SigningSchemeV4, Method: "GET", Expires: time.Now().Add(10 * time.Minute),
	}
	url, err := client.Bucket("cells").SignedURL("go/small", options)
	fmt.Println(url)
	return err
}

func publish(ctx context.Context) error {
	client, err := pubsub.NewClient(ctx, project)
	if err != nil {
		return err
	}
	if _, err := client.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: topic}); err != nil {
		return err
	}
	wanted := &pubsubpb.Subscription{Name: subscription, Topic: topic}
	if _, err := client.SubscriptionAdminClient.CreateSubscription(ctx, wanted); err != nil {
		return err
	}
	publisher := client.Publisher(topic)
	defer publisher.Stop()
	_, err = publisher.Publish(ctx, &pubsub.Message{Data: []byte(greeting)}).Get(ctx)
	return err
}

func stream(ctx context.Context) error {
	client, err := pubsub.NewClient(ctx, project)
	if err != nil {
		return err
	}
	receiving, enough := context.WithCancel(ctx)
	var got []byte
	err = client.Subscriber(subscription).Receive(receiving, func(_ context.Context, message *pubsub.Message) {
		got = message.Data
		message.Ack()
		enough()
	})
	if err == nil && !bytes.Equal(got, []byte(greeting)) {
		err = fmt.Errorf("received %q", got)
	}
	return err
}

// tables makes a table, writes rows in bulk and reads them back: unary calls and server streams.
func tables(ctx context.Context) error {
	admin, err := bigtable.NewAdminClient(ctx, project, "cells")
	if err != nil {
		return err
	}
	if err := admin.CreateTableFromConf(ctx, &bigtable.TableConf{
		TableID:  "go",
		Families: map[string]bigtable.GCPolicy{"f": bigtable.NoGcPolicy()},
	}); err != nil {
		return err
	}
	client, err := bigtable.NewClient(ctx, project, "cells")
	if err != nil {
		return err
	}
	table := client.Open("go")
	keys, writes := make([]string, rows), make([]*bigtable.Mutation, rows)
	for i := range rows {
		keys[i], writes[i] = fmt.Sprintf("row-%03d", i), bigtable.NewMutation()
		writes[i].Set("f", "column", bigtable.Now(), bytes.Repeat([]byte("x"), 4096))
	}
	if failed, err := table.ApplyBulk(ctx, keys, writes); err != nil || failed != nil {
		return fmt.Errorf("writing: %v %v", err, failed)
	}
	seen := 0
	count := func(bigtable.Row) bool { seen++; return true }
	if err := table.ReadRows(ctx, bigtable.PrefixRange("row-"), count); err != nil {
		return err
	}
	if seen != rows {
		return fmt.Errorf("read %d rows of %d", seen, rows)
	}
	return nil
}

// objects uploads in chunks, reads (by the XML API, as this client does) and lists.
func objects(ctx context.Context) error {
	client, err := storage.NewClient(ctx)
	if err != nil {
		return err
	}
	content := bytes.Repeat([]byte("an object of Go's\n"), 40_000)
	object := client.Bucket("cells").Object("go/large")
	writer := object.NewWriter(ctx)
	writer.ChunkSize = 256 * 1024
	if _, err := writer.Write(content); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	reader, err := object.NewReader(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	got, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	found, err := client.Bucket("cells").Objects(ctx, &storage.Query{Prefix: "go/"}).Next()
	if err == nil && (found.Name != "go/large" || !bytes.Equal(got, content)) {
		err = fmt.Errorf("found %q, and %d bytes of %d", found.Name, len(got), len(content))
	}
	return err
}
