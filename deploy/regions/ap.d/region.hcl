# A server of ap. The same file on each of its servers.
datacenter       = "ap"
server           = true
bootstrap_expect = 1
bind_addr        = "{{ GetInterfaceIP \"host0\" }}"
ports {
  dns = 53
}
