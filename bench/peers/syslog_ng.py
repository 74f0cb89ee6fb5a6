"""syslog-ng's http() destination: lines in over one TCP connection, POSTs of JSON arrays out."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass

from peer_programs import PATIENCE_S, NotAvailable, Receiver, Run, payload, peak_rss_mb, stop

LINES = 1000  # a piece of the input, sent over and over
CONFIG = """@version: 3.38
options {{ stats-freq(0); keep-hostname(yes); }};
source lines {{
  network(ip("127.0.0.1") port({port}) transport("tcp") flags(no-parse)
          log-iw-size(100000) log-fetch-limit(1000) max-connections(4));
}};
"""
DESTINATION = """destination hooks{target} {{
  http(url("http://127.0.0.1:{receiver}/t/{target}") method("POST")
       headers("Content-Type: application/json") body("${{MESSAGE}}")
       body-prefix("[") delimiter(",") body-suffix("]")
       batch-lines({batch}) batch-timeout(200) workers({workers}) log-fifo-size(200000)
       {disk});
}};
"""
# 3.38 has no URL per message. The first filter that fits ends the search.
FILTER = """filter to{target} {{ message('{{"target":{target},' type(string) flags(prefix)); }};
"""
BRANCH = """  log {{ filter(to{target}); destination(hooks{target}); flags(final); }};
"""
# So large that it is never what slows it down.
DISK_BUFFER = """disk-buffer(reliable(yes) disk-buf-size(1073741824)
                   mem-buf-size(67108864) dir("{folder}"))"""


@dataclass
class SyslogLoad:
    hooks: int
    batch: int
    workers: int
    targets: int = 1  # each with a destination of its own


def make_config(load, port, receiver, disk):
    one = load.targets == 1
    parts = [CONFIG.format(port=port)]
    for target in range(load.targets):
        parts.append(DESTINATION.format(
            target=target, receiver=receiver, batch=load.batch, workers=load.workers, disk=disk))
        if not one:
            parts.append(FILTER.format(target=target))
    parts.append("log { source(lines);\n")
    parts.append("  destination(hooks0);\n" if one else
                 "".join(BRANCH.format(target=target) for target in range(load.targets)))
    parts.append("  flags(flow-control);\n};\n")
    return "".join(parts)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_program():
    program = shutil.which("syslog-ng") or shutil.which("syslog-ng", path="/usr/sbin")
    if program is None:
        raise NotAvailable("syslog-ng-core is not installed")
    known = subprocess.run([program, "--module-registry"], capture_output=True, text=True)
    if "http" not in known.stdout:
        raise NotAvailable("syslog-ng-mod-http is not installed")
    return program


def connect(process, port, log):
    since = time.monotonic()
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() - since > PATIENCE_S:
                raise RuntimeError(f"syslog-ng does not listen: {log.read_text()[-400:]}") from None
            time.sleep(0.02)


def cpu_s(pid):
    """User and system time of all threads, dead ones included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def pinned(setting, core):
    """The feeder is this thread; what it starts is pinned apart."""
    before = os.sched_getaffinity(0)
    if setting.pin:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_syslog_ng(setting, load, reliable):
    program = find_program()
    pieces = max(1, setting.count(load.hooks) // LINES)
    hooks = pieces * LINES
    piece = "".join(payload(i, i % load.targets) + "\n" for i in range(LINES)).encode()
    with (tempfile.TemporaryDirectory(prefix="postbag-peers-") as name,
          Receiver(setting) as receiver):
        folder = pathlib.Path(name)
        port = free_port()
        disk = DISK_BUFFER.format(folder=folder) if reliable else ""
        (folder / "conf").write_text(make_config(load, port, receiver.port, disk))
        log = folder / "log"
        command = [program, "-F", "--no-caps", "-f", folder / "conf", "-R", folder / "persist",
                   "-p", folder / "pid", "-c", folder / "control"]
        with log.open("w") as out:
            process = subprocess.Popen(setting.on_core(0, command), stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=out)
        try:
            with connect(process, port, log) as feed, pinned(setting, 1):
                cpu_before, start = cpu_s(process.pid), time.monotonic()
                for _ in range(pieces):
                    feed.sendall(piece)
                receiver.wait_for(hooks)
                seconds = time.monotonic() - start
                cpu = cpu_s(process.pid) - cpu_before
            return Run(hooks, seconds, cpu, peak_rss_mb(process.pid))
        finally:
            stop(process)
