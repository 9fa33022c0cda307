package httpapi

import (
	"encoding/json"
	"errors"
	"time"
)

// duration is a time.Duration as bodies carry it: a string with a unit, or a
// number of nanoseconds. It is written as a string.
type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		if s == "" {
			return nil
		}
		v, err := time.ParseDuration(s)
		*d = duration(v)
		return err
	}
	var n int64
	if err := json.Unmarshal(b, &n); err != nil {
		return errors.New("a duration is a string with a unit, or a number of nanoseconds")
	}
	*d = duration(n)
	return nil
}

func (d duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// definitionBody is how a check registered in the catalog is run by whoever
// watches it. Members that are zero are not kept.
type definitionBody struct {
	Interval                       duration            `json:",omitzero"`
	Timeout                        duration            `json:",omitzero"`
	DeregisterCriticalServiceAfter duration            `json:",omitzero"`
	HTTP                           string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty"`
	UDP                            string              `json:",omitempty"`
	H2PING                         string              `json:",omitempty"`
	H2PingUseTLS                   bool                `json:",omitempty"`
	GRPC                           string              `json:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty"`
	OSService                      string              `json:",omitempty"`
	ScriptArgs                     []string            `json:",omitempty"`
	DockerContainerID              string              `json:",omitempty"`
	Shell                          string              `json:",omitempty"`
	AliasNode                      string              `json:",omitempty"`
	AliasService                   string              `json:",omitempty"`
	TTL                            duration            `json:",omitzero"`
	OutputMaxSize                  int                 `json:",omitempty"`
}

// kind is the check's type, told from what it would run.
func (d *definitionBody) kind() string {
	switch {
	case d.DockerContainerID != "":
		return "docker"
	case len(d.ScriptArgs) > 0:
		return "script"
	case d.HTTP != "":
		return "http"
	case d.TCP != "":
		return "tcp"
	case d.UDP != "":
		return "udp"
	case d.GRPC != "":
		return "grpc"
	case d.H2PING != "":
		return "h2ping"
	case d.AliasNode != "", d.AliasService != "":
		return "alias"
	case d.OSService != "":
		return "os_service"
	case d.TTL > 0:
		return "ttl"
	}
	return ""
}
