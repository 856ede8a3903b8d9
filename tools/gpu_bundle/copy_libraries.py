#!/usr/bin/env python3
"""Copy the shared libraries that programs need, and those that these need, into a folder.

Left out are glibc and the compiler's libraries, which every Linux has, and what comes with the torch wheel. So a program
starts on another distribution, with this folder and the wheel's on its LD_LIBRARY_PATH.

usage: copy_libraries.py FOLDER PROGRAM...
"""

import pathlib
import re
import shutil
import subprocess
import sys

# Parts of glibc, libstdc++ and libgcc: older ones than the machine's own would break its programs.
SYSTEM = re.compile(
    r"(ld-linux.*|lib(c|m|mvec|dl|rt|pthread|util|resolv|anl|nsl|BrokenLocale|thread_db|stdc\+\+|gcc_s)\.so.*)"
)


def dependencies(program):
    """Name -> path of every library that the loader finds for a program, theirs included; None where it finds none."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s*(\S+) => (not found|\S+)", listed, re.MULTILINE)
    return {name: None if path == "not found" else pathlib.Path(path) for name, path in found}


def wheel_libraries(libraries):
    """Names of all libraries that come with LibTorch: its own folder's and, in a wheel, those of NVIDIA's packages."""
    torch = libraries.get("libtorch_cpu.so") or libraries.get("libtorch_cuda.so")
    if torch is None:
        return set()
    package = torch.resolve().parents[1]
    return {path.name for glob in ("lib/*.so*", "../nvidia/*/lib/*.so*") for path in package.glob(glob)}


def to_copy(program):
    libraries = dependencies(program)
    wheel = wheel_libraries(libraries)
    for name, path in libraries.items():
        if SYSTEM.fullmatch(name) or name in wheel or name == "libcuda.so.1":  # the driver's: on the GPU machine alone
            continue
        if path is None:
            sys.exit(f"gpu-bundle: {program} needs {name}, which is not on this machine")
        yield name, path


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, path in sorted({item for program in sys.argv[2:] for item in to_copy(program)}):
        shutil.copy(path, folder / name)  # what a link points to, under the name that programs ask for


if __name__ == "__main__":
    main()
