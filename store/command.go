package store

// CommandKind names a change of state. Numbers are in the Raft log: never
// reused, never changed in meaning. A new one comes with a CommandVersion.
type CommandKind uint16

const (
	CmdCluster     CommandKind = 1  // Cluster: first command of a history
	CmdKV          CommandKind = 2  // KVCommand
	CmdRegister    CommandKind = 3  // RegisterCommand
	CmdDeregister  CommandKind = 4  // DeregisterCommand
	CmdTrust       CommandKind = 5  // TrustCommand
	CmdAutopilot   CommandKind = 6  // AutopilotCommand
	CmdSession     CommandKind = 7  // SessionCommand
	CmdTxn         CommandKind = 8  // TxnCommand
	CmdQuery       CommandKind = 9  // QueryCommand
	CmdCoordinates CommandKind = 10 // CoordinatesCommand; ignorable

	CmdACL          CommandKind = 11 // ACLCommand
	CmdACLBootstrap CommandKind = 12 // ACLBootstrapCommand

	CmdKVReplicate CommandKind = 13 // KVReplicateCommand

	CmdPromotion CommandKind = 14 // PromotionCommand
)

// Command is one change, ready for the log: the payload is already encoded
// (AppendWire of the kind's payload type), so that a leader copies the bytes a
// follower or another datacenter sent. Ignorable commands are skipped by a
// server that does not know their kind; meeting any other unknown kind stops it.
type Command struct {
	Kind      CommandKind
	Ignorable bool
	Payload   []byte
	// UnixNano is the wall clock of the leader when it proposed the command: the
	// time that lock-delays begin and end by. Consensus sets it, one for a batch;
	// nobody who proposes does.
	UnixNano int64
}

// Result is what applying one command gave. Err is a refusal by the state
// machine (the command changed nothing), the same on every server.
type Result struct {
	Index Index // the command's own index
	OK    bool  // CAS and lock outcomes; true for commands that cannot fail
	Err   error // *Error
	// Value is what a command gave beyond OK; only read on the leader that
	// proposed it.
	Value any
}

// Cluster identifies a datacenter's history. The first leader writes it; a
// restore, a recovery or a bootstrap makes a new HistoryID.
type Cluster struct {
	ID        string // UUID, made once
	HistoryID string // UUID
	// Recoveries counts how often an operator made a part of the Raft group the
	// whole of it. Servers that were left out hold a past that a lower count tells
	// from the group's present.
	Recoveries uint64
}

// AutopilotConfig is autopilot's stored configuration (durations in ns).
type AutopilotConfig struct {
	CleanupDeadServers      bool
	LastContactThreshold    int64
	MaxTrailingLogs         uint64
	MinQuorum               uint
	ServerStabilizationTime int64
	CreateIndex             Index
	ModifyIndex             Index
}

// AutopilotCommand is the payload of CmdAutopilot. With CAS it takes effect
// only if the stored ModifyIndex equals Config.ModifyIndex.
type AutopilotCommand struct {
	Config AutopilotConfig
	CAS    bool
}
