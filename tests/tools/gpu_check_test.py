"""gpu-check in a hand-made bundle: stand-ins for plural, its tests, nvidia-smi and the torch wheel."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"]) / "tools/gpu_bundle"

# Enough of `plural` for init, train and generate.
PLURAL = """
case $1 in
  init) mkdir -p "$5" ;;
  train) name=$(basename "$2" .yaml); mkdir -p "$name/model"; echo '{"step": 3, "loss": 1.5}' > "$name/metrics.jsonl" ;;
  generate) [ "$3" = rl/model ] && [ -d rl/model ] ;;
esac
"""


class GpuCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.bundle = self.root / "gpu-bundle"
        for name in ("bin", "lib", "data"):
            (self.bundle / name).mkdir(parents=True)
        shutil.copy(SOURCE / "gpu_check.py", self.bundle / "gpu-check")
        (self.bundle / "about.json").write_text('{"version": "0"}')
        (self.bundle / "lib/libplural_cuda.so").touch()
        for name in ("tokenizer.json", "tokenizer_config.json", "train.jsonl"):
            (self.bundle / "data" / name).touch()
        self.tests = []
        self.program("plural", PLURAL)
        self.torch("2.11.0+cu130")
        (self.root / "path").mkdir()

    def program(self, name, body):
        path = self.bundle / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def add_test(self, name, body):
        self.program(name, body)
        test = {"name": name, "program": name, "arguments": [], "environment": {"PLURAL_TEST_DEVICE": "cuda"}}
        self.tests.append(test)

    def torch(self, version):
        package = self.root / "site/torch"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("raise RuntimeError('gpu-check must not import torch')")
        (package / "version.py").write_text(f"__all__ = ['x']\n__version__ = '{version}'\n")

    def gpu(self):
        smi = self.root / "path/nvidia-smi"
        smi.write_text("#!/bin/bash\necho 'Some GPU, 580.1, 1000 MiB'\n")
        smi.chmod(0o755)

    def check(self):
        (self.bundle / "tests.json").write_text(json.dumps({"tests": self.tests, "left_out": ["far_test.cuda"]}))
        out = self.root / "out.json"
        path = f"{self.root / 'path'}:/usr/bin:/bin"
        if not (self.root / "path/nvidia-smi").exists() and shutil.which("nvidia-smi", path=path):
            self.skipTest("this machine has nvidia-smi")
        done = subprocess.run(
            [sys.executable, self.bundle / "gpu-check", "--out", out],
            env={"PATH": path, "PYTHONPATH": str(self.root / "site")}, capture_output=True, text=True,
        )
        return done, json.loads(out.read_text()) if out.exists() else None

    def test_without_gpu_everything_is_skipped(self):
        self.add_test("a_test", '[ "$PLURAL_TEST_DEVICE" = cuda ] && exit 77')
        self.program("generate_bench", "exit 1")
        done, result = self.check()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(result["counts"], {"passed": 0, "failed": 0, "skipped": 3})
        self.assertIn("nothing of CUDA was checked here", done.stderr)

    def test_with_gpu_all_runs(self):
        self.gpu()
        self.add_test("a_test", '[[ $LD_LIBRARY_PATH == *torch/lib*gpu-bundle/lib* ]]')
        self.program("generate_bench", """echo words; echo '{"tokens_per_s": 7}'""")
        done, result = self.check()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(result["device"]["name"], "Some GPU")
        self.assertEqual(result["tests_left_out"], ["far_test.cuda"])
        self.assertEqual([o["name"] for o in result["training"]], ["init", "sft", "rl", "generate"])
        self.assertEqual(result["training"][2]["metrics"], {"step": 3, "loss": 1.5})
        self.assertEqual([o["numbers"] for o in result["benchmarks"]], [[{"tokens_per_s": 7}]] * 2)

    def test_failure_is_kept_with_its_output(self):
        self.gpu()
        self.add_test("a_test", "echo why; exit 3")
        self.add_test("b_test", ":")
        done, result = self.check()
        self.assertEqual(done.returncode, 1)
        self.assertEqual([o["result"] for o in result["tests"]], ["failed", "passed"])
        self.assertEqual(result["tests"][0]["output"], "why\n")

    def test_skip_on_a_gpu_machine_is_not_ok(self):
        self.gpu()
        self.add_test("a_test", "exit 77")
        done, result = self.check()
        self.assertEqual(done.returncode, 1)
        self.assertFalse(result["ok"])

    def test_sampler_and_trainer_must_agree(self):
        self.gpu()
        self.program("plural", PLURAL.replace('"loss": 1.5', '"policy/sampler_trainer_diff": 0.01'))
        done, result = self.check()
        self.assertEqual(done.returncode, 1)
        self.assertIn("sampler_trainer_diff is 0.01", result["training"][1]["output"])

    def test_other_torch_is_refused(self):
        self.torch("2.12.0")
        done, result = self.check()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("2.12.0", done.stderr)


class ListTests(unittest.TestCase):
    def test_only_cuda_tests_are_listed(self):
        def test(name, environment, labels):
            properties = [{"name": "ENVIRONMENT", "value": environment}, {"name": "LABELS", "value": labels}]
            return {"name": name, "command": [f"/somewhere/{name}", "[tag]"], "properties": properties}

        tests = [
            test("cpu", ["A=b=c"], ["unit"]),
            test("x", ["PLURAL_TEST_DEVICE=cuda"], []),
            test("y", [], ["cuda"]),
            test("far", [], ["parity"]),
            test("far.cuda", ["PLURAL_TEST_DEVICE=cuda"], ["cuda"]),
        ]
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "ctest.json"
            file.write_text(json.dumps({"tests": tests}))
            listed = subprocess.run([sys.executable, SOURCE / "list_tests.py", file], capture_output=True, check=True)
        result = json.loads(listed.stdout)
        self.assertEqual(result["left_out"], ["far.cuda"])
        result = result["tests"]
        self.assertEqual([t["name"] for t in result], ["x", "y"])
        self.assertEqual(result[0]["program"], "x")
        self.assertEqual(result[0]["arguments"], ["[tag]"])
        self.assertEqual(result[1]["environment"], {"PLURAL_TEST_DEVICE": "cuda"})


if __name__ == "__main__":
    unittest.main()
