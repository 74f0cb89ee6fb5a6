"""What is run for the figures: every step is one run of one program, and gives named numbers."""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
import peer_programs as peers  # noqa: E402
from syslog_ng import SyslogLoad, free_port, run_syslog_ng  # noqa: E402

STEP_S_MAX = 400
PATIENCE_S = 15
CURL_SETTINGS = [(loop, handles) for loop in ("poll", "socket_action") for handles in (16, 64)]
LATENCY_SECONDS = 3


@dataclass
class Bench:
    """Where the programs are, and how they are run."""

    build: pathlib.Path  # folder of the benchmarks
    postbag: pathlib.Path
    peers: peers.Setting
    smoke: bool
    soak_hooks: int

    def pick(self, usual, smoke):
        return smoke if self.smoke else usual


@dataclass
class Step:
    name: str
    run: object  # (bench, round) -> dict of numbers; raises what `FAILURES` names
    once: bool = False  # in the first round alone: it hardly differs, or takes long


FAILURES = (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError)


def run_program(command):
    """Standard output of a program that has to end well."""
    child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, error = child.communicate(timeout=STEP_S_MAX)
    except BaseException:
        peers.stop(child)
        raise
    if child.returncode != 0:
        what = (error + out)[-400:]
        raise RuntimeError(f"{command[0]} ended with {child.returncode}: {what}")
    return out


def run_lines(command, allowed=("ok",)):
    """The lines of JSON of a benchmark; each must have gone well, or as is `allowed`."""
    lines = [json.loads(line) for line in run_program(command).splitlines()]
    for line in lines:
        if line.get("result", "ok") not in allowed:
            raise RuntimeError(f"{line.get('case')}: {line['result']}")
    return lines


def numbers(line):
    return {name: value for name, value in line.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)}


def deliver(case):
    def run(bench, round_number):
        command = [bench.build / "delivery_bench", "--case", case, "--repeat", 1, "--pin", "--json"]
        command += ["--hooks", 2000] if bench.smoke else []
        # Every payload is verified in a run of its own, once.
        command += [] if round_number == 0 else ["--unchecked"]
        return numbers(run_lines(command)[0])
    return Step(case, run)


def curl_step(loop, handles):
    def run(bench, _):
        return describe_peer(peers.run_curl(bench.peers, 1, loop, handles))
    return Step(f"curl_{loop}_{handles}", run)


def undici_step(form):
    return Step(f"undici_{form}",
                lambda bench, _: describe_peer(peers.run_undici(bench.peers, 100, form)))


def syslog_step(name, load, reliable=False):
    return Step(name, lambda bench, _: describe_peer(run_syslog_ng(bench.peers, load, reliable)))


def describe_peer(run):
    return {"hooks_per_s": run.rate, "cpu_s_per_million": run.cost, "peak_rss_mb": run.rss_mb}


def durable(bench, _):
    command = [bench.build / "durable_bench", "--sync-ms", 0, "--payload", 300, "--pin", "--json"]
    command += ["--smoke"] if bench.smoke else ["--seconds", 4]
    return numbers(run_lines(command)[0])


def fail_rows(bench, _):
    """Rates of hooks that become failed rows, and of bare inserts of the same rows."""
    command = ["taskset", "-c", 0, bench.build / "store_micro"]
    command += ["--smoke"] if bench.smoke else []  # has to be the first
    command += ["--benchmark_format=json",
                "--benchmark_filter=^(fail/chunk:100/|fail_rows/|bare_insert/)"]
    rates = {}
    for each in json.loads(run_program(command))["benchmarks"]:
        rates[each["name"].partition("/")[0]] = each["items_per_second"]
    return {name: rates[name] for name in ("fail", "fail_rows", "bare_insert")}


def intake(case, durability, hooks):
    def run(bench, _):
        count = bench.pick(hooks, 1000 if case == "single" else 20_000)
        return numbers(run_lines([
            bench.build / "intake_bench", "--postbag", bench.postbag, "--case", case,
            "--durability", durability, "--hooks", count, "--pin", "--json"])[0])
    return Step(f"intake_{case}_{durability}", run)


def latency(durability, fifo=False):
    def run(bench, _):
        command = [bench.build / "latency_bench", "--durability", durability, "--shares", 50,
                   "--pin", "--json", "--seconds", bench.pick(LATENCY_SECONDS, 1)]
        command += ["--fifo"] if fifo else []
        command += ["--peak", 2000] if bench.smoke else []
        try:
            # Where it is saturated its latency says so.
            return numbers(run_lines(command, ("ok", "saturated"))[0])
        except RuntimeError as error:
            if "SCHED_FIFO is not to be had" in str(error):
                raise peers.NotAvailable("SCHED_FIFO, which root may use") from None
            raise
    return Step(f"latency_{durability}" + ("_fifo" if fifo else ""), run)


def memory(case, name=None, once=True):
    def run(bench, _):
        command = [bench.build / "memory_bench", "--case", case, "--pin", "--json"]
        command += ["--smoke"] if bench.smoke else []
        return numbers(run_lines(command)[0])
    return Step(name or case, run, once)


def soak(bench, _):
    return numbers(run_lines([bench.build / "delivery_bench", "--soak", "--hooks", bench.soak_hooks,
                              "--pin", "--json"])[0])


def recovery(bench, _):
    command = [bench.build / "recovery_bench", "--postbag", bench.postbag, "--pin", "--json"]
    command += ["--smoke"] if bench.smoke else []
    return numbers(run_lines(command)[0])


def is_ready(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def idle_daemon(bench, _):
    """Resident memory of `postbag serve` with the usual settings and nothing to do."""
    with tempfile.TemporaryDirectory(prefix="postbag-figures-") as folder:
        port = free_port()
        config = pathlib.Path(folder) / "postbag.toml"
        config.write_text(f'[store]\npath = "{folder}/postbag.db"\n'
                          f'[intake]\nlisten = "127.0.0.1:{port}"\n[log]\nlevel = "warning"\n')
        daemon = subprocess.Popen([bench.postbag, "serve", "-c", config],
                                  stdin=subprocess.DEVNULL)
        try:
            since = time.monotonic()
            while not is_ready(port):
                if daemon.poll() is not None or time.monotonic() - since > PATIENCE_S:
                    raise RuntimeError("postbag serve did not become ready")
                time.sleep(0.02)
            time.sleep(bench.pick(1, 0.1))  # what the start leaves to be done
            pages = int(pathlib.Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
            return {"resident_mib": pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)}
        finally:
            peers.stop(daemon)


# In this order, and backwards every other round. What is compared stands together.
STEPS = [
    deliver("unbatched_targets64"),
    *[curl_step(loop, handles) for loop, handles in CURL_SETTINGS],
    deliver("batch100_targets1"),
    syslog_step("syslog_batch", SyslogLoad(1_000_000, 100, 4)),
    undici_step("strings"),
    undici_step("buffers"),
    undici_step("made"),
    deliver("batch100_targets1000"),
    deliver("batch100_targets1_tls"),
    syslog_step("syslog_1000", SyslogLoad(100_000, 100, 1, 1000)),
    deliver("batch100_targets1_inflight1"),
    Step("durable", durable),
    syslog_step("syslog_reliable", SyslogLoad(300_000, 100, 4), reliable=True),
    Step("fail_rows", fail_rows),
    intake("ndjson", "memory", 2_000_000),
    intake("ndjson", "fsync", 1_000_000),
    intake("single", "memory", 200_000),
    intake("single", "fsync", 60_000),
    latency("memory"),
    latency("memory", fifo=True),
    latency("fsync"),
    memory("scale_targets100", once=False),
    memory("scale_targets1000000", once=False),
    memory("full_bags_targets1"),
    memory("half_bags_targets20000"),
    memory("unbatched_targets64", "unbatched_waiting"),
    memory("one_hook_bags_targets1000000"),
    memory("scale_hooks1000000_targets100"),
    memory("scale_hooks10000000_targets100"),
    Step("idle_daemon", idle_daemon, once=True),
    Step("recovery", recovery, once=True),
    Step("soak", soak, once=True),
]
