"""The run scripts of examples/ with a tiny random model: each goes through, and goes on where it was stopped."""

import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

from plural_command import ENV, PLURAL, CommandTest, lines, make_model, plural

SOURCE = pathlib.Path(__file__).resolve().parents[2]
CODE = SOURCE / "examples/code"
DDXPLUS = SOURCE / "examples/ddxplus"


def sandbox_problem():
    done = plural("config", "--check", CODE / "rl.yaml")
    return re.search("programs cannot be run safely here.*", done.stderr)


def metrics(run):
    return lines((run / "metrics.jsonl").read_text())


class ExampleTest(CommandTest):
    def script(self, path, *options, **variables):
        variables = {"OUT": self.dir / "run", "PLURAL": PLURAL, **variables}
        env = {**ENV, **{name: str(value) for name, value in variables.items()}}
        return subprocess.run([str(path), *options], env=env, capture_output=True, text=True, timeout=900, check=False)


class CodeExample(ExampleTest):
    def setUp(self):
        super().setUp()
        if problem := sandbox_problem():
            self.skipTest(problem.group())

    def test_the_data_is_what_problems_py_writes(self):
        subprocess.run([sys.executable, str(CODE / "problems.py"), str(self.dir)], check=True)  # checks the programs too
        names = {"sft.jsonl": 22, "rl.jsonl": 44, "heldout.jsonl": 20}
        ids = {}
        for name, count in names.items():
            self.assertEqual((self.dir / name).read_text(), (CODE / "data" / name).read_text(), name)
            ids[name] = {example["id"] for example in lines((self.dir / name).read_text())}
            self.assertEqual(len(ids[name]), count)
        self.assertLess(ids["sft.jsonl"], ids["rl.jsonl"])
        self.assertFalse(ids["heldout.jsonl"] & ids["rl.jsonl"])

    def test_reference_programs_pass_in_the_sandbox(self):
        examples = [e for e in lines((CODE / "data/rl.jsonl").read_text()) if e["id"] in ("total", "ends_with", "to_upper")]
        rows = [{**e, "completion": "".join(f"<answer{i}>{program}</answer{i}><confidence{i}>1</confidence{i}>"
                                            for i, program in enumerate([*e["gold"][:2], "def wrong(): return 1"], 1))}
                for e in examples]
        done = plural("score", "--config", CODE / "rl.yaml", stdin="".join(json.dumps(row) + "\n" for row in rows))
        self.check(done, 0)
        for row in lines(done.stdout):
            self.assertEqual(row["correct"], [True, True, False])
            self.assertAlmostEqual(row["rewards"]["code"], 2 / 3, places=6)
            self.assertAlmostEqual(row["rewards"]["brier"], 2 / 3, places=6)

    def test_the_script_goes_on_where_it_was_stopped(self):
        model = make_model(self.dir, context=1024)
        # The command, but for the first start of the RL phase, which fails.
        broken = self.dir / "broken"
        broken.write_text(f'#!/bin/sh\ncase "$*" in *"train {CODE}/rl.yaml"*) exit 1;; esac\nexec {PLURAL} "$@"\n')
        broken.chmod(0o755)
        small = ["--set", "steps=2", "--set", "optimizer.warmup_steps=1", "--set", "sft.rows_per_step=4",
                 "--set", "sampling.max_new_tokens=64", "--set", "prompts_per_step=2", "--set", "samples_per_prompt=2",
                 "--set", "evaluation.sampling.max_new_tokens=64", "--set", "evaluation.samples_per_prompt=1"]
        options = {"MODEL": model, "RESULTS": self.dir / "results"}
        run = self.dir / "run"
        done = self.script(CODE / "run.sh", *small, PLURAL=broken, **options)
        self.assertEqual(done.returncode, 1, done.stderr[-2000:])
        self.assertFalse((self.dir / "results").exists())

        def done_before():  # the log holds each step's time
            return [metrics(run / "sft"), *((run / f"evals/{name}/metrics.json").stat().st_mtime_ns for name in ("1-base", "2-sft"))]

        kept = done_before()
        for _ in range(2):  # the second time there is nothing left to do
            done = self.script(CODE / "run.sh", *small, **options)
            self.assertEqual(done.returncode, 0, done.stderr[-2000:])
            self.assertEqual(done_before(), kept)
            self.assertEqual([line["step"] for line in metrics(run / "rl")], [1, 2])
        for line in metrics(run / "rl"):
            self.assertEqual(line["match/failures"], 0)
            self.assertEqual(line["reward/code/failed_rows"], 0)
        summary = json.loads((self.dir / "results/summary.json").read_text())
        self.assertEqual([[k["num_answers"] for k in e["by_num_answers"]] for e in summary["evaluations"].values()],
                         [[3], [3, 1], [3], [3, 1, 2]])
        table = (self.dir / "results/summary.md").read_text()
        self.assertIn("| base model | 3 |", table)
        self.assertIn("| after RL | 2 |", table)


class DdxplusExample(ExampleTest):
    def test_the_smoke_run(self):
        model = make_model(self.dir, context=4096)
        done = self.script(DDXPLUS / "smoke.sh", "--set", "steps=2", "--set", "sampling.max_new_tokens=32", MODEL=model)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        for arm, rewards in (("rlcr", ["format", "accuracy", "brier"]), ("rlvr", ["format", "accuracy"])):
            steps = metrics(self.dir / "run" / arm)
            self.assertEqual(len(steps), 2)
            self.assertEqual([name for name in ("format", "accuracy", "brier") if f"reward/{name}/mean" in steps[0]], rewards)
            sft = metrics(self.dir / "run" / f"{arm}-sft")
            self.assertLess(sft[-1]["loss"], sft[0]["loss"])


if __name__ == "__main__":
    unittest.main()
