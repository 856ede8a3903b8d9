"""Rewards from outside the process, through the command: workers, programs, plugins, a judge."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

from plural_command import RL, SFT, CommandTest, lines, make_model, plural, write_lines

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PLUGINS = pathlib.Path(os.environ["PLURAL_BIN"]).parent / "test_plugins"

WORKER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "plural_worker" in request:
        reply = {"plural_worker": 1}
    else:
        reply = {"id": request["id"], "results": [{"value": len(item["completion"]) / 100} for item in request["items"]]}
    print(json.dumps(reply), flush=True)
"""

SCORE = """model: m
output: o
data: {{train: t}}
num_answers: 2
{more}
"""


def completion(*answers):
    return "".join(f"<answer{i}>{a}</answer{i}><confidence{i}>0.4</confidence{i}>" for i, a in enumerate(answers, 1))


class OutsideTest(CommandTest):
    def score(self, more, rows, **options):
        config = self.dir / "score.yaml"
        config.write_text(SCORE.format(more=more))
        done = plural("score", "--config", config, stdin="".join(json.dumps(row) + "\n" for row in rows), **options)
        return done, lines(done.stdout)

    def worker(self):
        path = self.dir / "worker.py"
        path.write_text(WORKER)
        return json.dumps([sys.executable, str(path)])

    def test_score_with_a_worker(self):
        text = completion("cat", "dog")
        done, out = self.score(f"rewards: [coverage, {{name: external, command: {self.worker()}}}]",
                               [{"completion": text, "gold": ["cat"]}] * 3)
        self.assertEqual(done.returncode, 0, done.stderr)
        for row in out:
            self.assertEqual(row["rewards"]["coverage"], 0.5)
            self.assertAlmostEqual(row["rewards"]["external"], len(text) / 100, places=5)
            self.assertNotIn("failures", row)

    def test_score_by_the_rules_of_mathematics(self):
        worker = json.dumps([sys.executable, str(SOURCE / "tools/math_verify_worker.py")])
        rows = [{"completion": completion("0.5", "the answer is $\\frac{1}{3}$"), "gold": ["1/2", "1/3"], "source": source}
                for source in ("MATH500", "aftermath")]
        done, out = self.score(f"matcher: {{name: external, command: {worker}, sources: [MATH500], workers: 1}}\n"
                               "rewards: [coverage]", rows)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([row["correct"] for row in out], [[True, True], [False, False]])
        self.assertEqual([row["total"] for row in out], [1, 0])

    def test_a_broken_worker_is_said(self):
        done, out = self.score("rewards: [{name: external, command: [\"false\"]}]", [{"completion": "", "gold": ["cat"]}])
        self.assertEqual(done.returncode, 2)
        self.assertIn("the worker 'false' cannot be used", out[0]["error"])

    def test_score_and_check_with_a_plugin(self):
        more = f"plugins: [{PLUGINS}/libplugin_brevity.so]\nrewards: [coverage, {{name: brevity, weight: 0.5}}]"
        done, out = self.score(more, [{"completion": completion("cat", "a big dog"), "gold": ["cat"]}])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(out[0]["rewards"], {"coverage": 0.5, "brevity": 0.75})
        self.assertEqual(out[0]["total"], 0.875)
        done, _ = self.score("plugins: [none.so]\nrewards: [brevity]", [])
        self.assertEqual(done.returncode, 2)
        self.assertIn("score.yaml:5:1: 'plugins': plugin none.so: there is no such file", done.stderr)
        done, _ = self.score(f"plugins: [{PLUGINS}/libplugin_old_abi.so]\nrewards: [brevity]", [])
        self.assertIn("was built for 'plural 0.0.1", done.stderr)

    def test_the_key_of_a_judge_is_looked_up_by_the_command(self):
        judge = "rewards: [{name: judge, url: \"http://127.0.0.1:9/\", model: m, retries: 0, api_key_env: PLURAL_NO_SUCH_KEY}]"
        done, _ = self.score(judge, [])
        self.assertEqual(done.returncode, 2)
        self.assertIn("'PLURAL_NO_SUCH_KEY' is not set", done.stderr)
        done, _ = self.score(judge.replace("rewards: [{", "matcher: {").replace("}]", "}\nrewards: [coverage]"), [])
        self.assertEqual(done.returncode, 2)
        self.assertIn("'PLURAL_NO_SUCH_KEY' is not set", done.stderr)

    def test_an_evaluation_by_the_labels_of_a_judge(self):
        stub = subprocess.Popen([sys.executable, str(SOURCE / "tests/support/judge_stub.py")], stdout=subprocess.PIPE, text=True)
        self.addCleanup(stub.wait)
        self.addCleanup(stub.kill)
        self.addCleanup(stub.stdout.close)
        url = f"http://127.0.0.1:{stub.stdout.readline().strip()}/v1/chat/completions"
        text = ("<answer1>kitty [say Yes, it is]</answer1><confidence1>0.9</confidence1>"
                "<answer2>cow [say no]</answer2><confidence2>0.1</confidence2>")
        data = write_lines(self.dir / "stored.jsonl", [{"id": "q", "prompt": "Which?", "gold": ["cat"], "completion": text}])
        config = self.dir / "judge.yaml"
        config.write_text(SCORE.format(more=f"matcher: {{name: judge, url: \"{url}\", model: m, prompt: \"{{answer}}\"}}\nrewards: [coverage]"))
        done = plural("eval", "--config", config, "--data", data, "--out", self.dir / "judged", "--bootstrap", 0)
        self.check(done, 0)
        metrics = json.loads((self.dir / "judged" / "metrics.json").read_text())["metrics"]
        for name, value in (("accuracy", 0.5), ("coverage", 0.5), ("brier", 0.01), ("ece", 0.1), ("match/requests", 2)):
            self.assertAlmostEqual(metrics[name], value, msg=name)

    def test_training_with_a_plugin_and_a_worker_resumes_bit_for_bit(self):
        model = make_model(self.dir)
        rewards = (f"plugins: [{PLUGINS}/libplugin_brevity.so]\nrewards:\n  - brevity\n"
                   f"  - {{name: external, command: {self.worker()}}}\n")
        text = RL[: RL.index("rewards:")] + rewards.replace("{", "{{").replace("}", "}}") + RL[RL.index("optimizer:"):]

        def run(name, *options):
            config = self.write_config(text, name + ".yaml", model=model, output=self.dir / name)
            done = plural("train", config, "--set", "steps=4", *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            out = lines((self.dir / name / "metrics.jsonl").read_text())
            return [{k: v for k, v in line.items() if not k.startswith(("time/", "rate/"))} for line in out]

        whole = run("whole")
        self.assertEqual([line["reward/external/failed_rows"] for line in whole], [0] * 4)
        self.assertIn("reward/brevity/mean", whole[0])
        # The same run, cut after two steps.
        run("parts")
        for step in (3, 4):
            folder = self.dir / "parts" / "checkpoints" / f"step_{step}"
            if folder.exists():
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
        resumed = run("parts", "--resume")
        drop = "reward/external/starts"  # a new process starts its own workers
        self.assertEqual([{k: v for k, v in line.items() if k != drop} for line in resumed],
                         [{k: v for k, v in line.items() if k != drop} for line in whole])

    def test_evaluation_during_training_says_why_answers_could_not_be_judged(self):
        worker = self.dir / "no_idea.py"
        worker.write_text(WORKER.replace('{"value": len(item["completion"]) / 100}', '{"error": "no idea"}'))
        held_out = write_lines(self.dir / "held_out.jsonl",
                               [{"id": "q", "prompt": "Letters of group 0?", "gold": ["zz"], "source": "letters"}])
        config = self.write_config(
            SFT + "matcher: {{name: external, command: {command}, sources: [letters], workers: 1}}\n"
            "evaluation: {{data: {held_out}, every: 20, sampling: {{max_new_tokens: 24}}}}\n",
            model=make_model(self.dir), command=json.dumps([sys.executable, str(worker)]), held_out=held_out)
        done = plural("train", config)
        self.check(done, 0, "some answers could not be judged and count as wrong: ", "no idea")
        self.assertEqual(done.stderr.count("could not be judged"), 1, done.stderr)  # not at each evaluation
        last = lines((self.dir / "run" / "metrics.jsonl").read_text())[-1]
        self.assertGreater(last["eval/match/failures"], 0)


if __name__ == "__main__":
    unittest.main()
