package check

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"landbridge/store"
)

// healthServer is a gRPC server with the health service, as far as one call needs.
// What is asked for decides the answer.
func healthServer(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.Method != "POST" || r.URL.Path != "/grpc.health.v1.Health/Check" ||
		r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("TE") != "trailers" || r.Header.Get("Grpc-Timeout") == "" {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	service := ""
	if m := body[5:]; len(m) > 0 {
		_, _, n := protowire.ConsumeTag(m)
		service, _ = protowire.ConsumeString(m[n:])
	}
	answer := func(m []byte) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...))
		w.Header().Set("Grpc-Status", "0")
	}
	switch service {
	case "", "up":
		answer([]byte{8, 1})
	case "newer": // with a field of a later version of the protocol
		answer(append(protowire.AppendString(protowire.AppendTag(nil, 9, protowire.BytesType), "more"), 8, 1))
	case "down":
		answer([]byte{8, 2})
	case "unset":
		answer(nil)
	case "odd":
		answer([]byte{8, 77})
	case "garbage":
		answer([]byte{8})
	case "short":
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 9, 8})
		w.Header().Set("Grpc-Status", "0")
	case "zipped":
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{1, 0, 0, 0, 2, 8, 1})
		w.Header().Set("Grpc-Status", "0")
	case "large":
		answer(make([]byte, 1<<20))
	case "unknown": // an answer without a message has only trailers
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "5")
		w.Header().Set("Grpc-Message", "unknown service: 100%25")
	case "words":
		w.Header().Set("Grpc-Status", "many")
	case "denied":
		w.WriteHeader(http.StatusForbidden)
	case "lost":
		panic(http.ErrAbortHandler)
	}
}

func TestGRPC(t *testing.T) {
	plain, secure := server(t, false, http.HandlerFunc(healthServer)), server(t, true, http.HandlerFunc(healthServer))
	at, safe, nobody := plain.Listener.Addr().String(), secure.Listener.Addr().String(), closedPort
	other := server(t, false, http.NotFoundHandler()).Listener.Addr().String()
	trusts := trusting(secure)
	for name, c := range map[string]struct {
		probe          GRPC
		status, output string
	}{
		"server":            {GRPC{Target: at}, store.Passing, "gRPC check " + at + ": success"},
		"service":           {GRPC{Target: at + "/up"}, store.Passing, "gRPC check " + at + "/up: success"},
		"unknown fields":    {GRPC{Target: at + "/newer"}, store.Passing, "gRPC check " + at + "/newer: success"},
		"not serving":       {GRPC{Target: at + "/down"}, store.Critical, "gRPC check " + at + "/down: NOT_SERVING"},
		"unset":             {GRPC{Target: at + "/unset"}, store.Critical, "gRPC check " + at + "/unset: UNKNOWN"},
		"status of later":   {GRPC{Target: at + "/odd"}, store.Critical, "gRPC check " + at + "/odd: 77"},
		"garbage":           {GRPC{Target: at + "/garbage"}, store.Critical, "rpc error: code = Internal desc = unexpected EOF"},
		"short":             {GRPC{Target: at + "/short"}, store.Critical, "rpc error: code = Internal desc = the answer is cut short"},
		"compressed":        {GRPC{Target: at + "/zipped"}, store.Critical, "rpc error: code = Internal desc = the answer is compressed, which was not asked for"},
		"too large":         {GRPC{Target: at + "/large"}, store.Critical, "rpc error: code = *"},
		"unknown service":   {GRPC{Target: at + "/unknown"}, store.Critical, "rpc error: code = NotFound desc = unknown service: 100%"},
		"status in words":   {GRPC{Target: at + "/words"}, store.Critical, `rpc error: code = Unknown desc = malformed grpc-status "many"`},
		"denied":            {GRPC{Target: at + "/denied"}, store.Critical, "rpc error: code = PermissionDenied desc = unexpected HTTP status code received from server: 403 (Forbidden)"},
		"lost":              {GRPC{Target: at + "/lost"}, store.Critical, `rpc error: code = Unavailable desc = connection error: desc = "transport: stream error*`},
		"no gRPC there":     {GRPC{Target: other}, store.Critical, "rpc error: code = Unimplemented desc = unexpected HTTP status code received from server: 404 (Not Found)"},
		"refused":           {GRPC{Target: nobody}, store.Critical, `rpc error: code = Unavailable desc = connection error: desc = "transport: dial tcp ` + nobody + `: connect: connection refused"`},
		"tls":               {GRPC{Target: safe, TLS: &trusts}, store.Passing, "gRPC check " + safe + ": success"},
		"tls, skip verify":  {GRPC{Target: safe + "/down", TLS: &TLS{SkipVerify: true}}, store.Critical, "gRPC check " + safe + "/down: NOT_SERVING"},
		"unknown authority": {GRPC{Target: safe, TLS: &TLS{}}, store.Critical, `rpc error: code = Unavailable desc = connection error: desc = "transport: ` + unknownAuthority + `"`},
		"tls not spoken":    {GRPC{Target: safe}, store.Critical, "rpc error: code = Unavailable*"},
	} {
		t.Run(name, func(t *testing.T) { wants(t, &c.probe, c.status, c.output) })
	}
}

// FuzzHealthResponse reads answers of any bytes: whatever they are, the status is
// one that a correct encoder could have sent.
func FuzzHealthResponse(f *testing.F) {
	for _, m := range []string{"", "\x08\x01", "\x08\x02", "\x08\x01\x4a\x04more", "\x08", "\x0a\xff"} {
		f.Add(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...))
	}
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Add([]byte{0, 255, 255, 255, 255, 8, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		status, err := decodeHealth(b)
		if err != nil {
			return
		}
		again := healthAnswer(status)
		if got, err := decodeHealth(again); err != nil || got != status {
			t.Errorf("status %d, written and read again: %d, %v", status, got, err)
		}
		if status != 0 && !bytes.ContainsRune(b, 8) {
			t.Errorf("status %d of an answer without field 1: %x", status, b)
		}
		_ = fmt.Sprint(status)
	})
}

func healthAnswer(s servingStatus) []byte {
	m := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(s))
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}
