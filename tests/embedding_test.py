"""Embeds Postbag in a project of its own, both ways that the README names.

embedding_test.py SOURCE_DIR BUILD_DIR EXAMPLE: BUILD_DIR is a finished build, EXAMPLE the README's example.
"""
import os
import re
import subprocess
import sys
import tempfile

source_dir, build_dir, example = sys.argv[1:]
project = os.path.join(source_dir, "tests", "embedding")


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def cached(folder, key):
    with open(os.path.join(folder, "CMakeCache.txt"), encoding="utf-8") as cache:
        found = re.search(rf"^{key}:\w+=(.*)$", cache.read(), re.MULTILINE)
    return found.group(1) if found else None


def installed(folder):
    prefix = os.path.join(folder, "prefix")
    run("cmake", "--install", build_dir, "--prefix", prefix)
    run(os.path.join(prefix, "bin", "postbag"), "version")
    tree = os.path.join(folder, "installed")
    run("cmake", "-S", project, "-B", tree, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", f"-DEXAMPLE={example}")
    run("ninja", "-C", tree)


def subdirectory(folder):
    """What only the program, the tests and the benchmarks need is not looked for, and nothing of the parent's changes."""
    tree = os.path.join(folder, "subdirectory")
    unneeded = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("spdlog", "GTest", "benchmark", "Python3")]
    run("cmake", "-S", project, "-B", tree, "-G", "Ninja", *unneeded, f"-DPOSTBAG_SOURCE={source_dir}",
        f"-DEXAMPLE={example}")
    if cached(tree, "CMAKE_BUILD_TYPE"):
        sys.exit("the build type of the parent project was set")
    if cached(tree, "CCACHE_PROGRAM"):
        sys.exit("how the parent project compiles was changed")
    prefix = os.path.join(folder, "parent")
    run("cmake", "--install", tree, "--prefix", prefix)
    if os.path.exists(prefix):
        sys.exit(f"a parent project that installs itself installs Postbag too: {os.listdir(prefix)}")
    commands = run("ninja", "-C", tree, "-t", "targets", "all")
    for unwanted in ("postbag_cli", "_test", "_bench"):
        if unwanted in commands:
            sys.exit(f"{unwanted} is built in a project that embeds the library")
    # The library itself is built by the tests' own build; here the header and its flags are what is asked.
    (unit,) = set(re.findall(r"CMakeFiles/embedding\.dir\S*\.o", commands))
    run("ninja", "-C", tree, unit)


with tempfile.TemporaryDirectory() as scratch:
    installed(scratch)
    subdirectory(scratch)
