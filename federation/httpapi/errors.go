package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"landbridge/store"
)

// statuses maps the kind of an error to a status (spec http-common 11). What a
// server refuses is mostly 500: clients retry and match on it.
var statuses = [...]int{
	store.KindInternal:         http.StatusInternalServerError,
	store.KindInvalid:          http.StatusInternalServerError,
	store.KindBadRequest:       http.StatusBadRequest,
	store.KindNotFound:         http.StatusNotFound,
	store.KindPermissionDenied: http.StatusForbidden,
	store.KindNoLeader:         http.StatusInternalServerError,
	store.KindNoServers:        http.StatusInternalServerError,
	store.KindNoPath:           http.StatusInternalServerError,
	store.KindUnreachable:      http.StatusInternalServerError,
	store.KindMaybeApplied:     http.StatusInternalServerError,
	store.KindTimeout:          http.StatusInternalServerError,
	store.KindConflict:         http.StatusConflict,
	store.KindTooLarge:         http.StatusRequestEntityTooLarge,
	store.KindRateLimited:      http.StatusTooManyRequests,
	store.KindNotBuilt:         http.StatusInternalServerError,
	store.KindBusy:             http.StatusServiceUnavailable,
	store.KindACLOff:           http.StatusUnauthorized,
}

// statusError is a refusal with a status that no kind has.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func statusOf(err error) int {
	var se *statusError
	if errors.As(err, &se) {
		return se.status
	}
	if k := store.KindOf(err); int(k) < len(statuses) {
		return statuses[k]
	}
	return http.StatusInternalServerError
}

// textOf is what the client is told: the words of the *store.Error, without what
// was wrapped around them in this process.
func textOf(err error) string {
	var e *store.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

func badRequest(format string, args ...any) error {
	return store.Errorf(store.KindBadRequest, format, args...)
}

// errBodyTooLarge names the limit in the words clients know.
func errBodyTooLarge(size, limit int64, key string) error {
	return store.Errorf(store.KindTooLarge,
		"Request body(%d bytes) too large, max size: %d bytes. See https://developer.hashicorp.com/docs/agent/config/config-files#%s.", size, limit, key)
}

func errNotBuilt(what string) error {
	return store.Errorf(store.KindNotBuilt, "%s is not built yet", what)
}

func errDecode(err error) error {
	return store.Errorf(store.KindBadRequest, "Request decode failed: %w", err)
}

var (
	errUnknownAPI = fmt.Sprintln("Invalid URL path: not a recognized HTTP API endpoint")
	errNoUI       = fmt.Sprintln("Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'")
	errACLOff     = &statusError{http.StatusUnauthorized, "ACL support disabled"}
)
