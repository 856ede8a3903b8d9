"""gpu-check in a hand-made bundle (stand-ins for plural, its tests, nvidia-smi and the torch wheel), and the real bundle."""

import ast
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"])
SOURCE = ROOT / "tools/gpu_bundle"

# Enough of `plural` for init, train and generate: `metrics` are the lines of metrics.jsonl.
AGREED = '"policy/sampler_trainer_diff": 0.00001'


def stand_in(*metrics):
    lines = "\n".join("{%s}" % line for line in metrics)
    return f"""
case $1 in
  init) mkdir -p "$5" ;;
  train) for word; do case $word in output=*) name=${{word#output=}} ;; dtype=*) dtype=${{word#dtype=}} ;; esac; done
    mkdir -p "$name/model"; echo "$dtype" > "$name/dtype"; cat > "$name/metrics.jsonl" <<'END'
{lines}
END
  ;;
  generate) [ "$3" = rl/model ] && [ "$(cat rl/dtype rl_bfloat16/dtype)" = $'float32\nbfloat16' ] ;;
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
        self.program("plural", stand_in('"step": 2', f'"step": 3, "loss": 1.5, {AGREED}'))
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
        self.assertEqual([o["name"] for o in result["training"]], ["init", "sft", "rl_bfloat16", "rl", "generate"])
        self.assertEqual(result["training"][1]["metrics"]["loss"], 1.5)
        self.assertEqual(result["training"][2]["max_sampler_trainer_diff"], 1e-5)
        self.assertEqual([o["numbers"] for o in result["benchmarks"]], [[{"tokens_per_s": 7}]] * 2)

    def test_peers_that_are_there_are_measured_beside(self):
        self.gpu()
        self.program("generate_bench", """echo '{"name": "generate/plural/'$3'", "tokens_per_s": 60}'""")
        (self.root / "site/transformers").mkdir(parents=True)
        (self.root / "site/transformers/__init__.py").touch()
        (self.bundle / "peers").mkdir()
        (self.bundle / "peers/transformers_generate.py").write_text(
            """import json, sys\nvalue = lambda key: sys.argv[sys.argv.index(key) + 1]
assert value("--device") == "cuda" and value("--samples") == "64" and value("--new-tokens") == "128"
print(json.dumps({"name": "generate/transformers-0/" + value("--dtype"), "tokens_per_s": 20}))""")
        done, result = self.check()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(result["ratios"], {"generate/bfloat16 over transformers": 3.0, "generate/float32 over transformers": 3.0})

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

    def training_with(self, *metrics):
        """Results of the training runs by name, when metrics.jsonl has these lines."""
        self.gpu()
        self.program("plural", stand_in(*metrics))
        done, result = self.check()
        self.assertEqual(done.returncode, int(any(o["result"] == "failed" for o in result["training"])), done.stderr)
        return {o["name"]: o for o in result["training"]}

    def test_sampler_and_trainer_must_agree_in_every_step(self):
        apart = '"step": 2, "policy/sampler_trainer_diff": 0.005'
        runs = self.training_with(f'"step": 1, {AGREED}', apart, f'"step": 3, {AGREED}')
        self.assertEqual(runs["rl"]["result"], "failed")
        self.assertIn("sampler_trainer_diff is up to 0.005, not below 0.0001", runs["rl"]["output"])
        self.assertEqual(runs["rl_bfloat16"]["result"], "passed")  # within what bfloat16 rounds
        self.assertEqual(runs["sft"]["result"], "passed")
        runs = self.training_with('"step": 1, "policy/sampler_trainer_diff": 0.01')
        self.assertEqual(runs["rl_bfloat16"]["result"], "failed")

    def test_sampler_and_trainer_must_have_been_compared(self):
        for line, said in (('"step": 1', "were not compared"), ('"policy/sampler_trainer_diff": null', "not a finite")):
            runs = self.training_with(f'"step": 1, {AGREED}' if "null" in line else line, line)
            for name in ("rl", "rl_bfloat16"):
                self.assertEqual(runs[name]["result"], "failed")
                self.assertIn(said, runs[name]["output"])
            self.assertNotIn("generate", runs)

    def test_python_of_the_tests_does_not_see_the_bundles_libraries(self):
        self.gpu()
        self.add_test("a_test", '$PLURAL_TEST_PYTHON -c "import os, sys; sys.exit(\'LD_LIBRARY_PATH\' in os.environ)"')
        done, _ = self.check()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_other_torch_is_refused(self):
        self.torch("2.12.0")
        done, result = self.check()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("2.12.0", done.stderr)


class ListTests(unittest.TestCase):
    def test_only_cuda_tests_are_listed(self):
        def test(name, environment, labels):
            properties = [{"name": "ENVIRONMENT", "value": environment}, {"name": "LABELS", "value": labels}]
            return {"name": name, "command": [f"/somewhere/{name}", "~[host]"], "properties": properties}

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
        self.assertEqual(result[0]["arguments"], ["~[host]~[transformers]"])
        self.assertEqual(result[1]["environment"], {"PLURAL_TEST_DEVICE": "cuda"})


def packed_files():
    """Paths in the source tree that the bundle holds."""
    lines = (SOURCE / "files.txt").read_text().splitlines()
    return {str(path.relative_to(ROOT)) for line in lines if not line.startswith("#") for path in ROOT.glob(line)}


def device_test_sources():
    """C++ files of the tests that run on a GPU, pure parity tests (which the bundle leaves out) apart."""
    for file in sorted(ROOT.glob("tests/*/CMakeLists.txt")):
        for words in re.findall(r"plural_add_test\(([^)]*)\)", file.read_text()):
            words = words.split()
            if "PER_DEVICE" not in words or words[words.index("LABELS") + 1 :] == ["parity"]:
                continue
            names = words[words.index("SOURCES") + 1 : words.index("DEPS")]
            for name in names:
                yield from file.parent.glob("*_test.cpp" if name == "${reward_tests}" else name)


def with_headers(source):
    """A source and the headers of tests/ that it includes, themselves or through others."""
    files, waiting = [], [source]
    while waiting:
        files.append(waiting.pop())
        included = [ROOT / name for name in re.findall(r'#include "(tests/[^"]+)"', files[-1].read_text())]
        waiting += [path for path in included if path not in files and path not in waiting]
    return files


def device_code(file):
    """A C++ file without comments, includes and the cases that the GPU run leaves out; None where no case is left."""
    text = re.sub(r"^\s*//.*$|^#include.*$", "", file.read_text(), flags=re.MULTILINE)
    left = re.sub(r'^TEST_CASE\([^{]*"\[(host|transformers)\]"\) \{.*?^\}$', "", text, flags=re.MULTILINE | re.DOTALL)
    return None if "TEST_CASE(" in text and "TEST_CASE(" not in left else left


class Files(unittest.TestCase):
    """What the tests read must be in the bundle: a GPU machine has no source tree."""

    def setUp(self):
        self.sources = sorted(set(device_test_sources()))
        self.assertGreater(len(self.sources), 40)

    def code(self):
        for source in self.sources:
            if device_code(source) is None:
                continue
            for file in with_headers(source):
                yield file, device_code(file)

    def test_every_path_is_packed(self):
        folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in ".b")
        packed, found = packed_files(), set()
        for file, code in self.code():
            found |= {(file, path) for path in re.findall(rf'"/?((?:{folders}|benchmarks)/[^"\s]+)"', code)}
            found |= {(file, f"tests/parity/{name}") for name in re.findall(r'run_parity_script\("([^"]+\.py)"', code)}
        paths = {path for _, path in found}
        for known in ("tests/golden/trl_losses.json", "tests/parity/objectives_parity.py", "tests/support/judge_stub.py"):
            self.assertIn(known, paths)
        for file, path in sorted(found):
            if path.endswith("/"):  # the folder of a name that the line before gives
                self.assertTrue(any(name.startswith(path) for name in packed), f"{file}: {path}")
            else:
                self.assertIn(path, packed, f"{file} reads it: tools/gpu_bundle/files.txt, or a tag [host], is missing")

    def test_nothing_reads_what_was_built_or_fetched(self):
        for file, code in self.code():
            if file.suffix == ".cpp":
                for name in ("PLURAL_BIN", "PLURAL_HOME"):
                    self.assertFalse(name in code, f"{file} uses {name}, which has little in a bundle; tag the cases [host]")

    def test_scripts_need_torch_alone(self):
        scripts = {name for _, code in self.code() for name in re.findall(r'run_parity_script\("([^"]+\.py)"', code)}
        for name in sorted(scripts):
            for node in ast.walk(ast.parse((ROOT / "tests/parity" / name).read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                for module in names:
                    allowed = module.split(".")[0] in {*sys.stdlib_module_names, "torch"}
                    self.assertTrue(allowed, f"{name} imports {module}; tag its cases [transformers]")


BUILD = pathlib.Path(os.environ["PLURAL_BIN"]).parent
MODEL = pathlib.Path(os.environ["PLURAL_HOME"]) / "models/SmolLM2-135M-Instruct"
SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|mvec|dl|rt|pthread|util|resolv|anl|nsl|stdc\+\+|gcc_s)\.so.*)")


def device_programs():
    """Programs of the build's CUDA tests, built or not."""
    listed = subprocess.run(
        ["ctest", "--test-dir", BUILD, "--show-only=json-v1"], capture_output=True, text=True, check=True
    )
    for test in json.loads(listed.stdout)["tests"]:
        if "cuda" in next((p["value"] for p in test["properties"] if p["name"] == "LABELS"), []):
            yield pathlib.Path(test["command"][0]) if test.get("command") else None


class RealBundle(unittest.TestCase):
    """The bundle of this build, unpacked. Its tests can be run on the CPU."""

    @classmethod
    def setUpClass(cls):
        programs = [*device_programs(), BUILD / "bin/plural"]
        if len(programs) == 1:
            raise unittest.SkipTest("the build has no CUDA tests: nvcc was not found")
        if None in programs or not all(program.is_file() for program in programs) or not MODEL.is_dir():
            raise unittest.SkipTest("not everything that goes into a bundle has been built or fetched")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        packed = pathlib.Path(folder.name) / "bundle.tar.gz"
        made = subprocess.run([ROOT / "tools/gpu_bundle.sh", BUILD, packed], capture_output=True, text=True)
        if made.returncode != 0:
            raise AssertionError(made.stderr)
        cls.bytes = packed.stat().st_size
        subprocess.run(["tar", "-xzf", packed, "-C", folder.name], check=True)
        cls.bundle = pathlib.Path(folder.name) / "gpu-bundle"
        site = pathlib.Path(importlib.util.find_spec("torch").origin).parents[1]
        cls.wheel = [site / "torch/lib", *site.glob("nvidia/*/lib")]
        cls.environment = {
            "PATH": "/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, [cls.wheel[0], cls.bundle / "lib", *cls.wheel[1:]])),
            "PLURAL_TEST_PYTHON": sys.executable,
            "PLURAL_SOURCE_DIR": str(cls.bundle / "source"),
            "PLURAL_BIN": str(cls.bundle / "bin"),
        }

    def test_it_is_small(self):
        self.assertLess(self.bytes, 60_000_000)

    def test_every_library_is_in_it_or_in_the_wheel_or_on_every_linux(self):
        allowed = [self.bundle / "lib", *(folder.resolve() for folder in self.wheel)]
        files = [path for folder in ("bin", "lib") for path in (self.bundle / folder).iterdir()]
        self.assertGreater(len(files), 20)
        for file in files:
            listed = subprocess.run(["ldd", file], env=self.environment, capture_output=True, text=True).stdout
            for name, path in re.findall(r"^\s*(\S+) => (not found|\S+)", listed, re.MULTILINE):
                if SYSTEM.fullmatch(name) or name == "libcuda.so.1":
                    continue
                self.assertNotEqual(path, "not found", f"{file.name} needs {name}")
                place = pathlib.Path(path).parent.resolve()
                self.assertIn(place, allowed, f"{file.name} needs {name}, which only this system has")

    def run_in_it(self, program, *arguments):
        done = subprocess.run(
            [self.bundle / "bin" / program, *arguments], env=self.environment, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_programs_start_and_find_their_files(self):
        self.assertIn("plural", self.run_in_it("plural", "--version"))
        self.assertIn("1 test case", self.run_in_it("objectives_test", "losses and gradients are TRL's own"))
        self.assertIn("1 test case", self.run_in_it("objectives_test", "losses and gradients equal PyTorch's*"))
        self.assertIn("1 test case", self.run_in_it("rewards_test", "judge: yes and no*"))


if __name__ == "__main__":
    unittest.main()
