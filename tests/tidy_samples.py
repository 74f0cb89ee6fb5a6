"""Samples for tidy_test.py --self-test: what each rule must find, and what it must leave alone."""

from tidy_test import FAULT_ROWS

HEAD = "#pragma once\n"
LONG_BODY = "  call();\n" * 70


def good_tree():
    """A small tree without a finding; the bad samples change one file of it."""
    return {
        "engine/CMakeLists.txt": "add_library(e STATIC\n  engine.cc\n  pure/url.cc\n)\n",
        "engine/include/postbag/url.h": HEAD + "#include <string>\nstruct Url { std::string text; };\n",
        "engine/pure/url.h": HEAD + '#include "postbag/url.h"\nint parse(int);\n',
        "engine/pure/url.cc": '#include "engine/pure/url.h"\n\n#include <string>\nint parse(int x) { return x; }\n',
        "engine/engine.cc": '#include "engine/pure/url.h"\n',
        "store/CMakeLists.txt": "add_library(s STATIC store.cc)\n",
        "store/store.cc": '#include "postbag/url.h"\n',
        "cli/CMakeLists.txt": "add_executable(c main.cc)\n",
        "cli/main.cc": '#include "engine/pure/url.h"\n#include "postbag/url.h"\n',
        "tests/CMakeLists.txt": "postbag_test(url_test SOURCES url_test.cc LIBRARIES e)\n",
        "tests/url_test.cc": '#include "engine/pure/url.h"\n',
    }


# (rule, path, text): the tree with this file must give the rule, and no other one.
BAD_FILES = [
    ("include-graph", "engine/engine.cc", '#include "store/store.h"\n'),
    ("include-graph", "engine/pure/url.cc", '#include "engine/pure/url.h"\n#include "engine/shell/shard.h"\n'),
    ("include-graph", "store/store.cc", '#include "engine/pure/url.h"\n'),
    ("include-graph", "cli/main.cc", '#include "tests/support/sink.h"\n'),
    ("include-graph", "cli/main.cc", '#include "main.h"\n'),
    ("pure", "engine/pure/url.cc", '#include "engine/pure/url.h"\n#include <thread>\n'),
    ("pure", "engine/pure/url.cc", '#include "engine/pure/url.h"\n#include <boost/asio/ip/address.hpp>\n'),
    ("pure", "engine/pure/url.cc", "auto t = std::chrono::steady_clock::now();\n"),
    ("pure", "engine/pure/url.cc", "std::mutex m;\n"),
    ("public-header", "engine/include/postbag/url.h", HEAD + "#include <boost/asio.hpp>\n"),
    ("pragma-once", "engine/pure/url.h", "int parse(int);\n"),
    ("own-header-first", "engine/pure/url.cc", '#include <string>\n#include "engine/pure/url.h"\n'),
    ("file-length", "engine/engine.cc", "int x;\n" * 701),
    ("file-length", "tests/url_test.cc", "int x;\n" * 1001),
    ("columns", "engine/engine.cc", "int x;  // " + "x" * 100 + "\n"),
    ("whitespace", "engine/engine.cc", "int x; \n"),
    ("whitespace", "engine/engine.cc", "\tint x;\n"),
    ("whitespace", "engine/engine.cc", "int x;"),
    ("function-length", "engine/engine.cc", "void f() {\n" + LONG_BODY + "}\n"),
    ("function-length", "engine/engine.cc",
     "namespace a {\nclass B {\n  B(int x) : x_{x}, y_(1) {\n" + LONG_BODY + "  }\n};\n}\n"),
    ("function-length", "tests/url_test.cc", "TEST(A, b) {\n" + LONG_BODY + "}\n"),
    ("sleep", "tests/url_test.cc", "void f() { std::this_thread::sleep_for(s); }\n"),
    ("sleep", "tests/url_test.cc", "void f() { usleep(10); }\n"),
    ("port", "tests/url_test.cc", "auto x = htons(8420);\n"),
    ("port", "tests/url_test.cc", "auto x = tcp::endpoint(any(), 8420);\n"),
    ("port", "tests/url_test.cc", 'auto x = "listen = \\"127.0.0.1:8420\\"";\n'),
    ("heavy-header", "engine/engine.cc", "#include <SQLiteCpp/SQLiteCpp.h>\n"),
    ("heavy-header", "cli/main.cc", "#include <toml++/toml.h>\n"),
    ("detached", "engine/engine.cc", "void f() { co_spawn(io, g(), asio::detached); }\n"),
    ("print", "store/store.cc", "void f() { std::cout << 1; }\n"),
    ("c-call", "cli/main.cc", 'void f(char* b) { sprintf(b, "x"); }\n'),
    ("using-std", "cli/main.cc", "using namespace std;\n"),
    ("todo", "cli/main.cc", "// TODO later\n"),
    ("unregistered", "tests/other_test.cc", "int x;\n"),
    ("unregistered", "tests/CMakeLists.txt", "f(a SOURCES url_test.cc)\nf(b SOURCES url_test.cc)\n"),
    ("unregistered", "tests/CMakeLists.txt", "# postbag_test(url_test SOURCES url_test.cc)\n"),
    ("dead-file", "engine/old.cc", "int x;\n"),
    ("dead-file", "engine/old.h", HEAD),
    ("missing-file", "store/CMakeLists.txt", "add_library(s STATIC store.cc gone.cc)\n"),
    ("one-definition", "store/store.cc", "namespace postbag {\nclass Url final : public Base {\n};\n}\n"),
    ("cmake-glob", "cli/CMakeLists.txt", "file(GLOB x *.cc)\nadd_executable(c main.cc)\n"),
]

# Files that must give nothing.
GOOD_FILES = [
    ("engine/engine.cc", '// std::cout << 1; TODO(#12)\nauto x = "std::cout << 1;";\n'),
    ("engine/engine.cc", "int x;\n" * 700),
    ("engine/engine.cc", 'auto r = R"(void f() { " \' )";\nint big = 1\'000\'000;\nchar c = \'{\';\n'),
    ("engine/engine.cc", "const int table[] = {\n" + "    1,\n" * 80 + "};\nint one(int);\n"),
    ("engine/engine.cc", "void f() {\n  const int table[] = {\n" + "    1,\n" * 80 + "  };\n  g(table);\n}\n"),
    ("engine/engine.cc", "class A {\n" + "  int f() { return 1; }\n" * 80 + "};\n"),
    ("engine/engine.cc", "auto o = co::detached;  // tidy-allow: detached: the sample of an exception\n"),
    ("tests/url_test.cc", "auto x = htons(0);\nauto y = tcp::endpoint(any(), 0);\n"),
    ("tests/url_test.cc", 'auto x = "listen = \\"127.0.0.1:0\\"";\n'),
    ("store/store.cc", "struct Url;\nnamespace postbag {\nnamespace {\nstruct Url { int x; };\n}\n}\n"),
    ("cli/main.cc", "#define LONG_MACRO(x) \\\n  do { \\\n    f(x); \\\n  } while (0)\n"),
]

# Bodies of a coroutine. The bad ones crash with g++ 12 (double free); the good ones do not.
BAD_CO_AWAIT = [
    "co_await f(Agg{a, b});",
    "co_await f({.a = 1, .b = name});",
    'co_await f({"a", "b"});',
    'co_await f(std::vector<std::string>{"a", "b"});',
    "co_await g([sp] { use(sp); });",
    "co_await g([=]() mutable { use(sp); });",
    "co_await g([self = shared_from_this()](int x) -> int { return x; });",
    "co_spawn(make_strand(co_await this_coro::executor), [x] { go(x); }, token);",
    "Agg g{co_await a(), 1};",
    "co_return Agg{.a = co_await a()};",
    "v.push_back(Agg{co_await a()});",
    "if (co_await f(Agg{1})) { go(); }",
    "for (auto& x : list) { co_await f(Agg{x}); }",
    "auto x = co_await f(\n    first,\n    Agg{1});",
    "auto run = [&]() -> awaitable<void> { co_await f(Agg{1}); };",
]
GOOD_CO_AWAIT = [
    "Agg value{a, b}; co_await f(std::move(value));",
    "co_await f(make());",
    "co_await g([&] { use(sp); });",
    "co_await g([this] { use(sp); });",
    "auto job = [sp] { use(sp); }; co_await g(std::move(job));",
    "co_return Agg{1, 2};",
    "if (x) { co_await f(); }",
    "if (x) { co_await f(); } else { co_await g(); }",
    "while (true) { auto n = co_await f(table[i]); total[n] = n; }",
    "switch (x) { case 1: { co_await f(); break; } default: { co_await g(); } }",
    "try { co_await f(); } catch (const std::exception& e) { failed = true; }",
    "for (int i = 0; i < 3; ++i) { co_await f(i); }",
    "co_await wait(std::chrono::milliseconds{5});",
    "auto run = [&](int x) -> awaitable<void> { co_await f(x); }; co_await run(1);",
    "struct Local { int x; }; co_await f();",
    "[[maybe_unused]] auto x = co_await f();",
]
BAD_CO_LAMBDA = ["co_spawn(ex, [s]() -> awaitable<void> { co_await f(s); }(), token);"]
BAD_CO_DEFAULT = ["awaitable<int> f(int, Options o = {});"]


def run(check_tree):
    failures = []
    checks = 0

    def expect(what, changes, rules):
        nonlocal checks
        checks += 1
        found = check_tree({**good_tree(), **changes})
        if {f[2] for f in found} != rules:
            failures.append(f"{what!r}: expected {sorted(rules)}, found {found}")

    expect("the good tree", {}, set())
    for rule, path, text in BAD_FILES:
        expect(text[:60], {path: text}, {rule})
    for path, text in GOOD_FILES:
        expect(text[:60], {path: text}, set())
    path = "engine/engine.cc"
    for bodies, rules in ((BAD_CO_AWAIT, {"co-await"}), (GOOD_CO_AWAIT, set()), (BAD_CO_LAMBDA, {"co-lambda"})):
        for body in bodies:
            text = "namespace a {\nawaitable<int> run(int x) {\n  " + body + "\n}\n}  // namespace a\n"
            expect(body, {path: text}, rules)
    for line in BAD_CO_DEFAULT:
        expect(line, {path: line + "\n"}, {"co-default"})

    # A heavy header is counted through our own headers.
    changes = {"config/heavy.h": HEAD + "#include <toml++/toml.h>\n"}
    for count, rules in ((2, set()), (3, {"heavy-header"})):
        names = [f"config/heavy{i}.cc" for i in range(count)]
        changes |= {name: '#include "config/heavy.h"\n' for name in names}
        listed = "".join(f" heavy{i}.cc" for i in range(count))
        changes["config/CMakeLists.txt"] = f"add_library(c STATIC{listed})\n"
        expect(f"{count} files with toml++", dict(changes), rules)

    # Pages that name tests.
    test = {"tests/url_test.cc": '#include "engine/pure/url.h"\n\nTEST(Url, Good) {}\n'}
    table = "".join(f"| {row} | `Url.Good` |\n" for row in FAULT_ROWS)
    for page, text, rules in (("README.md", "`Url.Good`, `url.h`", set()), ("README.md", "`Url.Bad`", {"named-test"}),
                              ("tests/README.md", table, set()), ("tests/README.md", table + "`Url.Bad`", {"named-test"}),
                              ("tests/README.md", table.replace("| P7 |", "| P8 |"), {"fault-row"})):
        expect(text[-30:], {**test, page: text}, rules)

    for failure in failures:
        print(failure)
    print(f"tidy self-test: {checks} samples, {len(failures)} wrong")
    return 1 if failures else 0
