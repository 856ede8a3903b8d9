#!/usr/bin/env python3
"""From ctest's JSON list, the tests that run on a GPU: {tests: [{name, program, arguments, environment}], left_out: [name]}.

A test is one of them when its environment sets PLURAL_TEST_DEVICE to a CUDA device or it carries the label `cuda`.
Left out are the twins of pure parity tests (`x.cuda` of an `x` labelled `parity` and nothing else): they compare with
`transformers` on a real model, and a GPU machine has neither. For the same reason the cases tagged [transformers] are
left out of the others.

usage: list_tests.py CTEST.json
"""

import json
import pathlib
import sys


def main():
    tests, left_out, pure_parity = [], [], set()
    listed = json.loads(pathlib.Path(sys.argv[1]).read_text())["tests"]
    for test in listed:
        test["properties"] = {p["name"]: p["value"] for p in test.get("properties", [])}
        if test["properties"].get("LABELS") == ["parity"]:
            pure_parity.add(test["name"])
    for test in listed:
        environment = dict(entry.split("=", 1) for entry in test["properties"].get("ENVIRONMENT", []))
        device = environment.get("PLURAL_TEST_DEVICE", "")
        if not device.startswith("cuda") and "cuda" not in test["properties"].get("LABELS", []):
            continue
        if test["name"].removesuffix(".cuda") in pure_parity:
            left_out.append(test["name"])
            continue
        if not test.get("command"):
            sys.exit(f"gpu-bundle: the test {test['name']} has not been built; run make build first")
        program, *arguments = test["command"]
        arguments = ["~[host]~[transformers]" if word == "~[host]" else word for word in arguments]
        tests.append(
            {
                "name": test["name"],
                "program": pathlib.Path(program).name,
                "arguments": arguments,
                "environment": {"PLURAL_TEST_DEVICE": device or "cuda"},
            }
        )
    json.dump({"tests": tests, "left_out": left_out}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
