#!/usr/bin/env python3
"""bench/plot: a chart for fixed lines has every series and a mark for every line; bad input is told.

  bench_plot_test.py PROGRAM
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

PROGRAM = sys.argv.pop() if len(sys.argv) > 1 else "bench/plot"
SVG = "{http://www.w3.org/2000/svg}"


def delivery(batch, targets, hooks_per_s, **others):
    line = {"case": f"batch{batch}_targets{targets}", "result": "ok", "batch": batch,
            "targets": targets, "in_flight": 16, "tls": 0, "durability": "memory",
            "fail_per_mille": 0, "hooks_per_s": hooks_per_s,
            "hooks_per_s_min": hooks_per_s * 0.9, "hooks_per_s_max": hooks_per_s * 1.1}
    return line | others


def latency(durability, offered, us):
    return {"case": f"latency_{durability}", "result": "ok", "offered_per_s": offered,
            "p50_us": us, "p99_us": us * 4, "p999_us": us * 9, "raw_p50_us": us / 2,
            "raw_p99_us": us, "raw_p999_us": us * 2}


class PlotTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="postbag-plot-")
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name) / "charts"

    def plot(self, text, *files):
        return subprocess.run([sys.executable, PROGRAM, "--out", self.out, *files], input=text,
                              capture_output=True, text=True, timeout=60)

    def plot_lines(self, lines):
        done = self.plot("".join(json.dumps(line) + "\n" for line in lines))
        self.assertEqual(done.returncode, 0, done.stderr)
        return sorted(path.name for path in self.out.iterdir())

    def chart(self, name):
        return xml.etree.ElementTree.parse(self.out / name).getroot()

    def marks(self, root):
        return [each for each in root.iter() if each.get("class") == "mark"]

    def words(self, root):
        return [each.text for each in root.iter(SVG + "text")]

    def tracks(self, root):
        return [[tuple(map(float, place.split(","))) for place in each.get("points").split()]
                for each in root.iter(SVG + "polyline")]

    def test_throughput_against_targets(self):
        lines = [delivery(batch, targets, batch * 20000 - targets)
                 for batch in (1, 100) for targets in (1, 64, 1000)]
        self.assertEqual(self.plot_lines(lines), ["throughput_batch.svg", "throughput_targets.svg"])
        root = self.chart("throughput_targets.svg")
        self.assertEqual(len(self.marks(root)), len(lines))
        for name in ("unbatched", "batch 100", "targets, logarithmic", "hooks/s, logarithmic"):
            self.assertIn(name, self.words(root))
        unbatched, batched = self.tracks(root)
        self.assertEqual(len(unbatched), 3)
        for (x, y), (other_x, other_y) in zip(unbatched, batched):
            self.assertEqual(x, other_x)
            self.assertGreater(y, other_y)  # more hooks are higher up

    def test_throughput_against_batch_size(self):
        lines = [delivery(batch, 1, batch * 20000) for batch in (10, 1, 100)]
        lines += [delivery(batch, 1, batch * 9000, tls=1) for batch in (1, 10, 1000)]
        self.assertEqual(self.plot_lines(lines), ["throughput_batch.svg"])
        root = self.chart("throughput_batch.svg")
        self.assertEqual(len(self.marks(root)), len(lines))
        for name in ("1 target", "1 target, TLS"):
            self.assertIn(name, self.words(root))
        # In the order of x, whatever the order of the lines.
        for track in self.tracks(root):
            self.assertEqual(track, sorted(track))

    def test_runs_of_one_case_are_one_point_with_a_whisker(self):
        lines = [delivery(10, targets, rate) for targets in (1, 10) for rate in (100, 400, 200)]
        self.plot_lines(lines)
        root = self.chart("throughput_targets.svg")
        self.assertEqual(len(self.marks(root)), 2)
        self.assertEqual(self.marks(root)[0].find(SVG + "title").text, "batch 10: 1, 200")
        self.assertEqual(len([each for each in root.iter() if each.get("class") == "whisker"]), 2)

    def test_latency(self):
        lines = [latency(durability, offered, 100 + offered / 1000)
                 for durability in ("memory", "fsync") for offered in (10000, 50000, 90000)]
        self.assertEqual(self.plot_lines(lines), ["latency_fsync.svg", "latency_memory.svg"])
        root = self.chart("latency_memory.svg")
        self.assertEqual(len(self.marks(root)), 3 * 6)
        names = [f"{who} {which}" for who in ("Postbag", "raw client")
                 for which in ("p50", "p99", "p99.9")]
        for name in names + ["latency in microseconds, logarithmic", "offered hooks/s"]:
            self.assertIn(name, self.words(root))

    def test_a_rate_that_was_not_held_has_a_hollow_mark_and_is_no_failure(self):
        lines = [latency("memory", 10000, 100) | {"raw_result": "ok"},
                 latency("memory", 90000, 9000) | {"result": "saturated", "raw_result": "ok"}]
        self.plot_lines(lines)
        root = self.chart("latency_memory.svg")
        hollow = [each for each in self.marks(root) if each.get("fill") == "#ffffff"]
        self.assertEqual([each.find(SVG + "title").text for each in hollow],
                         [f"Postbag {which}: 90k, {us}" for which, us in
                          (("p50", "9k"), ("p99", "36k"), ("p99.9", "81k"))])
        self.assertTrue(any("hollow: more than could be done" in words
                            for words in self.words(root)))

    def test_every_mark_is_inside_the_axes(self):
        self.plot_lines([delivery(1, targets, rate)
                         for targets, rate in ((1, 3), (100000, 9_999_999), (7, 1000))])
        for track in self.tracks(self.chart("throughput_targets.svg")):
            for x, y in track:
                self.assertTrue(78 <= x <= 630 and 62 <= y <= 414, (x, y))

    def test_two_points_are_a_series_only_where_none_has_three(self):
        lines = [delivery(1, targets, 10) for targets in (1, 10, 100)]
        lines += [delivery(100, targets, 10) for targets in (1, 10)]
        self.plot_lines(lines)
        words = self.words(self.chart("throughput_targets.svg"))
        self.assertIn("unbatched", words)
        self.assertNotIn("batch 100", words)

    def test_files_and_names_with_markup(self):
        with tempfile.TemporaryDirectory() as folder:
            names = []
            for targets in (1, 10):
                names.append(pathlib.Path(folder) / str(targets))
                names[-1].write_text(json.dumps(delivery(1, targets, 5, durability="<&>")))
            self.assertEqual(self.plot("", *names).returncode, 0)
        self.assertIn("unbatched, <&>", self.words(self.chart("throughput_targets.svg")))

    def test_other_lines_are_passed_over_and_failed_ones_named(self):
        lines = [delivery(1, 1, 10), delivery(1, 10, 9), delivery(1, 100, 1, result="FAILED"),
                 {"ratio": "a", "to": "b", "median": 1}, {"case": "full_bags", "hooks": 3}]
        done = self.plot("".join(json.dumps(line) + "\n" for line in lines))
        self.assertEqual(done.returncode, 0)
        self.assertIn("standard input:3: batch1_targets100 failed", done.stderr)
        self.assertEqual(len(self.marks(self.chart("throughput_targets.svg"))), 2)

    def test_bad_input(self):
        for text, why in (
                ("", "nothing to draw"),
                (json.dumps(delivery(1, 1, 10)), "nothing to draw"),
                ("\nhooks/s 12\n", "standard input:2: not a line of JSON: 'hooks/s 12'"),
                ("[1]", "standard input:1: not a JSON object"),
                (json.dumps(delivery(1, 1, 1) | {"hooks_per_s": "many"}),
                 "standard input:1: hooks_per_s is not a number"),
                (json.dumps(delivery(1, 0, 10)), "standard input:1: targets is 0"),
                (json.dumps(delivery(1, 1, 10, durability=3)), "durability is not a text"),
                (json.dumps({"case": "latency_os", "result": "ok"}), "offered_per_s is not a")):
            done = self.plot(text)
            self.assertEqual(done.returncode, 65, text)
            self.assertIn(why, done.stderr)
            self.assertFalse(self.out.exists())
        self.assertEqual(self.plot("", "/nonexistent/lines").returncode, 65)


if __name__ == "__main__":
    unittest.main()
