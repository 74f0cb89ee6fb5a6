#!/usr/bin/env python3
"""The program uses one SQLite: a shared library, and none linked in. one_sqlite_test.py PROGRAM"""

import re
import subprocess
import sys


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(program):
    libraries = set(re.findall(r"libsqlite3\S* => (\S+)", output("ldd", program)))
    # T, t, W: the function's code is in the program itself.
    linked_in = [line for line in output("nm", "-C", program).splitlines()
                 if re.search(r" [TtW] sqlite3_(open_v2|step|wal_hook)$", line)]
    print("shared libraries:", *sorted(libraries))
    print("linked in:", *linked_in)
    return 0 if len(libraries) == 1 and not linked_in else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
