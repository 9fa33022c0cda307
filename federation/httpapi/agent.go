package httpapi

import (
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"landbridge/store"
	"landbridge/store/acl"
)

func (c *call) agentSelf() error {
	self, err := c.s.cfg.Agent.Self(c.r.Context())
	if err != nil {
		return err
	}
	return c.encode(http.StatusOK, self)
}

func (c *call) agentVersion() error {
	v := c.s.cfg.Version
	built := v.BuildDate
	if built.IsZero() {
		built = time.Unix(1, 0)
	}
	return c.encode(http.StatusOK, struct {
		SHA          string
		BuildDate    string
		HumanVersion string
		FIPS         string
		Release      string
	}{v.SHA, built.UTC().Format(time.RFC3339), v.HumanVersion, "", v.Release})
}

func (c *call) agentMembers() error {
	if s := c.p.segment; s != "" && s != "_all" {
		return store.Errorf(store.KindInvalid, "Network segments are not supported in this version of Consul")
	}
	members, err := c.s.cfg.Agent.Members(c.r.Context(), c.p.wan != "")
	if err != nil {
		return err
	}
	if c.who != nil {
		all := len(members)
		members = slices.DeleteFunc(members, func(m Member) bool { return !c.who.May(acl.Node, memberNode(m, c.p.wan != ""), acl.Read) })
		c.hides(len(members) < all)
	}
	return c.encode(http.StatusOK, members)
}

// memberNode is the name of a member's node: in the WAN, members have the name of
// their datacenter behind it.
func memberNode(m Member, wan bool) string {
	if wan {
		return strings.TrimSuffix(m.Name, "."+m.Tags["dc"])
	}
	return m.Name
}

func (c *call) agentJoin() error {
	if c.rest == "" {
		return badRequest("Missing address")
	}
	if err := c.s.cfg.Agent.Join(c.r.Context(), c.rest, c.p.wan != ""); err != nil {
		return err
	}
	return c.done()
}

func (c *call) agentLeave() error {
	if err := c.s.cfg.Agent.Leave(c.r.Context()); err != nil {
		return err
	}
	return c.done()
}

func (c *call) agentForceLeave() error {
	if c.rest == "" {
		return badRequest("Missing node name")
	}
	if err := c.s.cfg.Agent.ForceLeave(c.r.Context(), c.rest, c.p.has(fPrune), c.p.wan != ""); err != nil {
		return err
	}
	return c.done()
}

func (c *call) agentHost() error {
	v, err := c.s.cfg.Agent.Host(c.r.Context())
	if err != nil {
		return err
	}
	return c.encode(http.StatusOK, v)
}

func (c *call) agentReload() error {
	if err := c.s.cfg.Agent.Reload(c.r.Context()); err != nil {
		return err
	}
	return c.done()
}

// agentMetrics answers in Prometheus' form when asked for it by name or by a
// scraper's Accept header, else in JSON.
func (c *call) agentMetrics() error {
	wanted := c.p.format == "prometheus"
	for _, v := range c.r.Header["Accept"] {
		wanted = wanted || strings.Contains(v, "application/openmetrics-text")
	}
	if wanted {
		if c.s.cfg.Gatherer == nil {
			return store.Errorf(store.KindInternal, "this agent keeps no metrics")
		}
		c.s.metrics.show(c)
		return nil
	}
	body, err := c.s.cfg.Agent.MetricsJSON(c.r.Context())
	if err != nil {
		return err
	}
	c.json(http.StatusOK, body)
	return nil
}

// agentMetricsStream writes a line whenever an interval of metrics ends, until the
// client has had enough.
func (c *call) agentMetricsStream() error {
	if _, err := c.s.cfg.Agent.MetricsJSON(c.r.Context()); err != nil {
		return err // there are none to wait for
	}
	out := http.NewResponseController(c.w)
	c.w.Header()[hType] = typeJSON
	c.w.WriteHeader(http.StatusOK)
	err := out.Flush()
	if err == nil {
		err = c.s.cfg.Agent.MetricsFollow(c.r.Context(), func(line []byte) error {
			if err := c.guarded(c.ep.guard); err != nil {
				return err // the token is gone
			}
			if _, err := c.w.Write(line); err != nil {
				return err
			}
			return out.Flush()
		})
	}
	c.lost(err)
	return nil
}

var logLevels = map[string]slog.Level{
	"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warn": slog.LevelWarn, "err": slog.LevelError, "error": slog.LevelError,
}

// guardAgain is how often a stream is asked whether it may go on.
const guardAgain = 5 * time.Second

// agentMonitor streams the log until the client has had enough.
func (c *call) agentMonitor() error {
	level := slog.LevelInfo
	if c.p.loglevel != "" {
		l, ok := logLevels[strings.ToLower(c.p.loglevel)]
		if !ok {
			return badRequest("Unknown log level: %s", c.p.loglevel)
		}
		level = l
	}
	if c.s.cfg.LogStream == nil {
		return store.Errorf(store.KindInternal, "this agent does not offer its log")
	}
	lines, cancel := c.s.cfg.LogStream.Follow(level, c.p.has(fLogJSON))
	defer cancel()
	h := c.w.Header()
	h[hType] = typeError
	h["X-Content-Type-Options"] = nosniff
	c.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(c.w)
	if err := out.Flush(); err != nil {
		c.lost(err)
		return nil
	}
	again := time.NewTicker(guardAgain)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if err := c.guarded(c.ep.guard); err != nil {
				return nil // the token is gone, and with it the right to read on
			}
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			if _, err := c.w.Write(line); err != nil {
				return nil
			}
			if len(line) == 0 || line[len(line)-1] != '\n' {
				if _, err := c.w.Write([]byte{'\n'}); err != nil {
					return nil
				}
			}
			if err := out.Flush(); err != nil {
				return nil
			}
		case <-c.r.Context().Done():
			return nil
		}
	}
}

// enabled reads ?enable of the maintenance endpoints.
func (c *call) enabled() (bool, error) {
	if c.p.enable == "" {
		return false, badRequest("Missing value for enable")
	}
	v, err := strconv.ParseBool(c.p.enable)
	if err != nil {
		return false, badRequest("Invalid value for enable: %q", c.p.enable)
	}
	return v, nil
}

func (c *call) agentMaintenance() error {
	on, err := c.enabled()
	if err != nil {
		return err
	}
	if on {
		err = c.s.cfg.Local.EnableNodeMaintenance(c.r.Context(), c.p.reason)
	} else {
		err = c.s.cfg.Local.DisableNodeMaintenance(c.r.Context())
	}
	if err != nil {
		return err
	}
	return c.done()
}
