package federation

import (
	"cmp"
	"slices"
	"time"

	"landbridge/lan/gossip"
)

// Status is the federation as its servers see it, the body of
// /v1/internal/federation. Each server reports its own row; what could not be had
// in time is in Missing, by name.
type Status struct {
	Datacenter   string // of the server that gathered it
	Server       string
	At           time.Time
	Primary      string
	FederationID string
	Certificates string // "built-in" or "operator"
	CertExpires  time.Time
	Datacenters  []DatacenterStatus
	// Matrix has an entry for each ordered pair of datacenters.
	Matrix  []Pair
	Rows    []Row
	Missing []Missing
}

// DatacenterStatus is one datacenter as the server that gathered the status knows it.
type DatacenterStatus struct {
	Name    string
	Servers []ServerStatus
}

// ServerStatus is one server likewise.
type ServerStatus struct {
	Name      string
	Address   string
	Status    string // what gossip says: alive, leaving, left, failed
	Answering bool
	RTT       string `json:",omitempty"`
}

// Row is what one server says about its links to the servers of other datacenters.
type Row struct {
	Server      string
	Datacenter  string
	CertExpires time.Time
	Links       []Link
	Breakers    []Breaker `json:",omitempty"` // those that are not closed
}

// Link is the way from one server to another.
type Link struct {
	To         string
	Datacenter string // of To
	Gossip     string // what gossip says of it
	// Reachable is whether it answered: a call made for this status where Checked
	// is set, else anything in the last minutes.
	Reachable bool
	Checked   bool
	Error     string  `json:",omitempty"` // of that call
	RTT       float64 `json:"RTTSeconds,omitempty"`
	// Loss is the share of packets sent to it that were lost in the last five
	// minutes; absent if there were too few to tell.
	Loss *float64 `json:",omitempty"`
	// Via is the server that calls to it go through, since there is no direct path.
	Via string `json:",omitempty"`
	// LastContact is when something arrived from it by the direct path, or now if it
	// answered a call made for this status.
	LastContact time.Time
	// OneWay is whether it did not answer, and something arrived from it meanwhile:
	// the way there is broken, and the way back is not.
	OneWay bool `json:",omitempty"`
	// Asymmetric is whether the way back is another: reachable in one direction
	// only, or lossy in one direction only.
	Asymmetric bool `json:",omitempty"`
}

// Breaker is why a server does not pass on calls to a datacenter.
type Breaker struct {
	Datacenter string
	State      string // unreachable, leaderless
	Since      time.Time
}

// Missing is a row that could not be had.
type Missing struct {
	Datacenter string
	Server     string `json:",omitempty"` // "": none of the datacenter's
	Error      string
}

// Pair is the way from one datacenter to another: all links of their servers.
type Pair struct {
	From, To         string
	Links, Reachable int
	Unknown          bool     `json:",omitempty"` // no server of From told
	RTT              float64  `json:"RTTSeconds,omitempty"`
	Loss             *float64 `json:",omitempty"`
	LastContact      time.Time
	Via              []string `json:",omitempty"` // the relays of those links that have one
	Breaker          string   `json:",omitempty"` // the worst of those of From's servers
	Asymmetric       bool     `json:",omitempty"`
}

// lossDiffers is from what difference on loss counts as one of direction.
const lossDiffers = 0.05

// Finish fills in what follows from the rows: which links are asymmetric, and the
// matrix of datacenters.
func (s *Status) Finish() {
	slices.SortFunc(s.Rows, func(a, b Row) int { return cmp.Compare(a.Server, b.Server) })
	slices.SortFunc(s.Missing, func(a, b Missing) int {
		return cmp.Or(cmp.Compare(a.Datacenter, b.Datacenter), cmp.Compare(a.Server, b.Server))
	})
	links := map[[2]string]*Link{}
	for i := range s.Rows {
		r := &s.Rows[i]
		slices.SortFunc(r.Links, func(a, b Link) int { return cmp.Compare(a.To, b.To) })
		for j := range r.Links {
			links[[2]string{r.Server, r.Links[j].To}] = &r.Links[j]
		}
	}
	for pair, l := range links {
		l.Asymmetric = l.OneWay
		if back := links[[2]string{pair[1], pair[0]}]; back != nil {
			l.Asymmetric = l.OneWay || back.OneWay || differ(l, back)
		}
	}
	s.matrix()
}

func differ(a, b *Link) bool {
	if a.Reachable != b.Reachable {
		return true
	}
	if a.Loss == nil || b.Loss == nil {
		return false
	}
	return max(*a.Loss-*b.Loss, *b.Loss-*a.Loss) >= lossDiffers
}

func (s *Status) matrix() {
	s.Matrix = nil
	for _, from := range s.Datacenters {
		for _, to := range s.Datacenters {
			if from.Name != to.Name {
				s.Matrix = append(s.Matrix, s.pair(from.Name, to.Name))
			}
		}
	}
}

func (s *Status) pair(from, to string) Pair {
	p := Pair{From: from, To: to, Unknown: true}
	var rtts, losses []float64
	for i := range s.Rows {
		r := &s.Rows[i]
		if r.Datacenter != from {
			continue
		}
		p.Unknown = false
		for _, b := range r.Breakers {
			if b.Datacenter == to && (p.Breaker == "" || b.State == "unreachable") {
				p.Breaker = b.State
			}
		}
		for _, l := range r.Links {
			if l.Datacenter != to {
				continue
			}
			p.Links++
			if l.Reachable {
				p.Reachable++
			}
			if l.RTT > 0 && l.Reachable {
				rtts = append(rtts, l.RTT)
			}
			if l.Loss != nil {
				losses = append(losses, *l.Loss)
			}
			if l.LastContact.After(p.LastContact) {
				p.LastContact = l.LastContact
			}
			p.Asymmetric = p.Asymmetric || l.Asymmetric
			if l.Via != "" && !slices.Contains(p.Via, l.Via) {
				p.Via = append(p.Via, l.Via)
			}
		}
	}
	slices.Sort(p.Via)
	if len(rtts) > 0 {
		slices.Sort(rtts)
		p.RTT = rtts[len(rtts)/2]
	}
	if len(losses) > 0 {
		sum := 0.0
		for _, l := range losses {
			sum += l
		}
		sum /= float64(len(losses))
		p.Loss = &sum
	}
	return p
}

// heardLately is how long ago something may have arrived from a server that counts
// as reachable without having been called.
const heardLately = 2 * time.Minute

// Links returns what this server knows of its ways to the servers of other
// datacenters, without asking anybody.
func (d *Directory) Links() []Link {
	now := time.Now()
	d.sample(now)
	var list []Link
	for name, dc := range d.Snapshot() {
		if name == d.cfg.Datacenter {
			continue
		}
		for _, srv := range dc.Servers {
			if srv.Status == gossip.Left {
				continue
			}
			l := Link{To: srv.Name, Datacenter: name, Gossip: srv.Status.String(), LastContact: d.links.contact(srv.Name)}
			if rtt, ok := d.cfg.Distance(srv.Name); ok {
				l.RTT = rtt.Seconds()
			}
			if loss, ok := d.links.loss(srv.Name, now); ok {
				l.Loss = &loss
			}
			if d.cfg.Via != nil {
				l.Via = d.cfg.Via(srv.Name)
			}
			l.Reachable = d.reachable(srv, l.LastContact, now)
			list = append(list, l)
		}
	}
	return list
}

// reachable is whether a server was heard lately and no call to it failed since.
// One that nobody has a connection to is what gossip says.
func (d *Directory) reachable(srv Server, contact, now time.Time) bool {
	if !d.Answering(srv.Name) {
		return false
	}
	if now.Sub(contact) < heardLately {
		return true
	}
	return srv.Status == gossip.Alive
}

// Heard is when something arrived from a server last.
func (d *Directory) Heard(server string) time.Time {
	d.sample(time.Now())
	return d.links.contact(server)
}

// sample looks at the open connections.
func (d *Directory) sample(now time.Time) {
	if d.cfg.Paths != nil {
		d.links.take(now, d.cfg.Paths())
	}
}
