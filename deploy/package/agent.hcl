# One agent of this machine, run by landbridge.service. The files of this directory
# that end in .hcl or .json are read in the order of their names; nothing here but
# comments is a client agent that knows nobody. All keys: docs/configuration.md in
# /usr/share/doc/landbridge. Several regions on one machine have a directory each:
# /etc/landbridge/REGION.d, run by landbridge@REGION.service.
#
# datacenter       = "eu"
# server           = true
# bootstrap_expect = 3
# bind_addr        = "{{ GetPrivateIP }}"
# retry_join       = ["10.0.1.10", "10.0.1.11", "10.0.1.12"]
# ports { dns = 53 }
#
# The gossip key is best given as a credential: see landbridge.service.
