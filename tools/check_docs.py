#!/usr/bin/env python3
"""Links in the project's Markdown files point to files and headings that exist.

Checked: [text](path), [text](path#heading), [text](#heading), ![picture](path), and file names in `code` that begin
with one of the project's folders. Addresses of the web are not followed.

usage: check_docs.py [FILE.md ...]    (default: every tracked and new Markdown file)
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
CODE_PATH = re.compile(r"`((?:include|lib|rewards|app|examples|tests|benchmarks|docs|cmake|tools)/[\w./-]+)`")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def blank(match):
    return "\n" * match[0].count("\n")


def headings(path):
    """GitHub's anchors of a file's headings."""
    anchors = set()
    for line in FENCE.sub(blank, path.read_text(encoding="utf-8")).splitlines():
        if match := re.match(r"#{1,6}\s+(.*)", line):
            text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda m: m[1] or "", match[1]).strip().lower()
            anchors.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return anchors


def problems_of(path):
    text = FENCE.sub(blank, path.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        target = match[1]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = (path.parent / file) if file else path
        line = text.count("\n", 0, match.start()) + 1
        if not goal.exists():
            yield line, f"the link to {target} leads nowhere"
        elif anchor and goal.suffix == ".md" and anchor not in headings(goal):
            yield line, f"{file or path.name} has no heading #{anchor}"
    for match in CODE_PATH.finditer(text):
        if not (ROOT / match[1]).exists() and not (path.parent / match[1]).exists():
            yield text.count("\n", 0, match.start()) + 1, f"the file {match[1]} does not exist"


def main():
    if sys.argv[1:]:
        files = [pathlib.Path(name).resolve() for name in sys.argv[1:]]
    else:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )
        files = [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]
    found = False
    for path in files:
        for line, problem in problems_of(path):
            found = True
            name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
            print(f"{name}:{line}: {problem}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
