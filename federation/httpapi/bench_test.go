package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// discard is a ResponseWriter that costs next to nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func benchmark(b *testing.B, target string, body []byte) {
	resp := &rpc.Response{Index: 4711, KnownLeader: true, Effective: store.Default, Body: body}
	n := newNode(b, func(c *Config) {
		c.Do = rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) { return resp, nil })
	})
	r := httptest.NewRequest("GET", target, nil)
	w := &discard{h: make(http.Header, 16)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		n.ServeHTTP(w, r)
	}
}

func BenchmarkKVGet(b *testing.B) {
	benchmark(b, "/v1/kv/bench/key", []byte(`[{"LockIndex":0,"Key":"bench/key","Flags":0,"Value":"MDEyMzQ1Njc4OWFiY2RlZg==","CreateIndex":10,"ModifyIndex":10}]`))
}

func BenchmarkKVGetStale(b *testing.B) {
	benchmark(b, "/v1/kv/bench/key?stale&dc=dc2&raw", []byte("0123456789abcdef"))
}

func BenchmarkHealthService100(b *testing.B) {
	benchmark(b, "/v1/health/service/web?passing&tag=v1", bytes.Repeat([]byte("x"), 100<<10))
}

func BenchmarkAgentVersion(b *testing.B) { benchmark(b, "/v1/agent/version", nil) }

func BenchmarkKVPut(b *testing.B) {
	n := newNode(b, func(c *Config) {
		resp := &rpc.Response{Body: []byte("true")}
		c.Do = rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) { return resp, nil })
	})
	value := bytes.Repeat([]byte("v"), 200)
	body := bytes.NewReader(value)
	r := httptest.NewRequest("PUT", "/v1/kv/bench/key", body)
	w := &discard{h: make(http.Header, 16)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		body.Reset(value)
		n.ServeHTTP(w, r)
	}
}

func BenchmarkTxn(b *testing.B) {
	for _, ops := range []int{10, 64} {
		b.Run(strconv.Itoa(ops), func(b *testing.B) {
			n := newNode(b, func(c *Config) {
				resp := &rpc.Response{Body: []byte(`{"Results":[],"Errors":null}`)}
				c.Do = rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) { return resp, nil })
			})
			var list []string
			for i := range ops {
				list = append(list, fmt.Sprintf(`{"KV":{"Verb":"set","Key":"bench/key/%d","Value":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}}`, i))
			}
			text := []byte("[" + strings.Join(list, ",") + "]")
			body := bytes.NewReader(text)
			r := httptest.NewRequest("PUT", "/v1/txn", body)
			w := &discard{h: make(http.Header, 16)}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				body.Reset(text)
				n.ServeHTTP(w, r)
			}
		})
	}
}
