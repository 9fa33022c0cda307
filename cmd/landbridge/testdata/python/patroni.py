"""A member of a cluster of Patroni without its PostgreSQL: Patroni's own code of
its Consul store, called as its loop calls it.

patroni.py NAME AGENT API: the name of the member, the address of its agent and
the URL of what answers its health checks. Each change of role is a line of output;
SIGTERM hands the leadership over and ends it.
"""

import logging
import signal
import sys

sys.path.pop(0)  # this file has the name of the package
from patroni.dcs import get_dcs  # noqa: E402

name, agent, api = sys.argv[1:4]
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
dcs = get_dcs({
    "scope": "batman", "name": name, "ttl": 20, "loop_wait": 1, "retry_timeout": 10,
    "consul": {"host": agent, "port": 8500, "register_service": True, "service_check_interval": "1s"},
})
stopped = False


def stop(*_):
    global stopped
    stopped = True
    dcs.event.set()


signal.signal(signal.SIGTERM, stop)
if dcs.initialize(create_new=True, sysid="7000000000000000001"):
    print("initialized", flush=True)
lsn, said, role = 0, None, "replica"
while not stopped:
    cluster = dcs.get_cluster()
    if cluster.is_unlocked():
        role = "master" if dcs.attempt_to_acquire_leader() else "replica"
    elif cluster.leader.name == name:
        lsn += 1
        role = "master" if dcs.update_leader(lsn) else "replica"
    else:
        role = "replica"
    dcs.touch_member({
        "role": role, "state": "running", "api_url": api, "conn_url": "postgres://%s:5432/postgres" % agent,
        "xlog_location": lsn, "timeline": 1, "version": "3.0.2",
    })
    if role != said:
        print(role, flush=True)
        said = role
    follows = role == "replica" and cluster.leader
    dcs.watch(cluster.leader.index if follows else None, dcs.loop_wait)
if role == "master":
    dcs.get_cluster()
    dcs.delete_leader(lsn)
