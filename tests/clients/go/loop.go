package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"cloud.google.com/go/storage"
)

// mostErrors bounds what the report quotes.
const mostErrors = 5

// report is the line printed at the end.
type report struct {
	Requests int      `json:"requests"`
	Failures int      `json:"failures"`
	Errors   []string `json:"errors,omitempty"`
	Slowest  int64    `json:"slowestMs"`
	// InFlight is how many requests were under way when the end was asked for.
	InFlight int `json:"inFlight"`
	mutex    sync.Mutex
	flying   int
}

// loop asks for an object's bucket over and over, each time once: the client's own retries are off, so that a failure
// that they would hide is counted. It ends at -count requests or at SIGTERM, after the requests under way, and fails
// where one failed.
func loop(arguments []string) {
	flags := flag.NewFlagSet("loop", flag.ExitOnError)
	workers := flags.Int("workers", 1, "requests at once")
	every := flags.Duration("every", 20*time.Millisecond, "pause of a worker between two requests")
	count := flags.Int("count", 0, "requests of each worker, 0 = until SIGTERM")
	stay := flags.Bool("stay", false, "wait for SIGTERM after the report of -count requests")
	url := flags.String("url", "", "ask this instead, as a program that knows no credentials")
	_ = flags.Parse(arguments)
	stop, ended := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer ended()
	fmt.Println(`{"started":true}`)
	ask, err := asking(*url)
	if err != nil {
		log.Fatal(err)
	}
	told := &report{}
	var all sync.WaitGroup
	for range *workers {
		all.Go(func() {
			for number := 0; stop.Err() == nil && (*count == 0 || number < *count); number++ {
				told.time(ask)
				select {
				case <-time.After(*every):
				case <-stop.Done():
				}
			}
		})
	}
	counted := make(chan struct{})
	go func() {
		<-stop.Done()
		told.mutex.Lock()
		told.InFlight = told.flying
		told.mutex.Unlock()
		close(counted)
	}()
	all.Wait()
	if !*stay {
		ended()
		<-counted
	}
	line, _ := json.Marshal(told)
	fmt.Println(string(line))
	if *stay && told.Failures == 0 {
		<-stop.Done()
	}
	if told.Failures > 0 || told.Requests == 0 {
		os.Exit(1)
	}
}

// asking is one request: of the storage client, or of net/http for a bare URL.
func asking(url string) (func(context.Context) error, error) {
	if url != "" {
		return func(ctx context.Context) error { return bare(ctx, url) }, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := defaultCredentials(ctx); err != nil {
		return nil, err
	}
	client, err := storage.NewClient(context.Background())
	if err != nil {
		return nil, err
	}
	client.SetRetry(storage.WithPolicy(storage.RetryNever))
	return func(ctx context.Context) error {
		_, err := client.Bucket("cells").Attrs(ctx)
		return err
	}, nil
}

func bare(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// A connection each: an old one would go on as it was decided when it was made.
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	return nil
}

// time makes one request and keeps what came of it.
func (r *report) time(ask func(context.Context) error) {
	r.mutex.Lock()
	r.flying++
	r.mutex.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	err := ask(ctx)
	took := time.Since(began).Milliseconds()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.flying--
	r.Requests++
	r.Slowest = max(r.Slowest, took)
	if r.Requests == 1 && err == nil {
		fmt.Println(`{"first":true}`)
	}
	if err == nil {
		return
	}
	r.Failures++
	if len(r.Errors) < mostErrors {
		r.Errors = append(r.Errors, err.Error())
	}
}
