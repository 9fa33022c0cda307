package store

import (
	"encoding/json"
	"strings"
)

// Prepare sets the defaults of a registration and refuses what is wrong with it
// whatever the catalog holds (spec http-catalog-health 2). The leader calls it
// before a command goes to the log, and the state machine again when it comes
// back. Errors are of KindInvalid.
func (c *RegisterCommand) Prepare() error {
	n := &c.Node
	if n.Node == "" {
		return Errorf(KindInvalid, "Must provide node")
	}
	if n.Address == "" && !c.SkipNodeUpdate {
		return Errorf(KindInvalid, "Must provide address if SkipNodeUpdate is not set")
	}
	if err := n.prepare(); err != nil {
		return err
	}
	if s := c.Service; s != nil {
		if err := s.prepare(); err != nil {
			return err
		}
	}
	for _, check := range c.Checks {
		if err := check.prepare(n.Node); err != nil {
			return err
		}
	}
	return nil
}

// prepare refuses a name that the catalog cannot keep and an id that is no UUID.
func (n *Node) prepare() error {
	if strings.ContainsRune(n.Node, 0) {
		return Errorf(KindInvalid, "node name %q must not contain a zero byte", n.Node)
	}
	if n.ID != "" {
		if err := checkUUID(n.ID); err != nil {
			return Errorf(KindInvalid, "Bad node ID: %w", err)
		}
		n.ID = strings.ToLower(n.ID)
	}
	return nil
}

func (s *Service) prepare() error {
	if s.Name == "" {
		if s.ID != "" {
			return Errorf(KindInvalid, "Must provide service name (Service.Service) when service ID is provided")
		}
		return Errorf(KindInvalid, "Must provide service name (Service.Service)")
	}
	if s.ID == "" {
		s.ID = s.Name
	}
	// Rows show these blocks as they are: anything but JSON would break every
	// answer the row is part of.
	for _, block := range [...]json.RawMessage{s.Proxy, s.Connect, s.Locality} {
		if len(block) > 0 && !json.Valid(block) {
			return Errorf(KindInvalid, "a block of service %q is not JSON", s.ID)
		}
	}
	if s.Weights == (Weights{}) {
		s.Weights = Weights{Passing: 1, Warning: 1}
	}
	return nil
}

func (c *Check) prepare(node string) error {
	if c.Node == "" {
		c.Node = node
	}
	if c.CheckID == "" {
		c.CheckID = c.Name
	}
	// Lower case, not strings.EqualFold: it must agree with the catalog's keys.
	if own := strings.ToLower(c.Node); own != strings.ToLower(node) {
		return Errorf(KindInvalid, "Node '%s' for check '%s' doesn't match register request node '%s'", c.Node, c.CheckID, node)
	}
	if c.CheckID == "" {
		return Errorf(KindInvalid, "failed inserting check on node %q: neither CheckID nor Name is set", node)
	}
	if len(c.Definition) > 0 && !json.Valid(c.Definition) {
		return Errorf(KindInvalid, "the definition of check %q is not JSON", c.CheckID)
	}
	if c.Status == "" {
		c.Status = Critical
	}
	return nil
}

// checkUUID says what is wrong with the text of a UUID.
func checkUUID(s string) error {
	if len(s) != 36 {
		return errUUIDLength
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return errUUIDForm
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return errUUIDForm
		}
	}
	return nil
}

var (
	errUUIDLength = Errorf(KindInvalid, "uuid string is wrong length")
	errUUIDForm   = Errorf(KindInvalid, "uuid is improperly formatted")
)
