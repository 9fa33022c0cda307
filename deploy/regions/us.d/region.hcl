# A server of us. The same file on each of its servers.
datacenter       = "us"
server           = true
bootstrap_expect = 1
bind_addr        = "{{ GetInterfaceIP \"host0\" }}"
ports {
  dns = 53
}
