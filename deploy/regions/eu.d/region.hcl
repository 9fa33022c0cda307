# A server of eu. The same file on each of its servers.
datacenter       = "eu"
server           = true
bootstrap_expect = 3
bind_addr        = "{{ GetInterfaceIP \"host0\" }}"
retry_join       = ["10.77.1.11", "10.77.1.12", "10.77.1.13"]
ports {
  dns = 53
}
