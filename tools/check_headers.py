#!/usr/bin/env python3
"""Every public header compiles alone and stays light.

Public headers may include the standard library, each other, and of LibTorch only the small headers listed below:
ATen/core/Tensor.h costs 1.4 s a file, torch/torch.h 13 s. No header of lib/ may leak into them, and plural.h must
include every one.

usage: check_headers.py [--build build/release] [--compiler c++]
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
PUBLIC = ROOT / "include/plural"
LIGHT = {"ATen/core/Tensor.h", "c10/core/Device.h", "c10/core/ScalarType.h", "c10/core/DeviceType.h",
         "torch/headeronly/version.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def include_problems(header, headers):
    text = header.read_text()
    name = header.relative_to(ROOT)
    if "#pragma once" not in text:
        yield f"{name}: has no #pragma once"
    for match in INCLUDE.finditer(text):
        included = match[2]
        line = text.count("\n", 0, match.start(2)) + 1
        if included.startswith("plural/"):
            if included.removeprefix("plural/") not in headers:
                yield f"{name}:{line}: {included} does not exist"
        elif "/" in included or included.endswith(".h"):
            if included not in LIGHT:
                yield f"{name}:{line}: a public header may not include {included} (light ones: {', '.join(sorted(LIGHT))})"


def torch_flags(build):
    """Include folders and definitions of a library source, from the build's compile commands."""
    commands = json.loads((build / "compile_commands.json").read_text())
    for entry in commands:
        if "/lib/core/" in entry["file"]:
            words = shlex.split(entry["command"])
            flags = []
            for i, word in enumerate(words):
                if word.startswith(("-I", "-D", "-std")):
                    flags.append(word)
                elif word == "-isystem":
                    flags += [word, words[i + 1]]
            return flags
    sys.exit(f"check_headers: {build}/compile_commands.json has no source of lib/core")


def compile_alone(header, compiler, flags):
    # Twice: a header without a guard would define its types again.
    source = f'#include "plural/{header.name}"\n#include "plural/{header.name}"\n'
    command = [compiler, "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-x", "c++", *flags, "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    return None if done.returncode == 0 else f"{header.relative_to(ROOT)}: does not compile alone\n{done.stderr[:2000]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"))
    args = parser.parse_args()

    headers = sorted(PUBLIC.glob("*.h"))
    names = {header.name for header in headers}
    problems = [problem for header in headers for problem in include_problems(header, names)]
    umbrella = {m[2].removeprefix("plural/") for m in INCLUDE.finditer((PUBLIC / "plural.h").read_text())}
    problems += [f"include/plural/plural.h: {name} is missing" for name in sorted(names - umbrella - {"plural.h"})]

    flags = torch_flags(args.build)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems += filter(None, pool.map(lambda h: compile_alone(h, args.compiler, flags), headers))
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
