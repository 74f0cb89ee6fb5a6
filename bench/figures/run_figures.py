#!/usr/bin/env python3
"""Every figure that Postbag is held to, beside its floor and what is aimed at.

300-byte hooks to a counting receiver on 127.0.0.1; all threads of Postbag (and of each other
sender) on core 0, feeder and receiver on core 1. Every round runs all steps once, in the reverse
order every other round; ratios are made within a round, and medians over the rounds are shown.
`others` is what other programs used of the machine meanwhile and `steal` what its host took, in
percent of all cores, both the mean of the figure's runs: figures of a busy machine mean little.
Absolute floors count where the raw client makes 170,000 POST/s, or else are scaled by its rate
over 180,000. Usually started by `bench/run figures`, which builds and installs what is needed.
Exit code: 0 if all was run, whether floors are met or not; 1 if a run failed.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import sys
import time

sys.dont_write_bytecode = True  # nothing is left in the source tree
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import steps as all_steps  # noqa: E402
from figures import FIGURES, format_table, make_row, speed_of  # noqa: E402
from host_noise import NoiseMeter  # noqa: E402

PEER_STEPS = ("curl_", "undici_", "syslog_")


def progress(text):
    print(text, file=sys.stderr, flush=True)


def run_step(step, bench, round_number):
    """The record of one run."""
    meter, start = NoiseMeter(), time.monotonic()
    record = {"step": step.name, "round": round_number}
    try:
        record["values"] = step.run(bench, round_number)
    except all_steps.peers.NotAvailable as reason:
        record["problem"], record["unavailable"] = f"not available: {reason}", True
    except all_steps.FAILURES as error:
        record["problem"] = f"FAILED: {error}"
    record |= {"seconds": round(time.monotonic() - start, 1)} | meter.finish()
    said = record.get("problem", "done")
    progress(f"  {step.name}: {said}, {record['seconds']} s, others "
             f"{record.get('others_percent', '?')} %, steal {record.get('steal_percent', '?')} %")
    return record


def run_rounds(steps, bench, repeat, save):
    records, dead = [], set()
    for number in range(repeat):
        progress(f"round {number + 1}/{repeat}")
        for step in reversed(steps) if number % 2 else steps:
            if step.name in dead or (step.once and number > 0):
                continue
            records.append(run_step(step, bench, number))
            if "unavailable" in records[-1]:
                dead.add(step.name)
            if save:
                with save.open("a") as out:
                    print(json.dumps(records[-1]), file=out)
    return records


def load(files):
    records = []
    for name in files:
        for number, line in enumerate(name.read_text().splitlines(), 1):
            try:
                record = json.loads(line)
                record["step"], record["round"]
            except (ValueError, KeyError, TypeError):
                raise SystemExit(f"{name}:{number}: not a record of --save") from None
            records.append(record)
    return records


def wanted(name, patterns):
    return not patterns or any(pattern in name for pattern in patterns)


def choose_steps(figures, without_peers):
    needed = {name for figure in figures for name in figure.needs}
    return [step for step in all_steps.STEPS if step.name in needed and
            not (without_peers and step.name.startswith(PEER_STEPS))]


def describe_machine(records):
    model = next((line.partition(":")[2].strip()
                  for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    raw = speed_of(records)
    return (f"{os.cpu_count()} cores of {model}, Linux {platform.release()}" +
            (f"; raw client {raw:,.0f} POST/s" if raw else ""))


def parse_arguments():
    parser = argparse.ArgumentParser(prog="bench/run figures", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--postbag", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--node-modules", type=pathlib.Path, default=pathlib.Path("/nonexistent"),
                        help=argparse.SUPPRESS)
    parser.add_argument("--repeat", type=int, default=5, help="rounds (5)")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS",
                        help="figures whose name has these words; may be given more than once")
    parser.add_argument("--list", action="store_true", help="the names of the figures")
    parser.add_argument("--json", action="store_true", help="a line of JSON for every figure")
    parser.add_argument("--soak-hooks", type=int, default=100_000_000,
                        help="hooks of the soak (100,000,000: about a minute)")
    parser.add_argument("--without-peers", action="store_true", help="nothing but Postbag")
    parser.add_argument("--save", type=pathlib.Path, help="adds a line for every run to this file")
    parser.add_argument("--from", dest="files", type=pathlib.Path, action="append", default=[],
                        help="the table of runs that were saved, instead of running anything; may "
                             "be given more than once")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, to see that it works")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    # As an exception, so that what was started is stopped and temporary folders are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    figures = [figure for figure in FIGURES if wanted(figure.name, arguments.only)]
    if arguments.list:
        print("\n".join(figure.name for figure in figures))
        return 0
    if arguments.files:
        records = load(arguments.files)
    else:
        setting = all_steps.peers.Setting(arguments.build, arguments.node_modules, True,
                                          arguments.smoke)
        bench = all_steps.Bench(arguments.build, arguments.postbag, setting, arguments.smoke,
                                arguments.soak_hooks)
        records = run_rounds(choose_steps(figures, arguments.without_peers), bench,
                             max(1, arguments.repeat), arguments.save)
    rows = [make_row(figure, records) for figure in figures]
    if arguments.json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        print(describe_machine(records))
        print(format_table(rows))
    failed = any("problem" in record and "unavailable" not in record for record in records)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
