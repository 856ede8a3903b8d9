"""benchmarks/run.sh and summarise.py with stand-ins for the programs: what is recorded, and what a failure says."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"])
TOKENIZER = {"name": "tokenizer/plural", "bytes": 9, "tokens": 3, "load_s": 0.1, "encode_mb_per_s": 21.5, "encode_lines_mb_per_s": 17.25,
             "decode_mb_per_s": 180.0}
GENERATE = {"name": "generate/plural/bfloat16", "tokens_per_s": 900.0}
PEER_GENERATE = {"name": "generate/transformers-9/bfloat16", "tokens_per_s": 300.0}
STEP = {"name": "grpo_step/plural/bfloat16", "median_s": 4.0}
PEER_STEP = {"name": "grpo_step/trl-9/bfloat16", "median_s": 18.0}


class RunTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.bin = self.root / "build/release/bin"
        for path in (self.bin, self.root / "benchmarks/peers", self.root / "home/venv/bin", self.root / "home/venv-peers/bin", self.root / "path"):
            path.mkdir(parents=True)
        for name in ("run.sh", "summarise.py"):
            shutil.copy(SOURCE / "benchmarks" / name, self.root / "benchmarks")
        self.program(self.root / "benchmarks/peers/setup.sh")
        self.program(self.root / "benchmarks/score.sh")
        self.program(self.root / "path/git", "echo abc1234")
        (self.root / "home/venv/bin/python").symlink_to(sys.executable)
        self.program(self.bin / "tokenizer_bench", self.says(TOKENIZER) + '; echo "$@" > "$0.arguments"')
        self.program(self.bin / "generate_bench", "echo loading >&2; echo more; " + self.says(GENERATE))
        self.program(self.bin / "train_step_bench", self.says(STEP))
        peer = f"case $1 in *transformers*) {self.says(PEER_GENERATE)};; *) {self.says(PEER_STEP)};; esac"
        self.program(self.root / "home/venv-peers/bin/python", peer)

    @staticmethod
    def says(row):
        return f"echo '{json.dumps(row)}'"

    @staticmethod
    def program(path, body=":"):
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run_script(self):
        environment = {**os.environ, "PLURAL_HOME": str(self.root / "home"), "DTYPES": "bfloat16", "PATH": f"{self.root / 'path'}:{os.environ['PATH']}"}
        return subprocess.run([self.root / "benchmarks/run.sh", "here"], env=environment, capture_output=True, text=True, check=False)

    def test_what_is_recorded(self):
        done = self.run_script()
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads((self.root / "benchmarks/results/here.json").read_text())
        self.assertEqual(result["commit"], "abc1234")
        self.assertEqual(result["results"], [TOKENIZER, GENERATE, PEER_GENERATE, STEP, PEER_STEP])
        self.assertEqual(sorted(result["ratios"].values()), [3.0, 4.5])
        self.assertRegex(done.stdout, r"tokenizer/plural +21\.5 MB/s encode, 17\.2 line by line, 180\.0 decode")
        self.assertRegex(done.stdout, r"generate/plural/bfloat16 +900 tokens/s")
        self.assertRegex(done.stdout, r"grpo_step/trl-9/bfloat16 +18\.0 s a step")
        self.assertNotIn("loading", done.stderr)
        model, text = (self.bin / "tokenizer_bench.arguments").read_text().split()
        self.assertEqual(pathlib.Path(model), self.root / "home/models/SmolLM2-135M-Instruct")
        self.assertEqual(pathlib.Path(text), self.root / "home/data/wordnet/train.jsonl")

    def test_a_program_that_fails_is_heard(self):
        self.program(self.bin / "generate_bench", "echo the model has no weights >&2; exit 3")
        done = self.run_script()
        self.assertEqual(done.returncode, 1)
        self.assertIn("the model has no weights", done.stderr)
        self.assertIn(f"failed: {self.bin / 'generate_bench'}", done.stderr)
        self.assertFalse((self.root / "benchmarks/results/here.json").exists())


if __name__ == "__main__":
    unittest.main()
