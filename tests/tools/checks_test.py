"""tools/check_docs.py and tools/check_headers.py find what they are for."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"]) / "tools"


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Scripts(unittest.TestCase):
    def test_scripts_can_be_run(self):
        root = TOOLS.parent
        scripts = [path for folder in ("tools", "examples", "benchmarks") for path in (root / folder).rglob("*.sh")]
        self.assertGreater(len(scripts), 5)
        self.assertEqual([str(path) for path in scripts if not os.access(path, os.X_OK)], [])


class Contributing(unittest.TestCase):
    def test_the_test_that_it_names_is_there(self):
        text = (TOOLS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
        target, program, name = re.search(r'--target (\w+_test) && build/release/bin/(\w+) "\*(\w+)\*"', text).groups()
        self.assertEqual(target, program)
        lists = "".join(path.read_text(encoding="utf-8") for path in (TOOLS.parent / "tests").glob("*/CMakeLists.txt"))
        sources = re.search(rf"plural_add_test\({target} SOURCES ([^)]*) DEPS", lists)
        self.assertIsNotNone(sources, target)
        cases = "".join(path.read_text(encoding="utf-8") for source in sources[1].split() for path in (TOOLS.parent / "tests").glob(f"*/{source}"))
        self.assertRegex(cases, rf'TEST_CASE\("[^"]*{name}')


class CheckDocs(unittest.TestCase):
    def check(self, text):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "other.md").write_text("# One heading\n\n## And `code`, too\n")
            page = pathlib.Path(folder) / "page.md"
            page.write_text(text)
            done = subprocess.run([sys.executable, TOOLS / "check_docs.py", page], capture_output=True, text=True)
        return [line.split(":")[1] for line in done.stdout.splitlines()], done.returncode

    def test_good_links(self):
        text = "# Top\n[a](other.md) [b](other.md#and-code-too) [c](#top) [d](https://x.test/y) `lib/core/format.h`\n"
        self.assertEqual(self.check(text), ([], 0))

    def test_bad_links_with_their_lines(self):
        text = "[a](missing.md)\n\n[b](other.md#no)\n```\n[c](in-code.md)\n```\n![d](no.png) `lib/no/such.h`\n"
        self.assertEqual(self.check(text), (["1", "3", "7", "7"], 1))


class CheckHeaders(unittest.TestCase):
    def problems(self, text):
        module = load("check_headers")
        with tempfile.TemporaryDirectory() as folder:
            module.ROOT = pathlib.Path(folder)
            header = module.ROOT / "x.h"
            header.write_text(text)
            return list(module.include_problems(header, {"x.h", "tensor.h"}))

    def test_light_header(self):
        text = '#pragma once\n#include <ATen/core/Tensor.h>\n#include <vector>\n#include "plural/tensor.h"\n'
        self.assertEqual(self.problems(text), [])

    def test_heavy_private_and_missing_includes(self):
        for include in ("<torch/torch.h>", "<ATen/ATen.h>", '"lib/core/format.h"', "<yaml-cpp/yaml.h>", '"plural/no.h"'):
            problems = self.problems(f"#pragma once\n#include {include}\n")
            self.assertEqual(len(problems), 1, include)
            self.assertTrue(problems[0].startswith("x.h:2: "), problems)

    def test_guard(self):
        self.assertEqual(self.problems("#include <vector>\n"), ["x.h: has no #pragma once"])


if __name__ == "__main__":
    unittest.main()
