"""One run of each program that Postbag is compared with, against a counting receiver of its own.

Every function returns a Run or raises NotAvailable or RuntimeError. Whatever is started is stopped
by its process id before the function returns.
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

PAYLOAD_BYTES = 300
PATIENCE_S = 20
RUN_S_MAX = 120
HERE = pathlib.Path(__file__).resolve().parent


class NotAvailable(Exception):
    """The program cannot be had on this machine."""


@dataclass
class Run:
    hooks: int
    seconds: float
    cpu_s: float  # of the sender alone, without feeder and receiver
    rss_mb: float  # peak

    @property
    def rate(self):
        return self.hooks / self.seconds

    @property
    def cost(self):
        return self.cpu_s / self.hooks * 1e6


@dataclass
class Setting:
    build: pathlib.Path  # folder of delivery_bench, bench_receiver and curl_peer
    node_modules: pathlib.Path
    pin: bool
    smoke: bool

    def count(self, hooks):
        return max(1000, hooks // 100) if self.smoke else hooks

    def on_core(self, core, command):
        return (["taskset", "-c", str(core)] if self.pin else []) + [str(part) for part in command]


def payload(index, target=0):
    text = '{"target":%d,"sequence":%d,"text":"' % (target, index)
    return text + "x" * (PAYLOAD_BYTES - len(text) - 2) + '"}'


def peak_rss_mb(pid):
    """0 once the process has ended."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0


def run_program(command):
    """Standard output, processor time and peak memory of a program that ends by itself."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=error)
        # Asked for while it runs: what wait4() tells counts the memory of this process too, which
        # the child had before its exec().
        rss_mb, pid, since = 0, 0, time.monotonic()
        try:
            while pid == 0:
                rss_mb = max(rss_mb, peak_rss_mb(child.pid))
                pid, status, used = os.wait4(child.pid, os.WNOHANG)
                if pid == 0 and time.monotonic() - since > RUN_S_MAX:
                    child.kill()
                time.sleep(0.01)
        except SystemExit:
            stop(child)
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        error.seek(0)
        if child.returncode != 0:
            why = error.read()[-400:].decode(errors="replace")
            raise RuntimeError(f"{command[0]} ended with {child.returncode}: {why}")
        return out.read().decode(), used.ru_utime + used.ru_stime, rss_mb


def stop(child):
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Receiver:
    """bench_receiver; counts hooks from the bytes, because others send no Postbag-Batch-Size."""

    def __init__(self, setting):
        command = setting.on_core(1, [setting.build / "bench_receiver"])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            self.port = int(self.process.stdout.readline())
        except BaseException:
            stop(self.process)
            raise
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
        stop(self.process)
        self.process.stdout.close()

    def hooks(self):
        """Each body is an array of payloads: two brackets, and a comma less than payloads."""
        self.connection.request("GET", "/stats")
        stats = json.loads(self.connection.getresponse().read())
        if stats["refused"] or stats["malformed"]:
            raise RuntimeError(f"the receiver refused something: {stats}")
        hooks, rest = divmod(stats["body_bytes"] - stats["requests"], PAYLOAD_BYTES + 1)
        if rest:
            raise RuntimeError(f"bodies are not arrays of the payloads: {stats}")
        return hooks

    def wait_for(self, hooks):
        received, since = 0, time.monotonic()
        while received < hooks:
            before, received = received, self.hooks()
            if received > before:
                since = time.monotonic()
            if time.monotonic() - since > PATIENCE_S:
                raise RuntimeError(f"{received} of {hooks} hooks came")
            time.sleep(0.005)


def run_postbag(setting, case):
    """The run of Postbag and the run of the raw epoll client beside it."""
    command = [setting.build / "delivery_bench", "--case", case, "--repeat", "1", "--json"]
    command += ["--pin"] if setting.pin else []
    command += ["--hooks", "2000"] if setting.smoke else []
    out, _, _ = run_program([str(part) for part in command])
    line = json.loads(out.splitlines()[0])
    hooks = int(line["hooks"])

    def run(rate, cost, rss_mb):
        return Run(hooks, hooks / rate, cost * hooks / 1e6, rss_mb)

    return (run(line["hooks_per_s"], line["engine_cpu_s_per_million"], line["peak_rss_mb"]),
            run(line["raw_hooks_per_s"], line["raw_cpu_s_per_million"], 0))


def run_curl(setting, batch, loop, handles):
    program = setting.build / "curl_peer"
    if not program.exists():
        raise NotAvailable("libcurl4-openssl-dev is not installed")
    command = [str(program), "--loop", loop, "--handles", str(handles), "--batch", str(batch)]
    command += ["--requests", str(setting.count(60_000 if batch == 1 else 40_000))]
    command += ["--pin"] if setting.pin else []
    out, _, rss_mb = run_program(command)
    line = json.loads(out)
    return Run(int(line["hooks"]), line["seconds"], line["cpu_s"], rss_mb)


def run_undici(setting, batch, form):
    """`form`: "strings", "buffers" or "made", how the batches are held ready."""
    if shutil.which("node") is None:
        raise NotAvailable("nodejs is not installed")
    if not (setting.node_modules / "undici").exists():
        raise NotAvailable("undici could not be fetched with npm")
    requests = setting.count(60_000 if batch == 1 else 15_000)
    with Receiver(setting) as receiver:
        out, _, rss_mb = run_program(setting.on_core(0, [
            "node", HERE / "undici_peer.mjs", setting.node_modules, receiver.port, 50, batch,
            requests, PAYLOAD_BYTES, form]))
        line = json.loads(out)
        receiver.wait_for(line["hooks"])
    return Run(line["hooks"], line["seconds"], line["cpu_s"], rss_mb)


def run_wrk(setting, connections):
    if shutil.which("wrk") is None:
        raise NotAvailable("wrk is not installed")
    with Receiver(setting) as receiver:
        out, cpu_s, rss_mb = run_program(setting.on_core(0, [
            "wrk", "-t1", f"-c{connections}", "-d1s", "-s", HERE / "post.lua",
            f"http://127.0.0.1:{receiver.port}/t/0"]))
    requests = re.search(r"(\d+) requests in ([0-9.]+)s", out)
    if requests is None or "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"wrk: {out[-400:]}")
    return Run(int(requests[1]), float(requests[2]), cpu_s, rss_mb)
