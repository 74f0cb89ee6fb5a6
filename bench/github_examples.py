#!/usr/bin/env python3
"""GitHub's webhook payloads as NDJSON, from the npm package @octokit/webhooks-examples (MIT), fetched at run time.

  github_examples.py [--hooks N] [--out FILE]                   one payload a line, for `github_delivery --file`
  github_examples.py --intake URL [--targets M] [--out FILE]    intake objects, for `postbag send` and POST /v1/hooks;
                                                                hook i goes to URL/(i % M)
  github_examples.py --run PROGRAM [ARGS...]                    fetches, then runs `PROGRAM --file FILE ARGS...`
"""

import argparse
import glob
import json
import os
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "@octokit/webhooks-examples"

# Payloads are delivered byte for byte, so they are written in more than one way: compact, with blanks, all ASCII.
WRITERS = (
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    lambda value: json.dumps(value, ensure_ascii=False),
    lambda value: json.dumps(value, ensure_ascii=True, separators=(" ,", " : ")),
)


def fetch(folder):
    """(event name, payload) of every example of every GitHub version."""
    try:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                       stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        sys.exit("npm is needed to fetch " + PACKAGE)
    except subprocess.CalledProcessError as error:
        sys.exit(f"npm pack {PACKAGE} failed with {error.returncode}")
    with tarfile.open(glob.glob(os.path.join(folder, "*.tgz"))[0]) as archive:
        members = [m for m in archive.getmembers() if m.isfile() and m.name.endswith("/index.json")]
        for member in sorted(members, key=lambda m: m.name):
            for event in json.load(archive.extractfile(member)):
                for payload in event["examples"]:
                    yield event["name"], payload


def write(examples, hooks, intake, targets, out):
    for i in range(hooks):
        event, payload = examples[i % len(examples)]
        # The number makes every hook different, so that a swap of two is seen.
        text = WRITERS[i % len(WRITERS)]({"postbag_example": i, **payload})
        if intake:
            target = f"{intake.rstrip('/')}/{i % targets}"
            text = f'{{"target": {json.dumps(target)}, "event": {json.dumps(event)}, "data": {text}}}'
        out.write(text + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hooks", type=int, default=10_000)
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--intake", metavar="URL")
    parser.add_argument("--out", metavar="FILE")
    parser.add_argument("--run", metavar="PROGRAM")
    arguments, rest = parser.parse_known_args()
    if rest and not arguments.run:
        parser.error("unknown: " + " ".join(rest))
    with tempfile.TemporaryDirectory(prefix="postbag-examples-") as folder:
        examples = list(fetch(folder))
        print(f"{len(examples)} example payloads of {PACKAGE}", file=sys.stderr)
        if arguments.run:
            path = os.path.join(folder, "payloads.ndjson")
            with open(path, "w", encoding="utf-8") as out:
                write(examples, arguments.hooks, None, 0, out)
            command = [arguments.run, "--file", path, "--targets", str(arguments.targets), *rest]
            return subprocess.run(command, check=False).returncode
        if arguments.out:
            with open(arguments.out, "w", encoding="utf-8") as out:
                write(examples, arguments.hooks, arguments.intake, arguments.targets, out)
        else:
            write(examples, arguments.hooks, arguments.intake, arguments.targets, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
