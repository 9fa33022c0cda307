package trust

import (
	"landbridge/store"
	"landbridge/store/state"
)

// StateOf reads a datacenter's state store.
func StateOf(st *state.Store) State { return storeState{st} }

type storeState struct{ st *state.Store }

func (s storeState) Trust() *store.Trust {
	_, rec := s.st.Trust(nil)
	return rec
}

func (s storeState) ClusterID() string { return s.st.ClusterID() }

func (s storeState) Cluster() store.Cluster { return s.st.Cluster() }

func (s storeState) ACLReplica() store.ACLReplica { return s.st.ACLReplica() }

func (s storeState) Index() store.Index { return s.st.Index() }

func (s storeState) Watch() Watch { return &storeWatch{s.st, s.st.NewWatch()} }

type storeWatch struct {
	st *state.Store
	w  *state.Watch
}

func (w *storeWatch) Trust() *store.Trust {
	_, rec := w.st.Trust(w.w)
	return rec
}

func (w *storeWatch) C() <-chan struct{} { return w.w.C() }
func (w *storeWatch) Close()             { w.w.Close() }
