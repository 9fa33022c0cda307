// Package aclreplication is the place of one-way replication of ACLs from the
// primary datacenter (docs: DESIGN "ACL replication"). It is not built yet: with
// acl.enabled an agent refuses to start, so nothing depends on it.
package aclreplication
