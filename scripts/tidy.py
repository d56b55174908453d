#!/usr/bin/env python3
"""Checks what rustfmt, clippy and cargo-deny do not: the rules of CONTRIBUTING.md that a machine can see.

    tidy.py                 all checks; exit status 1 when one fails
    tidy.py --only links    one check
    tidy.py --fix           lowers or drops the exceptions that are no longer needed, then checks

Only Python's standard library. Reads the files that git knows or would add; writes nothing without --fix.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXCEPTIONS = ROOT / "scripts" / "tidy-exceptions.txt"

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 75  # "about 70"

# A crate uses only the crates listed for it, and nothing uses those who may use all.
LADDER = ["proto", "chat", "storage", "cluster", "node"]
BESIDE = {"web": [], "node": ["web"]}
MAY_USE_ALL = ["bench", "chaos-tests"]

FEATURE_STATES = ["works", "partly", "not yet"]
ADR_SECTIONS = ["Context", "Decision", "Consequences"]


def project_files():
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout.decode()
    return sorted(p for p in out.split("\0") if p and (ROOT / p).is_file())


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


# --- Rust source ------------------------------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""//[^\n]*                                  # line comment
      | /\*                                       # block comment, nested: finished by hand
      | b?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes) # raw string
      | b?"(?:\\.|[^"\\])*"                       # string
      | b?'(?:\\(?:u\{[^}]*\}|.[0-9a-fA-F]{0,2})|[^'\\\n])'  # character; a lifetime has no closing quote
    """,
    re.VERBOSE | re.DOTALL,
)


def blank_out(code):
    """The code with comments and literals replaced by blanks, line breaks kept."""
    out, at = [], 0
    while True:
        found = TOKEN.search(code, at)
        if not found:
            return "".join(out) + code[at:]
        end = found.end()
        if found.group().startswith("/*"):
            depth = 1
            while depth and end < len(code):
                if code.startswith("/*", end):
                    depth, end = depth + 1, end + 2
                elif code.startswith("*/", end):
                    depth, end = depth - 1, end + 2
                else:
                    end += 1
        out.append(code[at:found.start()])
        out.append(re.sub(r"[^\n]", " ", code[found.start():end]))
        at = end


def functions(code):
    """(name, first line, number of lines) of every function with a body."""
    code = blank_out(code)
    for found in re.finditer(r"\bfn\s+(?:r#)?(\w+)", code):
        at, depth = found.end(), 0
        while at < len(code):  # to the body, past parentheses, generics and array types
            ch = code[at]
            if ch in "([":
                depth += 1
            elif ch in ")]":
                depth -= 1
            elif depth == 0 and ch in "{;":
                break
            at += 1
        if at >= len(code) or code[at] == ";":
            continue
        braces, end = 0, at
        while end < len(code):
            braces += {"{": 1, "}": -1}.get(code[end], 0)
            if braces == 0:
                break
            end += 1
        first = code.count("\n", 0, found.start()) + 1
        yield found.group(1), first, code.count("\n", found.start(), end) + 1


def load_exceptions():
    entries = {}
    if EXCEPTIONS.exists():
        for number, line in enumerate(EXCEPTIONS.read_text().splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                fields = line.split(None, 2)
                if len(fields) < 3 or not fields[1].isdigit():
                    raise SystemExit(f"scripts/tidy-exceptions.txt:{number}: want `WHERE LINES reason`")
                entries[fields[0]] = int(fields[1])
    return entries


def oversized():
    """Where a file or a function is too long -> (lines, limit)."""
    found = {}
    for path in project_files():
        if not path.endswith(".rs"):
            continue
        code = read(path)
        lines = code.count("\n")
        if lines > FILE_LINES_MAX:
            found[path] = (lines, FILE_LINES_MAX, path)
        for name, first, count in functions(code):
            if count > FUNCTION_LINES_MAX:
                where = f"{path}::{name}"
                if count > found.get(where, (0,))[0]:
                    found[where] = (count, FUNCTION_LINES_MAX, f"{path}:{first}: fn {name}")
    return found


def check_sizes():
    allowed, found = load_exceptions(), oversized()
    for where, (lines, limit, shown) in found.items():
        if where not in allowed:
            yield f"{shown}: {lines} lines, the limit is {limit}: split it along its story"
        elif lines > allowed[where]:
            yield f"{shown}: {lines} lines, its exception ends at {allowed[where]}: exceptions only shrink"
        elif lines < allowed[where]:
            yield f"{shown}: {lines} lines, its exception still says {allowed[where]}: `make fix` lowers it"
    for where in allowed.keys() - found.keys():
        yield f"scripts/tidy-exceptions.txt: {where} needs no exception any more: `make fix` drops it"


def fix_exceptions():
    if not EXCEPTIONS.exists():
        return
    found, kept = oversized(), []
    for line in EXCEPTIONS.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            where, limit, reason = line.split(None, 2)
            if where not in found:
                continue
            line = f"{where} {min(int(limit), found[where][0])} {reason}"
        kept.append(line)
    EXCEPTIONS.write_text("\n".join(kept) + "\n")


def check_headers():
    for path in project_files():
        if path.endswith(".rs"):
            first = next((line for line in read(path).splitlines() if line.strip()), "")
            if not first.startswith("//! "):
                yield f"{path}: opens without a `//!` line that says what it owns, what it does not, and its invariant"


# --- Cargo ------------------------------------------------------------------------------------------------------------


def check_dependencies():
    manifest = read("Cargo.toml")
    section = manifest.split("[workspace.dependencies]", 1)[1].split("\n[", 1)[0]
    start = manifest[: manifest.index("[workspace.dependencies]")].count("\n") + 1
    for offset, line in enumerate(section.splitlines()):
        is_entry = re.match(r"[\w-]+(\.[\w-]+)*\s*=", line)
        if is_entry and "path =" not in line and not re.search(r"[\]}\"]\s*#\s*\S{2}", line):
            yield f"Cargo.toml:{start + offset}: {line.split('=')[0].strip()} carries no one-line reason"

    members = tomllib.loads(manifest)["workspace"]["members"]
    own = set(members)
    for member in members:
        crate = tomllib.loads(read(f"{member}/Cargo.toml"))
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            for name, spec in crate.get(kind, {}).items():
                if not (isinstance(spec, dict) and spec.get("workspace")):
                    yield f"{member}/Cargo.toml: {name} names a version: versions live in [workspace.dependencies]"
                if name in own and name not in may_use(member):
                    yield f"{member}/Cargo.toml: uses {name}: a crate uses only crates above it on the ladder"


def may_use(member):
    if member in MAY_USE_ALL:
        return set(LADDER) | set(BESIDE) | {m for m in MAY_USE_ALL if m != member}
    below = LADDER[: LADDER.index(member)] if member in LADDER else []
    return set(below) | set(BESIDE.get(member, []))


# --- Documents --------------------------------------------------------------------------------------------------------


def without_code(text):
    text = re.sub(r"^(```|~~~).*?^\1", lambda m: "\n" * m.group().count("\n"), text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """The anchors that a forge makes of headings: lower case, punctuation dropped, blanks to hyphens."""
    seen, text = {}, re.sub(r"^(```|~~~).*?^\1", "", read(path), flags=re.M | re.S)
    for title in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, flags=re.M):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        yield slug if count == 0 else f"{slug}-{count}"


def check_links():
    for path in project_files():
        if not path.endswith(".md"):
            continue
        for number, line in enumerate(without_code(read(path)).splitlines(), 1):
            for target in re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", line):
                if re.match(r"[a-z][a-z0-9+.-]*:", target) or target.startswith("//"):
                    continue
                file, _, anchor = target.partition("#")
                there = (ROOT / path).parent / file if file else ROOT / path
                if file.startswith("/") or not there.exists():
                    yield f"{path}:{number}: link to {target} leads nowhere"
                elif anchor and there.suffix == ".md" and anchor not in set(anchors(there.resolve().relative_to(ROOT))):
                    yield f"{path}:{number}: {file or path} has no heading for #{anchor}"


def table_rows(text):
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|") and not re.match(r"\|[\s:|-]+\|$", line):
            yield number, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def check_features():
    """A row that claims to work names its proof, and a test named as proof exists."""
    path = "docs/FEATURES.md"
    if not (ROOT / path).exists():
        return
    tests = {name for p in project_files() if p.endswith(".rs") for name in re.findall(r"\bfn\s+(\w+)", read(p))}
    for number, cells in table_rows(read(path)):
        if len(cells) != 4 or cells[0] == "no.":
            if len(cells) != 4:
                yield f"{path}:{number}: a row has four cells: no., what, state, proved by"
            continue
        state, proof = cells[2], cells[3]
        if state not in FEATURE_STATES:
            yield f"{path}:{number}: state `{state}` is none of {', '.join(FEATURE_STATES)}"
        elif state == "works" and not re.search(r"\w", proof):
            yield f"{path}:{number}: works, but names no proof"
        for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`", proof):
            if name not in tests:
                yield f"{path}:{number}: no test is called {name}"


def check_adrs():
    numbers = {}
    for path in project_files():
        if not path.startswith("docs/adr/"):
            continue
        name = path.removeprefix("docs/adr/")
        found = re.fullmatch(r"(\d{4})-[a-z0-9]+(-[a-z0-9]+)*\.md", name)
        if not found:
            yield f"{path}: want docs/adr/NNNN-title-in-lower-case.md"
            continue
        if found.group(1) in numbers:
            yield f"{path}: number {found.group(1)} belongs to {numbers[found.group(1)]}"
        numbers[found.group(1)] = name
        text = read(path)
        for section in ADR_SECTIONS:
            if not re.search(rf"^## {section}\b", text, flags=re.M):
                yield f"{path}: has no section `## {section}`"
        if not re.search(r"^Status: \S", text, flags=re.M):
            yield f"{path}: has no line `Status: ...`"


# --- All text ---------------------------------------------------------------------------------------------------------

# Written in pieces, so that this file passes its own check.
PLACES = [r"/" + r"root/", r"/" + r"home/\w", r"/" + r"Users/\w", r"(?<![\w.$}])/" + r"work/\w"]


def check_places():
    pattern = re.compile("|".join(PLACES))
    for path in project_files():
        if path == "Cargo.lock" or path.endswith("package-lock.json"):
            continue
        try:
            text = read(path)
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{path}:{number}: names a directory of one machine"
            if re.search(r"^(<{7}|>{7}) ", line):
                yield f"{path}:{number}: merge conflict marker"


def check_make_help():
    makefile = read("Makefile")
    helped = set(re.findall(r"^([a-z0-9-]+):.*## \S", makefile, flags=re.M))
    quiet = {"setup-build", "build-tests"}  # parts of others, not for people
    for target in set(re.findall(r"^([a-z0-9-]+):(?!=)", makefile, flags=re.M)) - helped - quiet:
        yield f"Makefile: target {target} has no `## help`"
    for path in project_files():
        if path.endswith(".md") and not path.startswith("docs/adr/"):
            for target in re.findall(r"`make ([a-z0-9-]+)[^`]*`", read(path)):
                if target not in helped:
                    yield f"{path}: `make {target}` is no target of the Makefile"


def check_versions():
    """What stands in two places is the same in both."""
    toolchain = tomllib.loads(read("rust-toolchain.toml"))["toolchain"]["channel"]
    for found in re.findall(r"(?:rust:|RUSTUP_TOOLCHAIN=)(\d[\d.]*)", read("docker/Dockerfile")):
        if found != toolchain:
            yield f"docker/Dockerfile: builds with Rust {found}, rust-toolchain.toml says {toolchain}"
    ours = tomllib.loads(read("Cargo.toml"))["workspace"]["package"]["version"]
    chart = re.search(r'^appVersion: "(.*)"$', read("docker/helm/everdesk/Chart.yaml"), flags=re.M)
    if not chart or chart.group(1) != ours:
        yield f"docker/helm/everdesk/Chart.yaml: appVersion is not {ours}, as in Cargo.toml"


CHECKS = {
    "sizes": check_sizes,
    "headers": check_headers,
    "dependencies": check_dependencies,
    "links": check_links,
    "features": check_features,
    "adrs": check_adrs,
    "places": check_places,
    "make-help": check_make_help,
    "versions": check_versions,
}


def main(args):
    if "--fix" in args:
        fix_exceptions()
        args = [arg for arg in args if arg != "--fix"]
    chosen = list(CHECKS)
    if args:
        if len(args) != 2 or args[0] != "--only" or args[1] not in CHECKS:
            raise SystemExit(f"usage: tidy.py [--fix] [--only {'|'.join(CHECKS)}]")
        chosen = [args[1]]
    failures = [f"{name}: {problem}" for name in chosen for problem in CHECKS[name]()]
    for failure in failures:
        print(failure, file=sys.stderr)
    if failures:
        raise SystemExit(f"tidy: {len(failures)} to put right")
    print(f"tidy: {', '.join(chosen)} in order")


if __name__ == "__main__":
    main(sys.argv[1:])
