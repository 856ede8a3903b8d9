# SPDX-License-Identifier: Apache-2.0
"""A .cu file as C++ for the CPU: launches become calls, shared memory of a launch a buffer. The rest is include/.

usage: translate.py FILE.cu OUT.cpp
"""

import re
import sys

LAUNCH = re.compile(r"([A-Za-z_]\w*(?:<[^;<>()]*>)?)\s*<<<")


def end_of(text, begin):
    """The place after the bracket that closes the one at `begin`."""
    depth = 0
    for place in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    sys.exit("translate.py: a launch has no end")


def split(arguments):
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(arguments):
        depth += {"(": 1, "<": 1, ")": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(arguments[begin:place])
            begin = place + 1
    return [*parts, arguments[begin:]]


def translate(text):
    text = text.replace("extern __shared__ double shared_bytes[];", "double* shared_bytes = cuda_on_host::block.shared.data();")
    out, place = [], 0
    for launch in LAUNCH.finditer(text):
        close = text.index(">>>", launch.end())
        grid, threads, shared, _ = split(text[launch.end():close])
        end = end_of(text, close + 3)
        out += [text[place:launch.start()], f"cuda_on_host::launch({grid}, {threads}, {shared}, [&] {{ {launch[1]}{text[close + 3:end]}; }})"]
        place = end
    return "".join([*out, text[place:]])


with open(sys.argv[1], encoding="utf-8") as source, open(sys.argv[2], "w", encoding="utf-8") as target:
    target.write(f'#line 1 "{sys.argv[1]}"\n' + translate(source.read()))
