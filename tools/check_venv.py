#!/usr/bin/env python3
"""Print the pinned requirements that are not soundly installed in this interpreter's environment, one a line.

pip trusts a package as soon as its metadata is there, so an install that was cut off stays broken for ever. Here every
file that a package lists must exist with its size.

usage: VENV/bin/python tools/check_venv.py tools/requirements.txt
"""

import importlib.metadata
import pathlib
import sys


def requirements(path):
    for line in pathlib.Path(path).read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            yield line


def is_sound(requirement):
    name, _, version = requirement.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    if distribution.version != version or not distribution.files:
        return False
    for file in distribution.files:
        path = pathlib.Path(file.locate())
        if path.suffix == ".pyc":
            continue  # written and rewritten by Python itself
        if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
            return False
    return True


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for requirement in requirements(sys.argv[1]):
        if not is_sound(requirement):
            print(requirement)


if __name__ == "__main__":
    main()
