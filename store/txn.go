package store

import "iter"

// MaxTxnOps bounds the operations of a transaction.
const MaxTxnOps = 128

// TxnVerb is what an operation of a transaction does. Which verbs an operation
// may have depends on the record it names; words are on disk and on the wire.
type TxnVerb string

// The verbs of keys; those of nodes, services and checks are set, cas, get,
// delete and delete-cas (spec http-kv-txn-session 2).
const (
	TxnSet            TxnVerb = "set"
	TxnCAS            TxnVerb = "cas"
	TxnGet            TxnVerb = "get"
	TxnDelete         TxnVerb = "delete"
	TxnDeleteCAS      TxnVerb = "delete-cas"
	TxnLock           TxnVerb = "lock"
	TxnUnlock         TxnVerb = "unlock"
	TxnGetOrEmpty     TxnVerb = "get-or-empty"
	TxnGetTree        TxnVerb = "get-tree"
	TxnCheckIndex     TxnVerb = "check-index"
	TxnCheckSession   TxnVerb = "check-session"
	TxnCheckNotExists TxnVerb = "check-not-exists"
	TxnDeleteTree     TxnVerb = "delete-tree"
)

// TxnOp is one operation, on exactly one of KV, Node, Service and Check. The
// record's ModifyIndex is the index that cas, delete-cas and check-index compare;
// Service.Node names the node.
type TxnOp struct {
	Verb    TxnVerb
	KV      *KVEntry
	Node    *Node
	Service *Service
	Check   *Check
}

// TxnCommand is the payload of CmdTxn: all operations in their order, or none of
// them. Its Result has the *TxnOutcome as Value; OK is whether it was applied.
type TxnCommand struct {
	Ops []TxnOp
}

// TxnResult is one entry of a transaction's answer: exactly one of its records,
// as it was when its operation had been done.
type TxnResult struct {
	KV        *KVEntry
	WithValue bool // KV is shown with its value
	Node      *Node
	Service   *Service
	Check     *Check
	// Tree stands for one entry with value for each key of a get-tree. It may be
	// read after the transaction, and at any time shows the keys as they were in it.
	Tree iter.Seq[*KVEntry]
}

// TxnError says why an operation failed.
type TxnError struct {
	OpIndex int
	What    string
}

// TxnOutcome is what a transaction gave. With Errors nothing was applied, and
// Results are without meaning.
type TxnOutcome struct {
	Results []TxnResult
	Errors  []TxnError
}

// CheckSize refuses a transaction of too many operations, with KindTooLarge.
func (c *TxnCommand) CheckSize() error {
	if len(c.Ops) > MaxTxnOps {
		return Errorf(KindTooLarge, "Transaction contains too many operations (%d > %d)", len(c.Ops), MaxTxnOps)
	}
	return nil
}

// ReadOnly reports whether no operation can change anything, so that the
// transaction needs no log. A verb that is not known does nothing either.
func (c *TxnCommand) ReadOnly() bool {
	for i := range c.Ops {
		if c.Ops[i].Writes() {
			return false
		}
	}
	return true
}

// Writes reports whether the operation may change something.
func (op *TxnOp) Writes() bool {
	switch op.Verb {
	case TxnSet, TxnCAS, TxnDelete, TxnDeleteCAS:
		return true
	case TxnLock, TxnUnlock, TxnDeleteTree:
		return op.KV != nil
	}
	return false
}

// Prepare sets the defaults of all operations and returns what is wrong with each
// of them whatever the state holds. The leader calls it before a transaction goes
// to the log, and the state machine again when it comes back.
func (c *TxnCommand) Prepare() []TxnError {
	var errs []TxnError
	for i := range c.Ops {
		if err := c.Ops[i].prepare(); err != nil {
			errs = append(errs, TxnError{i, err.Error()})
		}
	}
	return errs
}

func (op *TxnOp) prepare() error {
	n := 0
	for _, there := range [...]bool{op.KV != nil, op.Node != nil, op.Service != nil, op.Check != nil} {
		if there {
			n++
		}
	}
	switch {
	case n != 1:
		return Errorf(KindInvalid, "an operation must have exactly one of KV, Node, Service and Check")
	case op.KV != nil:
		return op.prepareKV()
	case op.Node != nil:
		return op.prepareNode()
	case op.Service != nil:
		return op.prepareService()
	}
	return op.prepareCheck()
}

func (op *TxnOp) prepareKV() error {
	switch op.Verb {
	case TxnGetTree, TxnDeleteTree:
		return nil // the empty key is the prefix of all
	case TxnSet, TxnCAS, TxnGet, TxnDelete, TxnDeleteCAS, TxnLock, TxnUnlock, TxnGetOrEmpty,
		TxnCheckIndex, TxnCheckSession, TxnCheckNotExists:
	default:
		return Errorf(KindInvalid, "unknown KV operation: %s", op.Verb)
	}
	if op.KV.Key == "" {
		return Errorf(KindInvalid, "Must provide key")
	}
	return nil
}

// catalogVerb refuses the verbs that only keys have.
func (op *TxnOp) catalogVerb(what string) error {
	switch op.Verb {
	case TxnSet, TxnCAS, TxnGet, TxnDelete, TxnDeleteCAS:
		return nil
	}
	return Errorf(KindInvalid, "unknown %s operation: %s", what, op.Verb)
}

func (op *TxnOp) prepareNode() error {
	if err := op.catalogVerb("Node"); err != nil {
		return err
	}
	n := op.Node
	if n.Node == "" && (op.Verb != TxnGet || n.ID == "") {
		return Errorf(KindInvalid, "Must provide node")
	}
	return n.prepare()
}

func (op *TxnOp) prepareService() error {
	if err := op.catalogVerb("Service"); err != nil {
		return err
	}
	if op.Service.Node == "" {
		return Errorf(KindInvalid, "Must provide node")
	}
	return op.Service.prepare()
}

func (op *TxnOp) prepareCheck() error {
	if err := op.catalogVerb("Check"); err != nil {
		return err
	}
	if op.Check.Node == "" {
		return Errorf(KindInvalid, "Must provide node")
	}
	return op.Check.prepare(op.Check.Node)
}
