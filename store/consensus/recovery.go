package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"landbridge/store/raftlog"
)

// Files in the raft folder.
const (
	peersJSON    = "peers.json"    // what an operator wants the group to be, once
	peersInfo    = "peers.info"    // the group in the form that peers.json needs
	recoveryFile = "recovery.json" // there from a recovery until a leader wrote it into the state
)

// peer is an element of peers.json and peers.info.
type peer struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	NonVoter bool   `json:"non_voter"`
}

// recoveryNote is the content of recoveryFile.
type recoveryNote struct {
	Recoveries uint64 `json:"recoveries"`
}

// Standing is what stores hold of a group, seen without taking part in it.
type Standing struct {
	Servers             []Server // the latest configuration, committed or not
	LastIndex, LastTerm uint64   // of the log, or of the snapshot if it ends later
}

// Inspect looks into stores that no Node uses.
func Inspect(st *raftlog.Stores) (*Standing, error) {
	metas, err := st.Snapshots.List()
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	s := new(Standing)
	var conf raft.Configuration
	if len(metas) > 0 {
		s.LastIndex, s.LastTerm, conf = metas[0].Index, metas[0].Term, metas[0].Configuration
	}
	first, err := st.Log.FirstIndex()
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	last, err := st.Log.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	// What the log holds up to the snapshot is in the snapshot.
	for i, floor := last, max(s.LastIndex, first-min(first, 1)); i > floor; i-- {
		var l raft.Log
		if err := st.Log.GetLog(i, &l); err != nil {
			return nil, fmt.Errorf("consensus: log entry %d: %w", i, err)
		}
		if i == last {
			s.LastIndex, s.LastTerm = l.Index, l.Term
		}
		if l.Type == raft.LogConfiguration {
			conf = raft.DecodeConfiguration(l.Data)
			break
		}
	}
	s.Servers = serversOf(conf)
	return s, nil
}

func serversOf(conf raft.Configuration) []Server {
	servers := make([]Server, len(conf.Servers))
	for i, s := range conf.Servers {
		servers[i] = Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter}
	}
	return servers
}

func configurationOf(servers []Server) (conf raft.Configuration) {
	for _, s := range servers {
		suffrage := raft.Nonvoter
		if s.Voter {
			suffrage = raft.Voter
		}
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)})
	}
	return conf
}

// Recover makes servers the whole Raft group: all that is in this server's log
// counts as committed, and nobody else has a vote. It is for a group whose majority
// is lost for good, on stores that no Node uses; of cfg it needs NodeID, FSM, Stores
// and Recoveries. The FSM holds the state afterwards. What the lost majority
// acknowledged and this server had not received is gone.
func Recover(cfg Config, servers []Server) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Snapshots = cfg.Snapshots.withDefaults()
	st := cfg.Stores
	trans := cfg.Transport
	if trans == nil {
		_, trans = raft.NewInmemTransport("") // only to spell addresses
	}
	if err := raft.RecoverCluster(cfg.raftConfig(), cfg.FSM, st.Log, st.Stable, st.Snapshots, trans, configurationOf(servers)); err != nil {
		return fmt.Errorf("consensus: recovery: %w", err)
	}
	if dir := st.Dir(); dir != "" && cfg.Recoveries != nil {
		// The next leader counts it. Until then the file does, so that servers that
		// were left out can tell; recovering once more changes nothing.
		_, marked := st.Cluster()
		note, err := json.Marshal(recoveryNote{max(cfg.Recoveries(), marked, st.Overruled()) + 1})
		if err == nil {
			err = raftlog.WriteFile(filepath.Join(dir, recoveryFile), append(note, '\n'))
		}
		if err != nil {
			return fmt.Errorf("consensus: the recovery is done, but cannot be counted: %w", err)
		}
	}
	if err := st.Overrule(0); err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	return WritePeersInfo(st, servers)
}

// RecoveryDue is the count of recoveries that the state has to reach: the next
// leader writes it. 0: there was no recovery that is not in the state.
func (n *Node) RecoveryDue() uint64 { return n.recoveryDue.Load() }

// RecoveryDone says that the state has reached RecoveryDue.
func (n *Node) RecoveryDone() error {
	if n.recoveryDue.Load() == 0 {
		return nil
	}
	if dir := n.cfg.Stores.Dir(); dir != "" {
		if err := os.Remove(filepath.Join(dir, recoveryFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("consensus: %w", err)
		}
	}
	n.recoveryDue.Store(0)
	return nil
}

// recover applies raft/peers.json: an operator who lost the majority writes
// into it who is left. The file is removed so that it acts once.
func (n *Node) recover() error {
	dir := n.cfg.Stores.Dir()
	if dir == "" {
		return nil
	}
	path := filepath.Join(dir, peersJSON)
	if _, err := os.Stat(path); err == nil {
		conf, err := raft.ReadConfigJSON(path)
		if err != nil {
			return fmt.Errorf("consensus: recovery: %s: %w", path, err)
		}
		n.logger.Warn("recovering the Raft group from a peers file", "file", path, "servers", len(conf.Servers))
		cfg := n.cfg
		cfg.Transport = n.transport
		// The state machine may be used again: Raft restores it, as a whole, from
		// the snapshot that this makes.
		if err := Recover(cfg, serversOf(conf)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("consensus: recovery is done, but its file would act again: %w", err)
		}
		n.logger.Warn("recovered the Raft group; removed the peers file", "file", path)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("consensus: recovery: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, recoveryFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var note recoveryNote
	if err == nil {
		err = json.Unmarshal(b, &note)
	}
	if err != nil {
		return fmt.Errorf("consensus: recovery: %s: %w", filepath.Join(dir, recoveryFile), err)
	}
	n.recoveryDue.Store(note.Recoveries)
	return nil
}

// WritePeersInfo keeps raft/peers.info: the group in the form that peers.json
// needs, for whoever must write one in a hurry.
func WritePeersInfo(st *raftlog.Stores, servers []Server) error {
	dir := st.Dir()
	if dir == "" {
		return nil
	}
	peers := []peer{}
	for _, s := range servers {
		peers = append(peers, peer{ID: s.ID, Address: s.Address, NonVoter: !s.Voter})
	}
	b, err := json.MarshalIndent(peers, "", "  ")
	if err == nil {
		err = raftlog.WriteFile(filepath.Join(dir, peersInfo), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("consensus: list of Raft servers: %w", err)
	}
	return nil
}
