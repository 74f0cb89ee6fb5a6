#!/usr/bin/env python3
"""Postbag beside other senders of HTTP POSTs: 300-byte hooks to a counting receiver on 127.0.0.1.

Every round runs each of them once, in turn with Postbag, so that ratios are of the same minute; the
order is reversed from round to round. Of a program with several settings the best by median is
shown; --json gives all. `Postbag/peer` is the median of the rounds' ratios of hooks per second.
undici has its batches ready as arrays of strings that it joins for each request, or as whole bodies
in Buffers, or makes the hooks as text for each request, as an application would. syslog-ng 3.38 has no URL per message: 1,000 targets are 1,000
destinations behind filters. "Durable" is fsync with Postbag; syslog-ng's disk buffer does not sync. syslog-ng reads lines from
TCP, the others have their bodies ready, and Postbag is given hook by hook through the library.
Usually started by `bench/run peers`, which builds and installs what is needed.
"""

import argparse
import json
import pathlib
import signal
import statistics
import sys
from dataclasses import dataclass, field

import peer_programs as programs
from syslog_ng import SyslogLoad, run_syslog_ng


@dataclass
class Peer:
    workload: str
    name: str
    setting: str
    run: object  # called with the Setting
    runs: list = field(default_factory=list)
    problem: str = ""

    def rate(self):
        return statistics.median(run.rate for run in self.runs) if self.runs else 0


@dataclass
class Workload:
    name: str
    case: str  # of delivery_bench
    peers: list
    postbag: list = field(default_factory=list)
    raw: list = field(default_factory=list)
    problem: str = ""


def curl_peers(workload, batch):
    return [Peer(workload, "libcurl multi", f"{loop}, {handles} handles",
                 lambda setting, loop=loop, handles=handles:
                     programs.run_curl(setting, batch, loop, handles))
            for loop in ("poll", "socket_action") for handles in (16, 64)]


def undici_peers(workload, batch):
    """The forms are shown apart: what is ready is not the same."""
    return [Peer(workload, f"undici 7 Pool, {words}", "50 connections",
                 lambda setting, form=form: programs.run_undici(setting, batch, form))
            for form, words in (("strings", "strings joined"), ("buffers", "ready Buffers"),
                                ("made", "hooks made"))]


def syslog_peer(workload, load, reliable=False):
    name = "syslog-ng http()" + (", reliable disk buffer" if reliable else "")
    what = f"{load.workers} workers" if load.targets == 1 else f"{load.targets} destinations"
    return Peer(workload, name, what, lambda setting: run_syslog_ng(setting, load, reliable))


def make_workloads():
    unbatched = curl_peers("unbatched", 1) + [
        *undici_peers("unbatched", 1),
        syslog_peer("unbatched", SyslogLoad(50_000, 1, 8)),
        Peer("unbatched", "wrk", "64 connections", lambda setting: programs.run_wrk(setting, 64)),
    ]
    batched = curl_peers("batch 100", 100) + undici_peers("batch 100", 100) + [
        syslog_peer("batch 100", SyslogLoad(1_000_000, 100, 4))]
    return [
        Workload("unbatched", "unbatched_targets64", unbatched),
        Workload("batch 100", "batch100_targets1", batched),
        Workload("batch 100, 1,000 targets", "batch100_targets1000",
                 [syslog_peer("batch 100, 1,000 targets", SyslogLoad(100_000, 100, 1, 1000))]),
        Workload("durable unbatched", "unbatched_targets64_fsync",
                 [syslog_peer("durable unbatched", SyslogLoad(40_000, 1, 8), True)]),
        Workload("durable batch 100", "batch100_targets64_fsync",
                 [syslog_peer("durable batch 100", SyslogLoad(300_000, 100, 4), True)]),
    ]


def progress(text):
    print(text, file=sys.stderr, flush=True)


def run_peer(peer, setting):
    if peer.problem:
        return
    try:
        peer.runs.append(peer.run(setting))
        progress(f"  {peer.name} ({peer.setting}): {peer.runs[-1].rate:,.0f} hooks/s")
    except programs.NotAvailable as reason:
        peer.problem = f"not available: {reason}"
    except (RuntimeError, OSError, ValueError) as error:
        peer.problem = f"FAILED: {error}"
    if peer.problem:
        progress(f"  {peer.name} ({peer.setting}): {peer.problem}")


def run_workload(workload, setting, backwards):
    steps = [lambda: run_postbag(workload, setting)]
    steps += [lambda peer=peer: run_peer(peer, setting) for peer in workload.peers]
    for step in reversed(steps) if backwards else steps:
        step()


def run_postbag(workload, setting):
    try:
        postbag, raw = programs.run_postbag(setting, workload.case)
        workload.postbag.append(postbag)
        workload.raw.append(raw)
        progress(f"  Postbag ({workload.case}): {postbag.rate:,.0f} hooks/s")
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        workload.problem = f"FAILED: {error}"
        progress(f"  Postbag ({workload.case}): {workload.problem}")


def ratios(workload, runs):
    return [ours.rate / theirs.rate for ours, theirs in zip(workload.postbag, runs)]


def describe(workload, name, setting, runs, problem, best):
    """One row as a dictionary; without figures if there was no run."""
    row = {"workload": workload.name, "name": name, "setting": setting, "best": best}
    if problem or not runs or not workload.postbag:
        return row | {"result": problem or "FAILED: no run of Postbag"}
    rates = [run.rate for run in runs]
    row |= {"result": "ok", "runs": len(runs), "hooks_per_s": round(statistics.median(rates)),
            "hooks_per_s_min": round(min(rates)), "hooks_per_s_max": round(max(rates)),
            "cpu_s_per_million": round(statistics.median(run.cost for run in runs), 3),
            "peak_rss_mb": round(statistics.median(run.rss_mb for run in runs), 1)}
    if name != "Postbag":
        of_peer = ratios(workload, runs)
        ours = statistics.median(run.cost for run in workload.postbag)
        row |= {"ratio": round(statistics.median(of_peer), 3), "ratio_min": round(min(of_peer), 3),
                "ratio_max": round(max(of_peer), 3),
                "cpu_ratio": round(ours / max(row["cpu_s_per_million"], 1e-9), 3)}
    return row


def make_rows(workload):
    problem = workload.problem
    rows = [describe(workload, "Postbag", workload.case, workload.postbag, problem, True),
            describe(workload, "raw epoll", "constant request", workload.raw, problem, True)]
    for name in dict.fromkeys(peer.name for peer in workload.peers):
        same = [peer for peer in workload.peers if peer.name == name]
        best = max(same, key=lambda peer: (not peer.problem, peer.rate()))
        rows += [describe(workload, name, peer.setting, peer.runs, peer.problem, peer is best)
                 for peer in same]
    return rows


def print_table(rows):
    head = ["workload", "sender", "setting", "hooks/s", "min", "max", "CPU s/M", "RSS MB",
            "Postbag/peer", "min", "max", "CPU Postbag/peer"]
    lines = [head]
    for row in rows:
        line = [row["workload"], row["name"], row["setting"]]
        if row["result"] != "ok":
            lines.append(line + [row["result"]])
            continue
        line += [f"{row[key]:,}" for key in ("hooks_per_s", "hooks_per_s_min", "hooks_per_s_max")]
        rss_mb = f"{row['peak_rss_mb']:.1f}" if row["peak_rss_mb"] else "-"
        line += [f"{row['cpu_s_per_million']:.3f}", rss_mb]
        if "ratio" in row:
            line += [f"{row[key]:.2f}" for key in ("ratio", "ratio_min", "ratio_max", "cpu_ratio")]
        lines.append(line)
    # A message in place of figures takes the room it needs.
    widths = [max(len(line[i]) for line in lines if len(line) > i and len(line) != 4)
              for i in range(len(head))]
    for line in lines:
        cells = [cell.ljust(width) if i < 3 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(line, widths))]
        if len(line) == 4:
            cells[3] = line[3]
        print("  ".join(cells).rstrip())


def main():
    parser = argparse.ArgumentParser(prog="bench/run peers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--node-modules", type=pathlib.Path, default=pathlib.Path("/nonexistent"),
                        help=argparse.SUPPRESS)
    parser.add_argument("--pin", action="store_true",
                        help="sender on core 0, receiver and feeder on core 1")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (3); medians are shown")
    parser.add_argument("--workload", default="", help="only those whose name contains this")
    parser.add_argument("--peer", default="", help="only those whose name contains this")
    parser.add_argument("--json", action="store_true", help="a line of JSON for every setting")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, to see that it works")
    arguments = parser.parse_args()
    # As an exception, so that what was started is stopped and temporary folders are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    setting = programs.Setting(arguments.build, arguments.node_modules, arguments.pin,
                               arguments.smoke)
    workloads = [each for each in make_workloads() if arguments.workload in each.name]
    for workload in workloads:
        workload.peers = [peer for peer in workload.peers if arguments.peer in peer.name]
    for number in range(max(1, arguments.repeat)):
        for workload in workloads:
            progress(f"round {number + 1}/{arguments.repeat}, {workload.name}")
            run_workload(workload, setting, number % 2 == 1)
    rows = [row for workload in workloads for row in make_rows(workload)]
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
    else:
        print_table([row for row in rows if row["best"]])
    return 1 if any(row["result"].startswith("FAILED") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
