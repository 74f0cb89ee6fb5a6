#!/usr/bin/env python3
"""The house style as a test: include graph, sizes, banned calls, registered files, the co_await lint.

  tidy_test.py [ROOT]       checks the tree; prints `file:line: rule: what`, exit code 1 if there is anything
  tidy_test.py --self-test  checks every rule on a good and a bad sample (tidy_samples.py)

Where a rule is wrong for one line: `// tidy-allow: RULE: reason` on it or on the line above.
"""

import os
import re
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
FOLDERS = ("engine", "store", "config", "cli", "bench", "tests")
LINES_MAX = 700
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

# Which includes from the repo a file of a layer may have, by prefix. Everything that is not listed is forbidden.
LAYERS = (
    ("engine/include/postbag/", ("postbag/",)),
    ("engine/pure/", ("postbag/", "engine/pure/")),
    ("engine/", ("postbag/", "engine/")),
    ("store/", ("postbag/", "store/")),
    ("config/", ("postbag/", "config/")),
    ("cli/", ("postbag/", "engine/", "store/", "config/", "cli/")),
    ("bench/", ("postbag/", "engine/", "store/", "config/", "cli/", "bench/")),
    ("tests/", ("postbag/", "engine/", "store/", "config/", "cli/", "bench/", "tests/")),
)

# Headers that cost seconds: how many .cc files outside tests/ and bench/ may reach each, through our headers too.
HEAVY = (
    ("Beast", r"boost/beast", 6),
    ("TLS", r"boost/asio/ssl|openssl/ssl\.h", 6),
    ("toml++", r"toml\+\+|toml\.hpp", 2),
    ("CLI11", r"CLI/", 6),
    ("spdlog", r"spdlog/", 2),
    ("SQLite", r"SQLiteCpp/|sqlite3\.h", 12),
)
# Where a heavy header may be named at all, tests and benchmarks apart.
HOMES = (
    (r"boost/beast", r"^(engine/shell/http|cli)/"),
    (r"boost/asio/ssl|openssl/ssl\.h", r"^(engine/shell/http|cli)/"),
    (r"toml\+\+|toml\.hpp", r"^config/"),
    (r"CLI/", r"^cli/"),
    (r"spdlog/", r"^cli/"),
    (r"SQLiteCpp/|sqlite3\.h", r"^store/"),
)

# engine/pure: no clock, no I/O, no thread.
PURE_INCLUDES = (r"boost/asio|boost/beast|openssl/|sqlite|SQLiteCpp|sys/|netinet/|arpa/|"
                 r"(thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|iostream|fstream|"
                 r"filesystem|unistd\.h|netdb\.h|fcntl\.h|poll\.h)$")
PURE_WORDS = (r"std::(this_thread|j?thread|(shared_|recursive_)?mutex|condition_variable|async|random_device|cout|"
              r"cerr)\b|(system|steady|high_resolution)_clock::now|\b(clock_gettime|gettimeofday|getenv)\s*\(")

# (rule, files, pattern, what to do instead); the pattern sees code without comments and strings.
BANNED = (
    ("sleep", r"^tests/", r"\bsleep_(for|until)\b|\bu?sleep\s*\(|\bnanosleep\s*\(", "wait for a real event, or use virtual time"),
    ("port", r"^tests/", r"\bhtons\s*\(\s*[1-9]\d*\s*\)|\bendpoint\s*[({][^;]*,\s*[1-9]\d{3,4}\s*[)}]", "bind port 0"),
    ("detached", r"^(?!tests/)", r"\bdetached\b", "give co_spawn a handler: detached swallows exceptions"),
    ("print", r"^(engine|store|config)/", r"std::(cout|cerr|clog)\b|\b(printf|puts)\s*\(", "a library prints nothing: use the Logger"),
    ("c-call", r"", r"\b(strcpy|strcat|sprintf|gets|atoi|atol|strtok|rand|srand)\s*\(", "use the safe one"),
    ("using-std", r"", r"\busing\s+namespace\s+std\s*;", "name what you use"),
)
# The same for code with its strings.
BANNED_TEXT = (
    ("port", r"^tests/(?!config)", r"listen\s*=\s*\\?\"[^\"\s]*:[1-9]\d*\\?\"|--listen[= \",]+[^\"\s]*:[1-9]\d*\"", "listen on port 0"),
    ("todo", r"", r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))", "name the issue: TODO(#12)"),
    ("machine-path", r"", "/wo" + r"rk/(main|shared)|/tm" + r"p/b-|/ro" + "ot/", "a path of one machine"),
)


class Source:
    """One file: `text` as it is, `code` with comments blanked, `bare` with string contents blanked too."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.lines = text.split("\n")
        self.code, self.bare = blank(text)
        self.includes = [(text.count("\n", 0, m.start()) + 1, m.group(1), m.group(2)) for m in
                         re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', self.code, re.M)]

    def line_of(self, offset):
        return self.text.count("\n", 0, offset) + 1


def blank(text):
    """Comments (and, in the second result, the insides of literals) become spaces; offsets and lines stay."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^()\\ ]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|'
                       r"(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'", re.S)

    def spaces(part):
        return re.sub(r"[^\n]", " ", part)

    code, bare, last = [], [], 0
    for m in token.finditer(text):
        before, part = text[last:m.start()], m.group(0)
        comment = part.startswith("/")
        code += [before, spaces(part) if comment else part]
        include = re.search(r"#[ \t]*include[ \t]*$", before)
        inside = part if include else part[0] + spaces(part[1:-1]) + part[-1]
        bare += [before, spaces(part) if comment else inside]
        last = m.end()
    return "".join(code) + text[last:], "".join(bare) + text[last:]


def match_bracket(text, start):
    """The offset of the bracket that closes the one at `start`, or the end."""
    pairs, depth = {"(": ")", "[": "]", "{": "}"}, 0
    opening, closing = text[start], pairs[text[start]]
    for i in range(start, len(text)):
        if text[i] == opening:
            depth += 1
        elif text[i] == closing:
            depth -= 1
            if depth == 0:
                return i
    return len(text)


# --- Checks of one file. Each yields (line, rule, message). ---


def check_text(source):
    limit = LINES_MAX
    count = len(source.lines) - 1
    if count > limit:
        yield 1, "file-length", f"{count} lines, at most {limit}"
    if source.text and not source.text.endswith("\n"):
        yield len(source.lines), "whitespace", "no newline at the end"
    for number, line in enumerate(source.lines, 1):
        if len(line) > COLUMNS_MAX and "#include" not in line and "://" not in line:
            yield number, "columns", f"{len(line)} columns, at most {COLUMNS_MAX}"
        if line != line.rstrip() or "\t" in line:
            yield number, "whitespace", "a tab, a carriage return or blanks at the end"
    if source.path.endswith(".h") and not re.search(r"^#pragma once$", source.code, re.M):
        yield 1, "pragma-once", "a header begins with #pragma once"


def check_banned(source):
    for table, text in ((BANNED, source.bare), (BANNED_TEXT, source.code)):
        for rule, files, pattern, instead in table:
            if rule == "todo":
                text = source.text
            if re.search(files, source.path):
                for m in re.finditer(pattern, text):
                    yield source.line_of(m.start()), rule, f"{m.group(0).strip()!r}: {instead}"
    if source.path.startswith("engine/pure/"):
        for m in re.finditer(PURE_WORDS, source.bare):
            yield source.line_of(m.start()), "pure", f"{m.group(0)!r}: no clock, I/O or thread in engine/pure"


def check_includes(source):
    allowed = next(prefixes for layer, prefixes in LAYERS if source.path.startswith(layer))
    for line, kind, name in source.includes:
        if kind == '"' and not name.startswith(allowed):
            yield line, "include-graph", f'"{name}": this layer may include {", ".join(allowed)}'
        if source.path.startswith("engine/pure/") and re.match(PURE_INCLUDES, name):
            yield line, "pure", f"<{name}>: no clock, I/O or thread in engine/pure"
        if source.path.startswith("engine/include/") and kind == "<" and not re.fullmatch(r"[a-z0-9_]+", name):
            yield line, "public-header", f"<{name}>: a public header includes the standard library alone"
        for pattern, home in HOMES:
            if re.match(pattern, name) and not re.search(home + "|^(tests|bench|engine/pure|engine/include)/", source.path):
                yield line, "heavy-header", f"<{name}> belongs to {home}"
    own = re.sub(r"\.cc$", ".h", source.path)
    names = [name for _, _, name in source.includes]
    if own != source.path and own in names and names[0] != own:
        yield source.includes[0][0], "own-header-first", f'"{own}" comes first'


def table_lines(text, begin, end):
    """Lines of brace initialisers: a table of cases is data, however long."""
    lines = 0
    while m := re.compile(r"=\s*\{").search(text, begin, end):
        begin = match_bracket(text, m.end() - 1)
        lines += text.count("\n", m.end(), begin)
    return lines


def check_functions(source):
    """Function bodies, by braces: a brace at namespace or class level whose head has parentheses opens a function."""
    text = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), source.bare, flags=re.M)
    head, i = 0, 0
    while i < len(text):
        c = text[i]
        if c == ";" or c == "}":
            head = i + 1
        elif c == "(":
            i = match_bracket(text, i)
        elif c == "{":
            before = text[head:i]
            words = before.strip()
            if re.match(r"(template\b.*>\s*)?(inline\s+)?(namespace|class|struct|union|enum|extern)\b(?![^{]*\))", words, re.S):
                head = i + 1
            elif "(" not in words or (before and re.search(r"[\w>=]$", before)) or re.search(r"=\s*$", before):
                i = match_bracket(text, i)  # an initialiser
            else:
                end = match_bracket(text, i)
                begin = head + len(before) - len(before.lstrip())
                lines = text.count("\n", begin, end) + 1 - table_lines(text, i, end)
                if lines >= FUNCTION_LINES_MAX:
                    yield source.line_of(begin), "function-length", f"{lines} lines, fewer than {FUNCTION_LINES_MAX} wanted"
                i, head = end, end + 1
        i += 1


# g++ 12 destroys aggregate and capturing-lambda temporaries twice in a full-expression with co_await.
TRIVIAL = re.compile(r"(std::)?(chrono::\w+|size_t|u?int(8|16|32|64)_t|string_view|byte|pair\s*<.*>)$|"
                     r"\b(int|bool|char|long|double|Duration|TimePoint|error_code|executor_work_guard)$", re.S)
BLOCK_WORDS = r"\b(else|do|try|const|noexcept|override|final|mutable|default\s*:|case\s[^?]*:)\s*$|[;{})]\s*$|->\s*[\w:<>,\s&*]+$"


def opens_lambda(text, at):
    if text[at + 1:at + 2] == "[" or text[at - 1:at] == "[":
        return False  # an attribute
    before = text[max(0, at - 40):at].rstrip()
    return not before or before[-1] in "(,={;}&|!?:<>+" or bool(re.search(r"\b(co_)?(return|await|yield)$", before))


def split_lambdas(text):
    """Replaces lambdas by markers of the same length and gives their bodies apart: (text, [(offset, body)])."""
    bodies, at = [], -1
    while (at := text.find("[", at + 1)) >= 0:
        if not opens_lambda(text, at):
            continue
        close = match_bracket(text, at)
        brace = close + 1
        while brace < len(text) and text[brace] not in "{;})":
            brace = match_bracket(text, brace) + 1 if text[brace] == "(" else brace + 1
        if text[brace:brace + 1] != "{":
            continue
        end = match_bracket(text, brace)
        body = text[brace + 1:end]
        captures = [c.strip() for c in text[at + 1:close].split(",") if c.strip()]
        marker = "@value" if any(c[0] != "&" and c != "this" for c in captures) else "@plain"
        called = re.match(r"\s*\(", text[end + 1:])
        if called and captures and re.search(r"\bco_(await|return|yield)\b", body):
            marker += "@called"
        bodies.append((brace + 1, body))
        text = text[:at] + marker + re.sub(r"[^\n]", " ", text[at:end + 1])[len(marker):] + text[end + 1:]
    return text, bodies


def statements(text, base):
    """Full expressions, roughly: (offset, text with `{` only where a brace builds a value)."""
    begin, depth, i = 0, 0, 0
    while i < len(text):
        c = text[i]
        if c == "{":
            words = text[begin:i]
            block = (not words.strip() or re.search(BLOCK_WORDS, words) or re.match(
                r"\s*(template\b.*>\s*)?(inline\s+)?(namespace|class|struct|union|enum|extern)\b[^=(]*$", words, re.S))
            if block and words.count("(") <= words.count(")"):
                yield base + begin, words
                begin = i + 1
            else:
                i = match_bracket(text, i)
        elif c == "}" or c == ";":
            yield base + begin, text[begin:i]
            begin = i + 1
        i += 1
    yield base + begin, text[begin:]


def check_co_await(source):
    if not re.search(r"co_|awaitable", source.bare):
        return
    work = [(0, source.bare)]
    while work:
        base, text = work.pop()
        text, bodies = split_lambdas(text)
        work += [(base + offset, body) for offset, body in bodies]
        for offset, statement in statements(text, base):
            line = source.line_of(offset + len(statement) - len(statement.lstrip()))
            if "@called" in statement:
                yield line, "co-lambda", "a coroutine lambda that is called at once loses its captures: pass the function"
            if re.search(r"awaitable<[^;]*\([^;]*=\s*[\w:]*\{", statement, re.S):
                yield line, "co-default", "no `= {}` default on a function that returns an awaitable"
            if not re.search(r"\bco_(await|yield)\b", statement):
                continue
            if "@value" in statement:
                yield line, "co-await", "a lambda with captures in a statement with co_await: name it first"
            for m in re.finditer(r"\{", statement):
                if not TRIVIAL.search(statement[:m.start()].rstrip()):
                    yield line, "co-await", "braces in a statement with co_await: name the value first"
                    break


FILE_CHECKS = (check_text, check_banned, check_includes, check_functions, check_co_await)


# --- Checks of the tree. Each yields (path, line, rule, message). ---


def check_heavy(sources):
    reached = {}

    def reach(path):
        """Every <header> that a file sees, through our own headers too."""
        if path not in reached:
            reached[path] = set()
            names = sources[path].includes if path in sources else []
            for _, kind, name in names:
                inner = "engine/include/" + name if name.startswith("postbag/") else name
                reached[path] |= {name} if kind == "<" else reach(inner)
        return reached[path]

    product = [p for p in sources if p.endswith(".cc") and not p.startswith(("tests/", "bench/"))]
    for title, pattern, most in HEAVY:
        users = sorted(p for p in product if any(re.match(pattern, name) for name in reach(p)))
        if len(users) > most:
            yield users[-1], 1, "heavy-header", f"{title} in {len(users)} .cc files, at most {most}: {', '.join(users)}"


def check_registered(sources, cmake):
    listed = []
    for path, text in cmake.items():
        text = re.sub(r"#[^\n]*", "", text)
        if re.search(r"file\s*\(\s*GLOB[^)]*\.cc", text):
            yield path, 1, "cmake-glob", "sources are listed by hand"
        for name in re.findall(r"[\w./${}-]+\.cc\b", text):
            name = re.sub(r"^\$\{(PROJECT|CMAKE)_SOURCE_DIR\}/", "/", name)
            if "$" not in name:
                full = name[1:] if name.startswith("/") else os.path.join(os.path.dirname(path), name)
                listed.append(os.path.normpath(full))
    included = {"engine/include/" + name if name.startswith("postbag/") else name
                for source in sources.values() for _, kind, name in source.includes if kind == '"'}
    for path in sources:
        if path.endswith("_test.cc") and listed.count(path) != 1:
            yield path, 1, "unregistered", f"a test stands in exactly one CMake block, this one in {listed.count(path)}"
        elif path.endswith(".cc") and path not in listed:
            yield path, 1, "dead-file", "in no CMakeLists.txt"
        elif path.endswith(".h") and path not in included and not path.startswith("engine/include/"):
            yield path, 1, "dead-file", "included by nothing"
    for path in sorted(set(listed) - set(sources)):
        yield path, 1, "missing-file", "named in a CMakeLists.txt, but not there"


def check_one_definition(sources):
    """Two types of one name in namespace postbag are undefined behaviour as soon as one program links both."""
    first = {}
    for path, source in sorted(sources.items()):
        text = source.bare
        for m in re.finditer(r"^namespace \{", text, re.M):
            end = match_bracket(text, m.end() - 1)
            text = text[:m.end()] + re.sub(r"[^\n]", " ", text[m.end():end]) + text[end:]
        for m in re.finditer(r"^(?:class|struct|enum class|enum)\s+(\w+)\b(?!::)[^;{()]*\{", text, re.M):
            where = first.setdefault(m.group(1), path)
            if where != path:
                yield path, source.line_of(m.start()), "one-definition", f"{m.group(1)} is defined in {where} too"


# Rows of faults that tests/README.md has to have.
FAULT_ROWS = [f"{group}{i}" for group, last in (("P", 15), ("K", 7), ("X", 5), ("Y", 6)) for i in range(1, last + 1)]


def check_named_tests(files):
    """A test that a page names as proof exists."""
    known = set()
    for path, text in files.items():
        if path.startswith("tests/") and path.endswith(".cc"):
            known |= {f"{m[0]}.{m[1]}" for m in re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", text, re.M)}
        if path.endswith("CMakeLists.txt"):
            known |= set(re.findall(r"add_test\(NAME (\w+)", text))
    for path in ("README.md", "tests/README.md"):
        text = files.get(path, "")
        for m in re.finditer(r"`([A-Z]\w*\.[A-Z]\w*|kill_test\w*|one_sqlite)`", text):
            if m.group(1) not in known:
                yield path, text.count("\n", 0, m.start()) + 1, "named-test", f"there is no test {m.group(1)}"
    if "tests/README.md" in files:
        rows = re.findall(r"^\| ([PKXY]\d+) \|", files["tests/README.md"], re.M)
        for row in FAULT_ROWS:
            if rows.count(row) != 1:
                yield "tests/README.md", 1, "fault-row", f"{row} stands in the table {rows.count(row)} times, not once"


def check_tree(files):
    """`files`: path -> text. Returns sorted (path, line, rule, message)."""
    sources = {p: Source(p, t) for p, t in files.items() if p.endswith((".h", ".cc"))}
    cmake = {p: t for p, t in files.items() if p.endswith(("CMakeLists.txt", ".cmake"))}
    found = [(p, *finding) for p, s in sources.items() for check in FILE_CHECKS for finding in check(s)]
    found += check_heavy(sources)
    found += check_registered(sources, cmake)
    found += check_one_definition(sources)
    found += check_named_tests(files)

    def allowed(path, line, rule):
        near = sources[path].lines[max(0, line - 2):line] if path in sources else []
        return any(re.search(rf"// tidy-allow: {rule}: \S", text) for text in near)

    return sorted(set(f for f in found if not allowed(*f[:3])))


def read_tree(root):
    files = {}
    for folder in FOLDERS:
        for where, folders, names in os.walk(os.path.join(root, folder)):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in names:
                if name.endswith((".h", ".cc", ".cmake")) or name == "CMakeLists.txt":
                    path = os.path.join(where, name)
                    with open(path, encoding="utf-8") as file:
                        files[os.path.relpath(path, root)] = file.read()
    for name in ("README.md", "tests/README.md"):
        with open(os.path.join(root, name), encoding="utf-8") as file:
            files[name] = file.read()
    return files


def main(arguments):
    if arguments == ["--self-test"]:
        import tidy_samples
        return tidy_samples.run(check_tree)
    root = arguments[0] if arguments else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    files = read_tree(root)
    found = check_tree(files)
    for path, line, rule, message in found:
        print(f"{path}:{line}: {rule}: {message}")
    sources = sum(p.endswith((".h", ".cc")) for p in files)
    print(f"tidy: {sources} files, {len(found)} findings")
    # A tree without files is a wrong path, not a clean tree.
    return 1 if found or not sources else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
