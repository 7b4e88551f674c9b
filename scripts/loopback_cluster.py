"""A cluster of server processes on loopback, for the measuring scripts beside this file: start, form, ask, kill."""

import binascii
import os
import signal
import socket
import subprocess
import time

CLIENT_PORT, BUS_PORT = 7000, 17000


class Failed(Exception):
    """The cluster did not do what was waited for."""


class Node:
    """One server process on an address of its own. Its log is the file `log` in its folder."""

    def __init__(self, command, ip, folder, options):
        self.ip, self.folder, self.command, self.options = ip, folder, command, options
        os.mkdir(folder)
        self.start()

    def start(self):
        args = ["--bind", self.ip, "--bind-source-addr", self.ip, "--port", str(CLIENT_PORT), "--dir", self.folder,
                "--cluster-enabled", "yes", "--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0",
                "--protected-mode", "no", "--cluster-require-full-coverage", "no"]
        for name, value in self.options.items():
            args += ["--" + name, str(value)]
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(self.command + args, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ask(self, *args, timeout=1.0):
        """One command on a fresh connection; the reply as text (bulk and simple strings), or None."""
        try:
            with socket.create_connection((self.ip, CLIENT_PORT), timeout) as s:
                s.settimeout(timeout)
                out = b"*%d\r\n" % len(args)
                for arg in args:
                    arg = str(arg).encode()
                    out += b"$%d\r\n%s\r\n" % (len(arg), arg)
                s.sendall(out)
                file = s.makefile("rb")
                line = file.readline().decode()
                if line.startswith("$") and not line.startswith("$-1"):
                    return file.read(int(line[1:])).decode()
                return line.strip()
        except OSError:
            return None

    def info(self, *command):
        """A reply of `name:value` lines as a dictionary."""
        lines = (self.ask(*command, timeout=5.0) or "").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def cpu_s(self):
        """Seconds of processor that the process has used."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log_lines(self, text):
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            return [line.rstrip() for line in log if text in line]


def until(what, seconds, condition, pause=0.02):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(pause)


class Cluster:
    """`masters` masters with equal slots, and a replica of each: nodes[i] is replicated by nodes[masters + i].

    `commands(i)` is node i's command line, `options(i)` its directives.
    """

    def __init__(self, masters, prefix, folder, commands, options):
        self.masters, self.nodes = masters, []
        try:
            for i in range(2 * masters):
                node = Node(commands(i), f"{prefix}.{i + 1}", os.path.join(folder, f"n{i}"), options(i))
                self.nodes.append(node)
            self._form()
        except BaseException:
            self.stop()
            raise

    def _form(self):
        nodes, masters = self.nodes, self.masters
        patience = 30 + len(nodes)
        until("servers answer", patience, lambda: all(n.ask("PING") == "+PONG" for n in nodes))
        for index in range(masters):
            first, last = self.slots(index)
            nodes[index].ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for index, node in enumerate(nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", nodes[0].ip, CLIENT_PORT)
        ids = [n.ask("CLUSTER", "MYID") for n in nodes]
        for i in range(masters):
            until("replicas attach", patience, lambda i=i: nodes[masters + i].ask("CLUSTER", "REPLICATE", ids[i]) == "+OK")
        self.settle()

    def settle(self):
        """Waits until every node sees a whole cluster and every replica is in sync."""
        patience = 30 + 2 * len(self.nodes)

        def whole(node):
            view = node.ask("CLUSTER", "NODES", timeout=5.0) or ""
            words = [line.split() for line in view.splitlines()]
            known = len(words) == len(self.nodes) and not any("fail" in w[2] or "handshake" in w[2] for w in words)
            return known and sum("slave" in w[2] for w in words) == self.masters

        def ready(node):
            synced = "role:master" in (info := node.ask("INFO", "replication") or "") or "master_link_status:up" in info
            return synced and node.info("CLUSTER", "INFO").get("cluster_state") == "ok"

        until("the cluster is ready", patience,
              lambda: all(map(ready, self.nodes)) and all(map(whole, self.nodes)), pause=0.2)

    def slots(self, index):
        at = lambda n: 16384 * n // self.masters
        return at(index), at(index + 1) - 1

    def key_of(self, index):
        """A key in the slots of shard `index`."""
        first, last = self.slots(index)
        return next(k for k in map("k{}".format, range(100000)) if first <= binascii.crc_hqx(k.encode(), 0) % 16384 <= last)

    def kill_and_time(self, victim, heir, shard, limit_s=60):
        """kill -9 of a master; seconds until its replica has taken a write."""
        key = self.key_of(shard)
        victim.process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        while heir.ask("SET", key, "1", timeout=0.2) != "+OK":
            if time.monotonic() - killed > limit_s:
                raise Failed(f"no failover within {limit_s} s")
            time.sleep(0.005)
        took = time.monotonic() - killed
        victim.process.wait()
        return took

    def bus_messages(self):
        """Bus packets that all nodes have sent."""
        return sum(int(n.info("CLUSTER", "INFO").get("cluster_stats_messages_sent", 0)) for n in self.nodes)

    def bus_bytes(self):
        """Bytes that all nodes have sent on their present bus connections, as the kernel counts them."""
        ips = {n.ip for n in self.nodes}
        ss = subprocess.run(["ss", "-tinH"], capture_output=True, text=True, check=True).stdout.splitlines()
        total = 0
        for head, detail in zip(ss, ss[1:]):
            words = head.split()
            if len(words) < 5 or words[0] != "ESTAB":
                continue
            (ip, port), (_, peer_port) = words[3].rsplit(":", 1), words[4].rsplit(":", 1)
            if ip.strip("[]").removeprefix("::ffff:") in ips and str(BUS_PORT) in (port, peer_port):
                sent = [w for w in detail.split() if w.startswith("bytes_sent:")]
                total += int(sent[0].split(":")[1]) if sent else 0
        return total

    def stop(self):
        for node in self.nodes:
            node.kill()
