package node

import (
	"landbridge/forwarding/endpoint"
	"landbridge/store/archive"
)

// snapshots is what saving and restoring the state needs of this server.
func (s *server) snapshots() endpoint.Snapshots {
	return endpoint.Snapshots{
		Describe: func(m *archive.Meta) {
			servers, index := s.raft.Configuration()
			m.ConfigurationIndex = index
			m.Configuration.Servers = make([]archive.Server, len(servers))
			for i, srv := range servers {
				m.Configuration.Servers[i] = archive.Server{ID: srv.ID, Address: srv.Address}
				if !srv.Voter {
					m.Configuration.Servers[i].Suffrage = 1
				}
			}
		},
		Term:    func() uint64 { return s.status().LastTerm },
		Restore: s.raft.Restore,
		NewID:   newUUID,
		Dir:     s.n.cfg.DataDir,
		Restored: func() {
			// The catalog is another one: look at all members again.
			select {
			case s.n.membersChanged <- struct{}{}:
			default:
			}
		},
	}
}
