"""python-consul, as Debian's python3-consul has it, against real agents.

client.py SERVER CLIENT REMOTE: the addresses of a server and a client agent of
dc1, and of a server of dc2, all with the default ports.

The library is of 2017. It changes checks and deregisters by GET, which agents
refuse since 1.0; it then returns False. Programs that use it call its PUT.
"""

import sys
import threading
import time
import unittest
import uuid

import consul
from consul.base import CB

SERVER, CLIENT, REMOTE = sys.argv[1:4]


def through(ip):
    return consul.Consul(host=ip)


def update(c, path, **params):
    """An agent's PUT without a body, in the words of the library."""
    return c.http.put(CB.bool(), path, params=params)


class Blocked:
    """A call that waits in a thread."""

    def __init__(self, call):
        self.thread = threading.Thread(target=self.run, args=(call,), daemon=True)
        self.began = time.monotonic()
        self.thread.start()

    def run(self, call):
        try:
            self.value = call()
        except Exception as e:  # is raised in the thread that asks
            self.error = e

    def result(self, within=10):
        self.thread.join(within)
        if self.thread.is_alive():
            raise AssertionError("still blocked after %d s" % within)
        if hasattr(self, "error"):
            raise self.error
        return self.value


def follow(query, cond, within=15):
    """Blocks on a query until what it returns meets the condition."""
    index, end = None, time.monotonic() + within
    while True:
        index, data = query(index=index, wait="5s")
        if cond(data):
            return data
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %r" % (within, data))


class Case(unittest.TestCase):
    def each(self):
        for name, ip in (("server", SERVER), ("client", CLIENT)):
            with self.subTest(agent=name):
                yield through(ip), "py/%s/%s/" % (name, uuid.uuid4())


class KV(Case):
    def test_values(self):
        for c, at in self.each():
            self.assertIsNone(c.kv.get(at + "none")[1])
            self.assertTrue(c.kv.put(at + "a", "text"))
            self.assertTrue(c.kv.put(at + "b", b"\x00\xff", flags=2**64 - 1))
            self.assertTrue(c.kv.put(at + "empty", ""))
            index, pair = c.kv.get(at + "a")
            self.assertEqual(b"text", pair["Value"])
            self.assertEqual(at + "a", pair["Key"])
            self.assertGreaterEqual(int(index), pair["ModifyIndex"])
            self.assertEqual((b"\x00\xff", 2**64 - 1), (c.kv.get(at + "b")[1]["Value"], c.kv.get(at + "b")[1]["Flags"]))
            self.assertIsNone(c.kv.get(at + "empty")[1]["Value"])
            self.assertEqual([at + "a", at + "b", at + "empty"], [p["Key"] for p in c.kv.get(at, recurse=True)[1]])
            c.kv.put(at + "dir/c", "x")
            self.assertEqual([at + "a", at + "b", at + "dir/", at + "empty"], c.kv.get(at, keys=True, separator="/")[1])
            for mode in ("default", "consistent", "stale"):
                self.assertEqual(b"text", c.kv.get(at + "a", consistency=mode)[1]["Value"])

    def test_compare_and_set(self):
        for c, at in self.each():
            self.assertTrue(c.kv.put(at + "k", "1", cas=0))
            self.assertFalse(c.kv.put(at + "k", "2", cas=0))
            found = c.kv.get(at + "k")[1]["ModifyIndex"]
            self.assertTrue(c.kv.put(at + "k", "2", cas=found))
            self.assertFalse(c.kv.delete(at + "k", cas=found))
            self.assertEqual(b"2", c.kv.get(at + "k")[1]["Value"])
            self.assertTrue(c.kv.delete(at + "k", cas=c.kv.get(at + "k")[1]["ModifyIndex"]))
            c.kv.put(at + "t/1", "x")
            c.kv.put(at + "t/2", "x")
            self.assertTrue(c.kv.delete(at + "t/", recurse=True))
            self.assertIsNone(c.kv.get(at, recurse=True)[1])

    def test_other_datacenter(self):
        for c, at in self.each():
            self.assertTrue(c.kv.put(at + "far", "there", dc="dc2"))
            self.assertIsNone(c.kv.get(at + "far")[1])
            self.assertEqual(b"there", c.kv.get(at + "far", dc="dc2")[1]["Value"])
            self.assertEqual(b"there", through(REMOTE).kv.get(at + "far")[1]["Value"])
            self.assertEqual(b"there", consul.Consul(host=SERVER, dc="dc2").kv.get(at + "far")[1]["Value"])
            with self.assertRaises(consul.ConsulException) as got:
                c.kv.get(at + "far", dc="dc9")
            self.assertIn("No path to datacenter", str(got.exception))

    def test_blocking(self):
        for c, at in self.each():
            index, _ = c.kv.get(at + "k")
            waits = Blocked(lambda: c.kv.get(at + "k", index=index, wait="30s"))
            far_index, _ = c.kv.get(at + "k", dc="dc2")
            far = Blocked(lambda: c.kv.get(at + "k", index=far_index, wait="30s", dc="dc2"))
            through(SERVER).kv.put(at + "k", "new")
            self.assertEqual(b"new", waits.result()[1]["Value"])
            self.assertGreater(int(waits.value[0]), int(index))
            through(REMOTE).kv.put(at + "k", "far")
            self.assertEqual(b"far", far.result()[1]["Value"])
            began = time.monotonic()
            index, pair = c.kv.get(at + "k")
            self.assertEqual(index, c.kv.get(at + "k", index=index, wait="200ms")[0])
            self.assertGreaterEqual(time.monotonic() - began, 0.2)


class Session(Case):
    def test_lock(self):
        for c, at in self.each():
            mine = c.session.create(name="mine", ttl=10, behavior="delete", lock_delay=0)
            other = c.session.create(name="other", lock_delay=0)
            self.assertTrue(c.kv.put(at + "lock", "me", acquire=mine))
            self.assertFalse(c.kv.put(at + "lock", "you", acquire=other))
            pair = c.kv.get(at + "lock")[1]
            self.assertEqual((mine, 1, b"me"), (pair["Session"], pair["LockIndex"], pair["Value"]))
            self.assertEqual("mine", c.session.info(mine)[1]["Name"])
            self.assertIn(mine, [s["ID"] for s in c.session.list()[1]])
            self.assertIn(mine, [s["ID"] for s in c.session.node(c.session.info(mine)[1]["Node"])[1]])
            self.assertEqual("10s", c.session.renew(mine)["TTL"])
            self.assertFalse(c.kv.put(at + "lock", "x", release=other))
            waits = Blocked(lambda: follow(lambda **q: c.kv.get(at + "lock", **q), lambda p: p is None))
            self.assertTrue(c.session.destroy(mine))  # which deletes the key
            waits.result(20)
            self.assertTrue(c.kv.put(at + "lock", "you", acquire=other))
            self.assertTrue(c.kv.put(at + "lock", "you", release=other))
            self.assertTrue(c.session.destroy(other))
            with self.assertRaises(consul.NotFound):
                c.session.renew(mine)

    def test_other_datacenter(self):
        for c, at in self.each():
            s = c.session.create(name="far", node="dc2-s1", dc="dc2", ttl=60)
            self.assertTrue(c.kv.put(at + "lock", "me", acquire=s, dc="dc2"))
            self.assertEqual(s, through(REMOTE).kv.get(at + "lock")[1]["Session"])
            self.assertIsNone(c.session.info(s)[1])
            self.assertEqual("dc2-s1", c.session.info(s, dc="dc2")[1]["Node"])
            self.assertTrue(c.session.destroy(s, dc="dc2"))

    def test_unknown_node(self):
        for c, _ in self.each():
            with self.assertRaises(consul.ConsulException):
                c.session.create(node="nobody")


class Agent(Case):
    def test_service_with_ttl_check(self):
        for c, at in self.each():
            name = "py-" + at.split("/")[1]
            self.assertTrue(c.agent.service.register(name, service_id=name + "-1", port=8080, tags=["v1", "blue"], check=consul.Check.ttl("1h")))
            self.assertEqual((8080, ["v1", "blue"]), (c.agent.services()[name + "-1"]["Port"], c.agent.services()[name + "-1"]["Tags"]))
            check = "service:%s-1" % name
            self.assertEqual("critical", c.agent.checks()[check]["Status"])

            def health(ip, **where):
                return lambda **q: through(ip).health.service(name, **dict(q, **where))

            follow(health(SERVER), lambda l: [i["Service"]["ID"] for i in l] == [name + "-1"])
            self.assertEqual([], c.health.service(name, passing=True)[1])

            self.assertFalse(c.agent.check.ttl_pass(check))  # a GET
            self.assertEqual("critical", c.agent.checks()[check]["Status"])
            passes = Blocked(lambda: follow(health(REMOTE, dc="dc1", passing=True), lambda l: len(l) == 1))
            self.assertTrue(update(c, "/v1/agent/check/pass/" + check, note="fine"))
            found = passes.result(20)[0]
            self.assertEqual((8080, "fine"), (found["Service"]["Port"], [k["Output"] for k in found["Checks"] if k["CheckID"] == check][0]))
            self.assertEqual(1, len(c.health.service(name, tag="blue", passing=True)[1]))
            self.assertEqual([], c.health.service(name, tag="green")[1])
            self.assertTrue(update(c, "/v1/agent/check/warn/" + check))
            follow(lambda **q: c.health.checks(name, **q), lambda l: [k["Status"] for k in l] == ["warning"])
            self.assertIn(check, [k["CheckID"] for k in c.health.state("warning")[1]])

            self.assertFalse(c.agent.service.deregister(name + "-1"))  # a GET
            gone = Blocked(lambda: follow(lambda **q: through(SERVER).catalog.service(name, **q), lambda l: l == []))
            self.assertTrue(update(c, "/v1/agent/service/deregister/%s-1" % name))
            gone.result(20)
            self.assertNotIn(name + "-1", c.agent.services())

    def test_checks_that_run(self):
        for c, at in self.each():
            name = "pyrun-" + at.split("/")[1]
            self.assertTrue(c.agent.service.register(name, port=1, check=consul.Check.tcp(SERVER, 8500, "1s", timeout="1s")))
            follow(lambda **q: c.health.service(name, passing=True, **q), lambda l: len(l) == 1)
            self.assertTrue(c.agent.check.register("own", check=consul.Check.http("http://%s:8500/v1/nothing" % SERVER, "1s"), check_id=name + "-own"))
            follow(lambda **q: c.health.state("critical", **q), lambda l: name + "-own" in [k["CheckID"] for k in l])
            self.assertTrue(update(c, "/v1/agent/check/deregister/" + name + "-own"))
            self.assertTrue(update(c, "/v1/agent/service/deregister/" + name))

    def test_maintenance(self):
        for c, at in self.each():
            name = "pymaint-" + at.split("/")[1]
            self.assertTrue(c.agent.service.register(name, port=1))
            follow(lambda **q: c.health.service(name, passing=True, **q), lambda l: len(l) == 1)
            self.assertTrue(c.agent.service.maintenance(name, "true", reason="oil"))
            follow(lambda **q: c.health.service(name, passing=True, **q), lambda l: l == [])
            self.assertTrue(c.agent.service.maintenance(name, "false"))
            follow(lambda **q: c.health.service(name, passing=True, **q), lambda l: len(l) == 1)
            self.assertTrue(update(c, "/v1/agent/service/deregister/" + name))

    def test_self_and_members(self):
        for c, _ in self.each():
            self.assertEqual("dc1", c.agent.self()["Config"]["Datacenter"])
            self.assertLessEqual({"dc1-s1", "dc1-c1"}, {m["Name"] for m in c.agent.members()})
        self.assertEqual({"dc1-s1.dc1", "dc2-s1.dc2"}, {m["Name"] for m in through(SERVER).agent.members(wan=True)})


class Catalog(Case):
    def test_external_service(self):
        for c, at in self.each():
            node = "ext-" + at.split("/")[1]
            for dc, remote in ((None, SERVER), ("dc2", REMOTE)):
                self.assertTrue(c.catalog.register(
                    node, "192.0.2.7", dc=dc, service={"Service": node, "ID": "one", "Port": 5432, "Tags": ["pg"]},
                    check={"Name": "alive", "CheckID": "alive", "Status": "passing", "ServiceID": "one"}))
                found = follow(lambda **q: through(remote).catalog.service(node, **q), lambda l: l)[0]
                self.assertEqual(("192.0.2.7", 5432, ["pg"]), (found["Address"], found["ServicePort"], found["ServiceTags"]))
                self.assertEqual(["pg"], c.catalog.services(dc=dc)[1][node])
                self.assertEqual({"one"}, set(c.catalog.node(node, dc=dc)[1]["Services"]))
                self.assertIn(node, [n["Node"] for n in c.catalog.nodes(dc=dc)[1]])
                self.assertEqual([("alive", "passing")], [(k["CheckID"], k["Status"]) for k in c.health.node(node, dc=dc)[1]])
                self.assertTrue(c.catalog.deregister(node, dc=dc))
                follow(lambda **q: through(remote).catalog.node(node, **q), lambda n: n is None)

    def test_datacenters(self):
        for c, _ in self.each():
            self.assertEqual(["dc1", "dc2"], sorted(c.catalog.datacenters()))
            self.assertEqual("%s:8300" % SERVER, c.status.leader())
            self.assertEqual(["%s:8300" % SERVER], c.status.peers())
            self.assertEqual({"dc1", "dc2"}, {d["Datacenter"] for d in c.coordinate.datacenters()})
            self.assertEqual(1, len(c.operator.raft_config()["Servers"]))


class Event(Case):
    def test_fire_and_follow(self):
        for c, at in self.each():
            name = "deploy-" + at.split("/")[1]
            index, _ = c.event.list(name=name)
            waits = Blocked(lambda: follow(lambda **q: c.event.list(name=name, **q), lambda l: l))
            fired = c.event.fire(name, body="v2")
            self.assertTrue(fired["ID"])
            got = waits.result(20)[-1]
            self.assertEqual((fired["ID"], name), (got["ID"], got["Name"]))
            # Every agent of the datacenter has it.
            for ip in (SERVER, CLIENT):
                follow(lambda **q: through(ip).event.list(name=name, **q), lambda l: fired["ID"] in [e["ID"] for e in l])


class Query(Case):
    def test_failover(self):
        for c, at in self.each():
            name = "pyquery-" + at.split("/")[1]
            c.catalog.register("ext-" + name, "192.0.2.8", dc="dc2", service={"Service": name, "Port": 1})
            made = c.query.create(name, name="q-" + name, onlypassing=True, datacenters=["dc2"])
            self.assertEqual(name, c.query.get(made["ID"])[0]["Service"]["Service"])
            self.assertIn(made["ID"], [q["ID"] for q in c.query.list()])
            got = c.query.execute("q-" + name)
            self.assertEqual(("dc2", 1, ["ext-" + name]), (got["Datacenter"], got["Failovers"], [n["Node"]["Node"] for n in got["Nodes"]]))
            self.assertEqual("q-" + name, c.query.explain("q-" + name)["Query"]["Name"])
            self.assertTrue(c.query.delete(made["ID"]))
            self.assertTrue(c.catalog.deregister("ext-" + name, dc="dc2"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2, warnings="ignore")  # the library leaves sockets open
