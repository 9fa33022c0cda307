package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"landbridge/store"
)

// GRPC asks a server for its health by the gRPC health checking protocol
// (grpc.health.v1.Health/Check): SERVING passes, all else is critical.
//
// It is one unary call, made with net/http's HTTP/2 client: gRPC's own library
// would make the program a quarter larger for it.
type GRPC struct {
	Target string // host:port, or host:port/service
	TLS    *TLS   // nil: without TLS
	Dial   Dial
}

// Run asks once.
func (c *GRPC) Run(ctx context.Context) Result {
	address, service, _ := strings.Cut(c.Target, "/")
	status, err := c.ask(ctx, address, service)
	switch {
	case err != nil:
		return failure(err)
	case status != serving:
		return critical(fmt.Sprintf("gRPC check %s: %s", c.Target, status))
	}
	return Result{store.Passing, fmt.Sprintf("gRPC check %s: success", c.Target)}
}

const (
	maxAnswer  = 4 << 10    // bytes of an answer, whose one message has a few
	maxTimeout = 99_999_999 // of a grpc-timeout, which has at most 8 digits
)

func (c *GRPC) ask(ctx context.Context, address, service string) (servingStatus, error) {
	t := &http.Transport{
		DialContext:            c.Dial.orNet(),
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              new(http.Protocols),
	}
	defer t.CloseIdleConnections()
	scheme := "http"
	if c.TLS == nil {
		t.Protocols.SetUnencryptedHTTP2(true)
	} else {
		scheme = "https"
		t.Protocols.SetHTTP2(true)
		var err error
		if t.TLSClientConfig, err = c.TLS.config("h2"); err != nil {
			return 0, unavailable(err)
		}
	}
	message := healthRequest(service)
	req := (&http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Scheme: scheme, Host: address, Path: "/grpc.health.v1.Health/Check"},
		Header: http.Header{
			"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {userAgent},
		},
		Body:          io.NopCloser(bytes.NewReader(message)),
		ContentLength: int64(len(message)),
	}).WithContext(ctx)
	if end, ok := ctx.Deadline(); ok {
		req.Header.Set("Grpc-Timeout", strconv.FormatInt(min(max(time.Until(end).Milliseconds(), 1), maxTimeout), 10)+"m")
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, c.lost(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, c.lost(ctx, err)
	}
	return answer(resp, body)
}

// answer reads what a server sent.
func answer(resp *http.Response, body []byte) (servingStatus, error) {
	code, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if code == "" { // an answer without a message has its trailers at the beginning
		code, message = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if code == "" {
		return 0, rpcError(fromHTTP(resp.StatusCode), fmt.Sprintf("unexpected HTTP status code received from server: %d (%s)", resp.StatusCode, http.StatusText(resp.StatusCode)))
	}
	n, err := strconv.ParseUint(code, 10, 32)
	switch {
	case err != nil:
		return 0, rpcError(codeUnknown, fmt.Sprintf("malformed grpc-status %q", code))
	case n != 0:
		if text, err := url.PathUnescape(message); err == nil {
			message = text
		}
		return 0, rpcError(grpcCode(n), message)
	}
	status, err := decodeHealth(body)
	if err != nil {
		return 0, rpcError(codeInternal, err.Error())
	}
	return status, nil
}

// healthRequest is HealthCheckRequest{service} in its frame.
func healthRequest(service string) []byte {
	var m []byte
	if service != "" {
		m = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), service)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// decodeHealth reads the status from a framed HealthCheckResponse. Fields it does
// not know are skipped.
func decodeHealth(b []byte) (status servingStatus, err error) {
	if len(b) < 5 || uint64(len(b)-5) < uint64(binary.BigEndian.Uint32(b[1:5])) {
		return 0, errors.New("the answer is cut short")
	}
	if b[0] != 0 {
		return 0, errors.New("the answer is compressed, which was not asked for")
	}
	m := b[5 : 5+binary.BigEndian.Uint32(b[1:5])]
	for len(m) > 0 {
		num, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		m = m[n:]
		if num == 1 && kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(m)
			if n < 0 {
				return 0, protowire.ParseError(n)
			}
			status, m = servingStatus(v), m[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(num, kind, m)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		m = m[n:]
	}
	return status, nil
}

// servingStatus is grpc.health.v1.HealthCheckResponse.ServingStatus.
type servingStatus int32

const serving servingStatus = 1

func (s servingStatus) String() string {
	names := [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if s < 0 || int(s) >= len(names) {
		return strconv.Itoa(int(s))
	}
	return names[s]
}

// grpcCode is a status code of gRPC.
type grpcCode uint32

const (
	codeUnknown          grpcCode = 2
	codeDeadlineExceeded grpcCode = 4
	codePermissionDenied grpcCode = 7
	codeUnimplemented    grpcCode = 12
	codeInternal         grpcCode = 13
	codeUnavailable      grpcCode = 14
	codeUnauthenticated  grpcCode = 16
)

func (c grpcCode) String() string {
	names := [...]string{"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
		"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
		"Unavailable", "DataLoss", "Unauthenticated"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("Code(%d)", uint32(c))
}

// rpcError is an error in the words of gRPC's libraries.
func rpcError(code grpcCode, desc string) error {
	return fmt.Errorf("rpc error: code = %s desc = %s", code, desc)
}

func unavailable(err error) error { return rpcError(codeUnavailable, err.Error()) }

// lost tells why there is no answer.
func (c *GRPC) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return rpcError(codeDeadlineExceeded, ctx.Err().Error())
	}
	return unavailable(fmt.Errorf("connection error: desc = %q", "transport: "+err.Error()))
}

// fromHTTP maps the status of an answer that is no gRPC (http-grpc-status-mapping
// of the gRPC documentation).
func fromHTTP(status int) grpcCode {
	switch status {
	case http.StatusBadRequest:
		return codeInternal
	case http.StatusUnauthorized:
		return codeUnauthenticated
	case http.StatusForbidden:
		return codePermissionDenied
	case http.StatusNotFound:
		return codeUnimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codeUnavailable
	}
	return codeUnknown
}
