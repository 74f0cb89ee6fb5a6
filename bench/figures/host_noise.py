"""What else the machine did meanwhile: a figure that was measured beside other work is seen."""

import os
import pathlib
import resource


def parse_stat(text):
    """Ticks of all cores from /proc/stat: (all, at work, stolen by the host)."""
    for line in text.splitlines():
        if line.startswith("cpu "):
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, line.split()[1:9])
            everything = user + nice + system + idle + iowait + irq + softirq + steal
            # Interrupts too: most kernels count them as time of the process that they stop.
            return everything, everything - idle - iowait - steal, steal
    raise ValueError("no line for all cores in /proc/stat")


def own_cpu_s():
    """Of this process and of those it started and waited for."""
    return sum(used.ru_utime + used.ru_stime for used in map(
        resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


class NoiseMeter:
    """Between two instants, in percent of all cores: what others used, and what the host took."""

    def __init__(self):
        self.ticks_per_s = os.sysconf("SC_CLK_TCK")
        self.start = self.read()

    @staticmethod
    def read():
        try:
            return (*parse_stat(pathlib.Path("/proc/stat").read_text()), own_cpu_s())
        except (OSError, ValueError):
            return None

    def finish(self):
        end = self.read()
        if self.start is None or end is None or end[0] <= self.start[0]:
            return {}
        everything, busy, stolen = (b - a for a, b in zip(self.start[:3], end[:3]))
        own = (end[3] - self.start[3]) * self.ticks_per_s
        return {"others_percent": round(max(0, busy - own) / everything * 100, 1),
                "steal_percent": round(stolen / everything * 100, 1)}
