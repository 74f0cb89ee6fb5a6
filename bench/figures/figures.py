"""The figures: what each is made of, its floor and its aim, and the table of them.

Works on the records of steps alone (a dictionary each: step, round, and values or a problem), so
that a table can be made again from records that were saved.
"""

import statistics
from dataclasses import dataclass

# Absolute floors are for a machine on which the raw client makes so many POSTs a second.
RAW_ENOUGH, RAW_USUAL = 170_000, 180_000
CURL = ("curl_poll_16", "curl_poll_64", "curl_socket_action_16", "curl_socket_action_64")


@dataclass
class Figure:
    name: str
    needs: tuple  # names of steps
    value: object  # (values of the steps in one round) -> number
    unit: str = "x"
    at_least: float = None  # floor and aim of what is to be large ...
    at_most: float = None   # ... or small; neither: only told
    aim: float = None
    absolute: bool = False  # its floor and aim are of the usual machine
    note: object = None  # (medians of the steps' values) -> text

    def floor(self):
        return self.at_most if self.at_least is None else self.at_least


def get(step, name):
    return lambda values: values[step][name]


def ratio(step, other, name="hooks_per_s"):
    return lambda values: values[step][name] / values[other][name]


def of_best_curl(values):
    best = max(values[name]["hooks_per_s"] for name in CURL)
    return values["unbatched_targets64"]["hooks_per_s"] / best


def cost(values, case):
    return values[case]["take_cpu_us_per_hook"] + values[case]["deliver_cpu_us_per_hook"]


def cost_ratio(case, other):
    return lambda values: cost(values, case) / cost(values, other)


def against(step, name, scale=1, decimals=0):
    """What the others reached, as a note."""
    return lambda medians: f"{medians[step][name] * scale:,.{decimals}f}"


def latency_note(step):
    def note(medians):
        values = medians[step]

        def ms(name):
            return f"{values[name + '_us'] / 1000:.2f}"
        return (f"{values['offered_per_s']:,.0f}/s; p50 {ms('p50')}, usual p99 {ms('usual_p99')}, "
                f"p99.9 {ms('p999')} ms; "
                f"acknowledged p50 {ms('accepted_p50')}, p99 {ms('accepted_p99')} ms; offered late "
                f"p99 {ms('late_p99')} ms; raw client p99 {ms('raw_p99')}, usual p99 "
                f"{ms('raw_usual_p99')}, offered late p99 "
                f"{ms('raw_late_p99')} ms")
    return note


def waiting(name, step):
    return Figure(name, (step,), get(step, "beyond_payload_bytes_per_hook"), "B", at_most=100,
                  aim=40)


def with_prefix(prefix, note):
    return lambda medians: prefix + note(medians)


FIGURES = [
    Figure("unbatched / raw client", ("unbatched_targets64",), get("unbatched_targets64", "of_raw"),
           at_least=0.75, aim=0.90,
           note=lambda medians: "{hooks_per_s:,.0f} and {raw_hooks_per_s:,.0f} POST/s".format(
               **medians["unbatched_targets64"])),
    Figure("unbatched / best of libcurl multi", ("unbatched_targets64", *CURL), of_best_curl,
           at_least=2.2, aim=2.6,
           note=lambda medians: "libcurl {:,.0f}/s".format(
               max(medians[name]["hooks_per_s"] for name in CURL))),
    Figure("batch 100, one target, hooks/s", ("batch100_targets1",),
           get("batch100_targets1", "hooks_per_s"), "/s", at_least=2e6, aim=4e6, absolute=True),
    Figure("batch 100 / syslog-ng", ("batch100_targets1", "syslog_batch"),
           ratio("batch100_targets1", "syslog_batch"), at_least=3, aim=6,
           note=with_prefix("syslog-ng ", against("syslog_batch", "hooks_per_s"))),
    Figure("batch 100 / undici, strings joined", ("batch100_targets1", "undici_strings"),
           ratio("batch100_targets1", "undici_strings"), at_least=2, aim=4,
           note=with_prefix("undici ", against("undici_strings", "hooks_per_s"))),
    Figure("batch 100 / undici, ready Buffers", ("batch100_targets1", "undici_buffers"),
           ratio("batch100_targets1", "undici_buffers"), at_least=2, aim=4,
           note=with_prefix("undici ", against("undici_buffers", "hooks_per_s"))),
    Figure("batch 100 / undici, hooks made for each request", ("batch100_targets1", "undici_made"),
           ratio("batch100_targets1", "undici_made"),
           note=with_prefix("undici ", against("undici_made", "hooks_per_s"))),
    Figure("batch 100 / raw client, the same bodies made once", ("batch100_targets1",),
           get("batch100_targets1", "of_raw"),
           note=with_prefix("raw client ", against("batch100_targets1", "raw_hooks_per_s"))),
    Figure("1,000 targets / one target, batch 100", ("batch100_targets1000", "batch100_targets1"),
           ratio("batch100_targets1000", "batch100_targets1"), at_least=0.80, aim=0.90,
           note=with_prefix("1,000 targets: ", against("batch100_targets1000", "hooks_per_s"))),
    Figure("1,000 targets / syslog-ng with 1,000 destinations",
           ("batch100_targets1000", "syslog_1000"), ratio("batch100_targets1000", "syslog_1000"),
           at_least=40, note=with_prefix("syslog-ng ", against("syslog_1000", "hooks_per_s"))),
    Figure("CPU per hook / syslog-ng, batch 100", ("batch100_targets1", "syslog_batch"),
           lambda values: (values["batch100_targets1"]["engine_cpu_s_per_million"] /
                           values["syslog_batch"]["cpu_s_per_million"]),
           at_most=1 / 3, aim=1 / 6,
           note=lambda medians: "{:.3f} and {:.3f} us".format(
               medians["batch100_targets1"]["engine_cpu_s_per_million"],
               medians["syslog_batch"]["cpu_s_per_million"])),
    Figure("fsync, steady, batch 100 / syslog-ng reliable", ("durable", "syslog_reliable"),
           lambda values: (values["durable"]["delivered_per_s"] /
                           values["syslog_reliable"]["hooks_per_s"]), at_least=3, aim=6,
           note=with_prefix("syslog-ng ", against("syslog_reliable", "hooks_per_s"))),
    Figure("fsync, steady, batch 100, hooks/s", ("durable",), get("durable", "delivered_per_s"),
           "/s", at_least=430_000, aim=860_000, absolute=True),
    Figure("failed hooks (fsync) / bare SQLite insert", ("fail_rows",),
           lambda values: values["fail_rows"]["fail"] / values["fail_rows"]["bare_insert"],
           at_least=0.6, aim=0.8,
           note=with_prefix("bare insert ", against("fail_rows", "bare_insert"))),
    Figure("failed hooks (memory) / bare SQLite insert", ("fail_rows",),
           lambda values: values["fail_rows"]["fail_rows"] / values["fail_rows"]["bare_insert"],
           at_least=0.6, aim=0.8),
    Figure("NDJSON intake to delivered, memory", ("intake_ndjson_memory",),
           get("intake_ndjson_memory", "delivered_per_s"), "/s", at_least=800_000, aim=1_500_000,
           absolute=True),
    Figure("NDJSON intake to delivered, fsync", ("intake_ndjson_fsync",),
           get("intake_ndjson_fsync", "delivered_per_s"), "/s", at_least=300_000, aim=500_000,
           absolute=True),
    Figure("single-hook POST / constant answer, memory", ("intake_single_memory",),
           get("intake_single_memory", "of_constant"), at_least=0.6, aim=0.8,
           note=lambda medians: "{accepted_per_s:,.0f} and {constant_per_s:,.0f}/s".format(
               **medians["intake_single_memory"])),
    Figure("single-hook POST, fsync", ("intake_single_fsync",),
           get("intake_single_fsync", "accepted_per_s"), "/s",
           note=lambda medians: "{of_constant:.2f} of the constant answer".format(
               **medians["intake_single_fsync"])),
    Figure("TLS / plain, batch 100", ("batch100_targets1_tls", "batch100_targets1"),
           ratio("batch100_targets1_tls", "batch100_targets1"), at_least=0.5, aim=0.7,
           note=with_prefix("TLS ", against("batch100_targets1_tls", "hooks_per_s"))),
    Figure("p99 at half of the peak, memory", ("latency_memory",),
           lambda values: values["latency_memory"]["p99_us"] / 1000, "ms", at_most=1,
           note=latency_note("latency_memory")),
    # What the machine does to both is in both; what is left is what Postbag adds.
    Figure("p99 at half of the peak less the raw client's, memory", ("latency_memory",),
           lambda values: (values["latency_memory"]["p99_us"] -
                           values["latency_memory"]["raw_p99_us"]) / 1000, "ms", at_most=1,
           note=latency_note("latency_memory")),
    # The same with nobody let onto their cores, so that it is the sender's own.
    Figure("p99 at half of the peak, memory, under SCHED_FIFO", ("latency_memory_fifo",),
           lambda values: values["latency_memory_fifo"]["p99_us"] / 1000, "ms", at_most=1,
           note=latency_note("latency_memory_fifo")),
    # The group commit's time is what half of the calls wait for their acknowledgement.
    Figure("p99 at half of the peak less group commit, fsync", ("latency_fsync",),
           lambda values: (values["latency_fsync"]["p99_us"] -
                           values["latency_fsync"]["accepted_p50_us"]) / 1000, "ms", at_most=2,
           note=latency_note("latency_fsync")),
    waiting("bytes beyond payload, full bags", "full_bags_targets1"),
    waiting("bytes beyond payload, half full bags", "half_bags_targets20000"),
    waiting("bytes beyond payload, unbatched", "unbatched_waiting"),
    Figure("bytes per target with a waiting bag", ("one_hook_bags_targets1000000",),
           get("one_hook_bags_targets1000000", "resident_bytes_per_target"), "B", at_most=1024,
           note=lambda _: "1,000,000 targets, one hook of 300 B each"),
    Figure("idle daemon", ("idle_daemon",), get("idle_daemon", "resident_mib"), "MiB", at_most=15),
    Figure("growth from 10 % to 100 % of the soak", ("soak",), get("soak", "growth_mb"), "MiB",
           at_most=1, note=lambda medians: "{hooks:,.0f} hooks".format(**medians["soak"])),
    Figure("CPU per hook, 1,000,000 / 100 targets", ("scale_targets1000000", "scale_targets100"),
           cost_ratio("scale_targets1000000", "scale_targets100"), at_most=2,
           note=lambda medians: "{:.2f} and {:.2f} us".format(
               cost(medians, "scale_targets1000000"), cost(medians, "scale_targets100"))),
    Figure("CPU per hook, 10,000,000 / 1,000,000 waiting",
           ("scale_hooks10000000_targets100", "scale_hooks1000000_targets100"),
           cost_ratio("scale_hooks10000000_targets100", "scale_hooks1000000_targets100"),
           at_most=2, note=lambda medians: "{:.3f} and {:.3f} us, 100 targets".format(
               cost(medians, "scale_hooks10000000_targets100"),
               cost(medians, "scale_hooks1000000_targets100"))),
    Figure("start to first delivery, 1,000,000 pending", ("recovery",),
           get("recovery", "first_delivery_s"), "s", at_most=1,
           note=lambda medians: "all delivered in {all_delivered_s:.2f} s".format(
               **medians["recovery"])),
    Figure("batch 100, one target, in_flight = 1 (default)", ("batch100_targets1_inflight1",),
           get("batch100_targets1_inflight1", "hooks_per_s"), "/s",
           note=lambda medians: "{of_raw:.3f} of the raw client with 16 connections".format(
               **medians["batch100_targets1_inflight1"])),
]


def speed_of(records):
    """POSTs a second of the raw client; 0 where it was not run."""
    rates = [record["values"]["raw_hooks_per_s"] for record in records
             if record["step"] == "unbatched_targets64" and "values" in record]
    return statistics.median(rates) if rates else 0


def floor_factor(raw_per_s):
    """Absolute floors are lower on a machine that is slower as such."""
    return 1 if raw_per_s == 0 or raw_per_s >= RAW_ENOUGH else raw_per_s / RAW_USUAL


def by_round(records, needs):
    """The values of all these steps in each round that has them all."""
    rounds = {}
    for record in records:
        if record["step"] in needs and "values" in record:
            rounds.setdefault(record["round"], {})[record["step"]] = record["values"]
    return [values for _, values in sorted(rounds.items()) if len(values) == len(set(needs))]


def median_values(rounds):
    """The median of every number that all rounds have."""
    medians = {}
    for step, values in rounds[0].items():
        names = [name for name in values if all(name in each[step] for each in rounds)]
        medians[step] = {name: statistics.median(each[step][name] for each in rounds)
                         for name in names}
    return medians


def mean_noise(records, needs, name):
    found = [record[name] for record in records if record["step"] in needs and name in record]
    return round(statistics.mean(found), 1) if found else None


def is_met(figure, value, limit):
    if limit is None:
        return None
    return value <= limit if figure.at_least is None else value >= limit


def make_row(figure, records):
    """What is known of a figure, as a dictionary; `problem` where there is no value."""
    row = {"figure": figure.name, "unit": figure.unit}
    factor = floor_factor(speed_of(records)) if figure.absolute else 1
    floor, aim = (None if limit is None else limit * factor
                  for limit in (figure.floor(), figure.aim))
    row |= {"floor": floor, "aim": aim, "is": "at most" if figure.at_least is None else "at least"}
    problems = [f"{record['step']}: {record['problem']}" for record in records
                if record["step"] in figure.needs and "problem" in record]
    rounds = by_round(records, figure.needs)
    if not rounds:
        return row | {"problem": problems[0] if problems else "not run"}
    try:
        values = [figure.value(each) for each in rounds]
        note = figure.note(median_values(rounds)) if figure.note else ""
    except (KeyError, ZeroDivisionError) as error:
        return row | {"problem": f"a step gave no value for it: {error!r}"}
    value = statistics.median(values)
    if factor != 1:
        note = f"floor and aim times {factor:.2f}" + ("; " + note if note else "")
    if problems:
        note += f"; {len(problems)} runs failed"
    return row | {"value": value, "min": min(values), "max": max(values), "runs": len(values),
                  "floor_met": is_met(figure, value, floor), "aim_met": is_met(figure, value, aim),
                  "others_percent": mean_noise(records, figure.needs, "others_percent"),
                  "steal_percent": mean_noise(records, figure.needs, "steal_percent"),
                  "note": note}


def show(value, unit):
    if value is None:
        return "-"
    if unit == "/s":
        return f"{value:,.0f}"
    if unit == "B":
        return f"{value:,.0f} B"
    digits = 2 if abs(value) >= 1 or value == 0 else 3
    return f"{value:,.{digits}f}" + ("" if unit == "x" else " " + unit)


def yes_no(met):
    return "-" if met is None else "yes" if met else "NO"


def format_table(rows):
    head = ["figure", "floor", "aim", "measured", "min", "max", "floor met", "aim met", "others %",
            "steal %", "runs"]
    lines = [(head, "")]
    for row in rows:
        sign = "<= " if row["is"] == "at most" else ">= "
        limits = ["-" if row[name] is None else sign + show(row[name], row["unit"])
                  for name in ("floor", "aim")]
        if "problem" in row:
            lines.append(([row["figure"], *limits, "-", "-", "-", "-", "-", "-", "-", "0"],
                          row["problem"]))
            continue
        noise = ["-" if row[name] is None else f"{row[name]:.1f}"
                 for name in ("others_percent", "steal_percent")]
        cells = [row["figure"], *limits]
        cells += [show(row[name], row["unit"]) for name in ("value", "min", "max")]
        cells += [yes_no(row["floor_met"]), yes_no(row["aim_met"]), *noise, str(row["runs"])]
        lines.append((cells, row["note"]))
    widths = [max(len(cells[i]) for cells, _ in lines) for i in range(len(head))]
    text = []
    for cells, note in lines:
        shown = [cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i])
                 for i, cell in enumerate(cells)]
        text.append(("  ".join(shown) + "  " + note).rstrip())
    return "\n".join(text)
