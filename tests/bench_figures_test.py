#!/usr/bin/env python3
"""bench/run figures: ratios are of one round, limits are judged the right way round, the table says
what is missing, and what was saved gives the same table again.

  bench_figures_test.py FOLDER_OF_RUN_FIGURES
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

sys.dont_write_bytecode = True
FOLDER = pathlib.Path(sys.argv.pop() if len(sys.argv) > 1 else "bench/figures").resolve()
sys.path.insert(0, str(FOLDER))
import figures  # noqa: E402
import host_noise  # noqa: E402
import steps  # noqa: E402


def record(step, number, **values):
    return {"step": step, "round": number, "values": values, "others_percent": 2.0,
            "steal_percent": 0.5}


def row(name, records):
    return figures.make_row(next(each for each in figures.FIGURES if each.name == name), records)


TLS = "TLS / plain, batch 100"
PLAIN, CIPHERED = "batch100_targets1", "batch100_targets1_tls"


class FiguresTest(unittest.TestCase):
    def test_every_step_a_figure_needs_exists_and_the_other_way_round(self):
        needed = {name for figure in figures.FIGURES for name in figure.needs}
        self.assertEqual(needed, {step.name for step in steps.STEPS})
        self.assertEqual(len(steps.STEPS), len({step.name for step in steps.STEPS}))

    def test_a_ratio_is_the_median_of_the_rounds_ratios(self):
        records = [record(PLAIN, 0, hooks_per_s=100), record(CIPHERED, 0, hooks_per_s=50),
                   record(CIPHERED, 1, hooks_per_s=9), record(PLAIN, 1, hooks_per_s=10),
                   record(PLAIN, 2, hooks_per_s=1000), record(CIPHERED, 2, hooks_per_s=600)]
        found = row(TLS, records)
        self.assertAlmostEqual(found["value"], 0.6)
        self.assertAlmostEqual(found["min"], 0.5)
        self.assertAlmostEqual(found["max"], 0.9)
        self.assertEqual((found["runs"], found["others_percent"]), (3, 2.0))
        self.assertEqual((found["floor_met"], found["aim_met"]), (True, False))

    def test_a_round_without_one_of_its_steps_does_not_count(self):
        records = [record(PLAIN, 0, hooks_per_s=100), record(CIPHERED, 1, hooks_per_s=50)]
        self.assertEqual(row(TLS, records)["problem"], "not run")
        records += [{"step": PLAIN, "round": 1, "problem": "FAILED: no hook came"}]
        self.assertEqual(row(TLS, records)["problem"], f"{PLAIN}: FAILED: no hook came")

    def test_limits(self):
        def idle(mib):
            return row("idle daemon", [record("idle_daemon", 0, resident_mib=mib)])
        self.assertTrue(idle(14.9)["floor_met"])
        self.assertFalse(idle(15.1)["floor_met"])
        self.assertIsNone(idle(15.1)["aim_met"])
        for value, floor_met, aim_met in ((0.4, False, False), (0.5, True, False), (0.7, True, True)):
            found = row(TLS, [record(PLAIN, 0, hooks_per_s=1000),
                              record(CIPHERED, 0, hooks_per_s=1000 * value)])
            self.assertEqual((found["floor_met"], found["aim_met"]), (floor_met, aim_met))

    def test_absolute_floors_follow_a_slower_machine(self):
        name = "batch 100, one target, hooks/s"
        for raw, floor in ((200_000, 2e6), (170_000, 2e6), (90_000, 1e6)):
            found = row(name, [record(PLAIN, 0, hooks_per_s=1.5e6),
                               record("unbatched_targets64", 0, raw_hooks_per_s=raw)])
            self.assertEqual(found["floor"], floor)
            self.assertEqual(found["floor_met"], floor < 1.5e6)
        self.assertEqual(row(name, [record(PLAIN, 0, hooks_per_s=1)])["floor"], 2e6)

    def test_libcurl_counts_with_its_best_setting_of_the_round(self):
        records = [record("unbatched_targets64", 0, hooks_per_s=120, raw_hooks_per_s=1)]
        records += [record(step, 0, hooks_per_s=rate)
                    for step, rate in zip(figures.CURL, (10, 40, 30, 20))]
        self.assertEqual(row("unbatched / best of libcurl multi", records)["value"], 3)

    def test_a_value_that_a_step_did_not_give_is_a_problem(self):
        found = row("idle daemon", [record("idle_daemon", 0, other=3)])
        self.assertIn("resident_mib", found["problem"])

    def test_noise(self):
        before = host_noise.parse_stat("cpu  10 1 5 100 4 0 3 2 0 0\ncpu0 1 1 1 1 1 1 1 1\n")
        self.assertEqual(before, (125, 19, 2))
        with self.assertRaises(ValueError):
            host_noise.parse_stat("intr 5\n")

    def test_what_only_root_may_do_is_not_available_to_others(self):
        step = next(each for each in steps.STEPS if each.name == "latency_memory_fifo")
        bench = mock.Mock(build=pathlib.Path("nowhere"), smoke=True)
        for said, expected in (("SCHED_FIFO is not to be had: denied", steps.peers.NotAvailable),
                               ("anything else", RuntimeError)):
            with mock.patch.object(steps, "run_lines", side_effect=RuntimeError(said)):
                with self.assertRaises(expected):
                    step.run(bench, 0)

    def test_the_readme_names_the_command_of_every_figure(self):
        text = (FOLDER.parent / "README.md").read_text()
        rows = [line.split("|")[1].strip() for line in text.splitlines()
                if line.startswith("| ") and not line.startswith("| figure ")]
        self.assertEqual(rows, [figure.name for figure in figures.FIGURES])

    def test_the_table_of_what_was_saved(self):
        with tempfile.TemporaryDirectory() as folder:
            first, second = pathlib.Path(folder) / "1", pathlib.Path(folder) / "2"
            first.write_text(json.dumps(record("idle_daemon", 0, resident_mib=3)) + "\n")
            second.write_text(json.dumps({"step": "soak", "round": 0, "others_percent": 0,
                                          "problem": "FAILED: <why>"}) + "\n")
            command = [sys.executable, FOLDER / "run_figures.py", "--from", first, "--from", second]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            lines = done.stdout.splitlines()
            self.assertEqual(len(lines), 2 + len(figures.FIGURES))
            for words in ("idle daemon .*<= 15.00 MiB +- +3.00 MiB.* yes +- +2.0 +0.5 +1",
                          "growth from .* 0  soak: FAILED: <why>", "TLS / plain.* 0  not run"):
                self.assertRegex(done.stdout, words)
            found = subprocess.run(command + ["--json", "--only", "idle"], capture_output=True,
                                   text=True, timeout=60)
            self.assertEqual(json.loads(found.stdout)["value"], 3)
            first.write_text("{}\n")
            bad = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(bad.returncode, 1)
            self.assertIn("1:1: not a record of --save", bad.stderr)


if __name__ == "__main__":
    unittest.main()
