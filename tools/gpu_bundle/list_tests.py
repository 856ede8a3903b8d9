#!/usr/bin/env python3
"""From ctest's JSON list, the tests that run on a GPU: [{name, program, arguments, environment}].

A test is one of them when its environment sets PLURAL_TEST_DEVICE to a CUDA device or it carries the label `cuda`.

usage: list_tests.py CTEST.json
"""

import json
import pathlib
import sys


def main():
    tests = []
    for test in json.loads(pathlib.Path(sys.argv[1]).read_text())["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        environment = dict(entry.split("=", 1) for entry in properties.get("ENVIRONMENT", []))
        device = environment.get("PLURAL_TEST_DEVICE", "")
        if not device.startswith("cuda") and "cuda" not in properties.get("LABELS", []):
            continue
        if not test.get("command"):
            sys.exit(f"gpu-bundle: the test {test['name']} has not been built; run make build first")
        program, *arguments = test["command"]
        tests.append(
            {
                "name": test["name"],
                "program": pathlib.Path(program).name,
                "arguments": arguments,
                "environment": {"PLURAL_TEST_DEVICE": device or "cuda"},
            }
        )
    json.dump(tests, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
