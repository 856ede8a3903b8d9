"""Run folders: what a run writes, resume after kill -9 and Ctrl-C, evaluations and reports."""

import hashlib
import json
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import unittest

from plural_command import EXAMPLES, RL, SFT, CommandTest, lines, make_model, plural, start, wait_for, write_lines

sys.path.append(str(pathlib.Path(__file__).parents[1] / "parity"))
from read_tfevents import folder_events  # noqa: E402


def metrics(run):
    """metrics.jsonl without what depends on the clock."""
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "rate/"))} for line in lines((run / "metrics.jsonl").read_text())]


def samples(run):
    return {p.name: p.read_text() for p in (run / "samples").iterdir()}


def board_points(run):
    """(step, tag, value as text: nan equals nan) of every TensorBoard point, without what depends on the clock."""
    return [(event["step"], tag, repr(value)) for event in folder_events(run / "tensorboard") for tag, value in sorted(event.get("values", {}).items())
            if not tag.startswith(("time/", "rate/"))]


def log_lines(run):
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


class RunTest(CommandTest):
    """All tests start from one model that has learnt the answer format."""

    @classmethod
    def setUpClass(cls):
        cls.home = pathlib.Path(tempfile.mkdtemp(prefix="plural_run_test."))
        base = make_model(cls.home)
        data = write_lines(cls.home / "train.jsonl", EXAMPLES)
        config = cls.home / "sft.yaml"
        config.write_text(SFT.format(model=base, output=cls.home / "sft", data=data))
        cls.sft = plural("train", config)
        cls.model = cls.home / "sft" / "model"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.home, ignore_errors=True)

    def rl(self, name="run", text=RL, **values):
        return self.write_config(text, name=name + ".yaml", model=self.model, output=self.dir / name, **values)

    def same_run(self, a, b):
        self.assertEqual(metrics(a), metrics(b))
        self.assertEqual(samples(a), samples(b))
        self.assertEqual(board_points(a), board_points(b))
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            self.assertEqual((a / "model" / name).read_bytes(), (b / "model" / name).read_bytes(), name)

    def test_fine_tuning(self):
        self.check(self.sft, 0, "one step of fine-tuning", "finished 60 steps")
        run = self.home / "sft"
        losses = [line["loss"] for line in metrics(run)]
        self.assertEqual(len(losses), 60)
        self.assertLess(losses[-1], losses[0] / 3)

    def test_run_folder(self):
        done = plural("train", self.rl())
        self.check(done, 0, "prompts (P)", "rows (P x G)", "8", "total = ", "left 0:00")
        run = self.dir / "run"
        self.assertEqual([line["step"] for line in metrics(run)], list(range(1, 9)))
        manifest = json.loads((run / "manifest.json").read_text())
        data = hashlib.sha256((self.dir / "train.jsonl").read_bytes()).hexdigest()
        self.assertEqual(manifest["sha256"]["data.train"], data)
        self.assertEqual(manifest["seed"], 1)
        self.assertIn("plural_version", manifest)
        self.check(plural("config", "--check", run / "config.yaml"), 0)
        self.assertTrue(list((run / "checkpoints").glob("step_8")))
        self.assertTrue(list((run / "tensorboard").iterdir()))
        rows = [row for text in samples(run).values() for row in lines(text)]
        self.assertEqual(len(rows), 8 * 8)
        for row in rows:
            value = row["rewards"]
            self.assertAlmostEqual(row["total"], 0.5 * value["format"] + value["coverage"] + value["brier"], places=5)
            for answer in row["answers"]:
                block = row["completion"].encode()[answer["begin"]:answer["end"]].decode()
                self.assertIn(answer["text"], block)
                if block:
                    self.assertTrue(block.startswith("<answer"))
                else:  # a number that the completion left out
                    self.assertEqual(answer["text"], "")
        self.assertTrue(any(row["advantage"] != 0 for row in rows), "no row earned anything: the test shows nothing")
        self.assertTrue(any(answer["correct"] for row in rows for answer in row["answers"]))
        self.assertNotEqual((run / "model" / "model.safetensors").read_bytes(), (self.model / "model.safetensors").read_bytes())

    def test_a_reward_that_can_be_gamed_is_warned_of_and_token_entropies_are_there_when_asked_for(self):
        text = RL.replace("- coverage", "- any_correct\n  - entropy").replace("steps: 8", "steps: 1")
        self.check(plural("train", self.rl("gamed", text)), 0, "warning: this reward pays for answers that are wrong on purpose")
        (line,) = metrics(self.dir / "gamed")
        self.assertGreater(line["reward/entropy/mean"], 0)
        shares = [line[f"reward/{name}/share"] for name in ("format", "any_correct", "entropy", "brier")]
        self.assertAlmostEqual(sum(shares), 1)

    def test_kill_and_resume_is_the_same_run(self):
        self.check(plural("train", self.rl("whole")), 0)
        config = self.rl("killed")
        run = self.dir / "killed"
        draw = random.Random(17)
        kills = 0
        for _ in range(4):
            before = log_lines(run)
            process = start("train", config, "--resume")
            # A random moment: some steps on, and then somewhere within a step.
            target = before + draw.randint(0, 2)
            wait_for(lambda: log_lines(run) > target or process.poll() is not None)
            time.sleep(draw.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
        self.assertGreaterEqual(kills, 2)
        self.check(plural("train", config, "--resume"), 0)
        self.same_run(self.dir / "whole", run)
        again = plural("train", config, "--resume")
        self.check(again, 0, "resuming after step 8 of 8", "finished 8 steps")
        self.same_run(self.dir / "whole", run)

    def test_a_resumed_run_has_the_same_reference(self):
        reference = shutil.copytree(self.model, self.dir / "reference")
        text = RL + f"objective: {{{{kl_weight: 0.1}}}}\nreference: {reference}\n"
        config = self.rl("run", text)
        self.check(plural("train", config), 0)
        weights = reference / "model.safetensors"
        good = weights.read_bytes()
        weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        self.check(plural("train", config, "--resume"), 2, "reference/weights has changed", "put the old file back")
        weights.write_bytes(good)
        self.check(plural("train", config, "--resume"), 0)

    def test_ctrl_c_writes_a_checkpoint(self):
        # With a KL term and several passes: the reference of the resumed run is still the starting model.
        longer = RL.replace("steps: 8", "steps: 30").replace("every: 2", "every: 0") + "objective: {{kl_weight: 0.1}}\npasses: 2\n"
        self.check(plural("train", self.rl("whole", longer)), 0)
        config = self.rl("stopped", longer)
        run = self.dir / "stopped"
        for stop in (signal.SIGINT, signal.SIGTERM):
            before = log_lines(run)
            process = start("train", config, "--resume")
            wait_for(lambda: log_lines(run) >= before + 4)
            process.send_signal(stop)
            _, messages = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, messages)
            self.assertIn("--resume", messages)
            step = int(re.search(r"stopped after step (\d+)", messages)[1])
            self.assertTrue((run / "checkpoints" / f"step_{step}").is_dir())
        self.check(plural("train", config, "--resume"), 0)
        self.same_run(self.dir / "whole", run)

    def test_a_second_ctrl_c_quits_at_once(self):
        process = start("train", self.rl("run", RL.replace("steps: 8", "steps: 100000")))
        wait_for(lambda: log_lines(self.dir / "run") >= 2)
        process.send_signal(signal.SIGSTOP)  # both signals arrive before the program can act on the first
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)

    def test_two_processes_in_one_run_folder(self):
        config = self.rl("run", RL.replace("steps: 8", "steps: 100000"))
        run = self.dir / "run"
        first = start("train", config)
        wait_for(lambda: log_lines(run) >= 2)
        self.check(plural("train", config, "--resume"), 2, str(run), f"locked by process {first.pid} on ")
        self.check(plural("train", config), 2, "holds a run already")
        before = log_lines(run)
        wait_for(lambda: log_lines(run) > before)  # the first one goes on
        first.send_signal(signal.SIGKILL)
        first.communicate()
        self.assertTrue((run / "run.lock").exists())  # stale: nobody's any more
        second = start("train", config, "--resume")
        before = log_lines(run)
        wait_for(lambda: log_lines(run) > before or second.poll() is not None)
        second.send_signal(signal.SIGINT)
        _, messages = second.communicate(timeout=60)
        self.assertEqual(second.returncode, 130, messages)
        self.assertFalse((run / "run.lock").exists())

    def test_two_processes_that_start_the_same_run(self):
        config = self.rl("run", RL.replace("steps: 8", "steps: 300"))
        both = [start("train", config) for _ in range(2)]
        codes = []
        for process in both:
            _, messages = process.communicate(timeout=120)
            codes.append(process.returncode)
            if process.returncode:
                self.assertRegex(messages, "locked by process|holds a run")
        self.assertEqual(sorted(codes), [0, 2])
        self.assertEqual([line["step"] for line in metrics(self.dir / "run")], list(range(1, 301)))

    def test_folders_that_cannot_be_used(self):
        config = self.rl()
        self.check(plural("train", config), 0)
        self.check(plural("train", config), 2, "holds a run already", "--resume")
        self.check(plural("train", config, "--resume", "--set", "seed=2", "--set", "optimizer.learning_rate=0.5"), 2,
                   "seed: 1 then, 2 now", "optimizer.learning_rate", "another output folder")
        write_lines(self.dir / "train.jsonl", EXAMPLES[:3])
        self.check(plural("train", config, "--resume"), 2, "data.train has changed")
        other = self.dir / "mine"
        other.mkdir()
        (other / "thesis.txt").write_text("precious")
        for resume in ([], ["--resume"]):
            self.check(plural("train", config, "--set", f"output={other}", *resume), 2, "not empty", "thesis.txt")
        self.assertEqual((other / "thesis.txt").read_text(), "precious")

    def test_a_run_too_large_for_its_machine_goes_on_with_smaller_batches(self):
        self.check(plural("train", self.rl("whole")), 0)
        config, run = self.rl("run"), self.dir / "run"
        self.check(plural("train", config), 0)
        shutil.rmtree(run / "checkpoints" / "step_8")
        done = plural("train", config, "--resume", "--set", "max_batch_tokens=90", "--set", "sampling.max_rows=3")
        self.check(done, 0, "resuming after step 6 of 8", "at most 90 tokens")
        first, second = metrics(self.dir / "whole"), metrics(run)
        self.assertEqual(first[:6], second[:6])
        for a, b in zip(first[6:], second[6:], strict=True):
            self.assertAlmostEqual(a["reward/total/mean"], b["reward/total/mean"], places=4)
            self.assertAlmostEqual(a["loss"], b["loss"], places=4)

    def test_a_diverged_run_says_what_can_be_done_and_a_checkpoint_can_be_a_model(self):
        wild = RL.replace("learning_rate: 1e-3", "learning_rate: 1e+39, max_grad_norm: 0")
        done = plural("train", self.rl("wild", wild))
        self.check(done, 1, "not finite", "Start a new run in another output folder", "optimizer.learning_rate", "A checkpoint as a model")
        self.assertNotIn("once there is room", done.stderr)
        # What docs/guides/run.md says: the weights of a checkpoint beside the other files of the model.
        self.check(plural("train", self.rl("good")), 0)
        copy = shutil.copytree(self.model, self.dir / "copy")
        shutil.copy(self.dir / "good" / "checkpoints" / "step_8" / "parameters.safetensors", copy / "model.safetensors")
        ask = ["--max-new-tokens", 5, "--temperature", 0]
        first, second = (plural("generate", "--model", model, *ask, stdin='{"prompt": "x"}') for model in (copy, self.dir / "good" / "model"))
        self.check(first, 0)
        self.assertEqual(first.stdout, second.stdout)

    def test_evaluation_during_training(self):
        text = RL.replace("steps: 8", "steps: 5") + "evaluation: {{data: {data}, every: 2, sampling: {{max_new_tokens: 24}}}}\n"
        self.check(plural("train", self.rl("run", text)), 0)
        log = metrics(self.dir / "run")
        self.assertEqual([line["step"] for line in log if "eval/coverage" in line], [0, 2, 4, 5])
        self.assertIn("eval/ece", log[0])

    EVALUATED = RL + "evaluation: {{data: [{first}, {second}], every: 2, best: second/coverage, sampling: {{max_new_tokens: 24}}}}\n"

    def held_out(self):
        return {"first": write_lines(self.dir / "first.jsonl", EXAMPLES[:2]), "second": write_lines(self.dir / "second.jsonl", EXAMPLES[2:])}

    def test_the_best_model_of_several_sets(self):
        config = self.rl("run", self.EVALUATED, **self.held_out())
        done = plural("train", config)
        self.check(done, 0, "best second/coverage")
        run = self.dir / "run"
        log = metrics(run)
        values = {line["step"]: line["eval/second/coverage"] for line in log if "eval/second/coverage" in line}
        self.assertEqual(sorted(values), [0, 2, 4, 6, 8])
        self.assertTrue(all("eval/first/coverage" in line for line in log if line["step"] in values))
        best = json.loads((run / "best" / "best.json").read_text())
        self.assertEqual(best["value"], max(values.values()))
        self.assertEqual(best["step"], min(step for step, value in values.items() if value == best["value"]))
        # It is the model of that step: its evaluation gives the same number.
        again = plural("eval", "--model", run / "best", "--data", self.dir / "second.jsonl", "--config", config, "--set", "evaluation.data=x",
                       "--seed", 1, "--out", self.dir / "again")
        self.check(again, 0)
        self.assertEqual(json.loads((self.dir / "again" / "metrics.json").read_text())["metrics"]["coverage"], best["value"])
        few = plural("eval", "--model", run / "best", "--config", config, "--set", "evaluation.limit=1", "--bootstrap", 0, "--out", self.dir / "few")
        self.check(few, 0)
        self.assertEqual(json.loads((self.dir / "few" / "metrics.json").read_text())["prompts"], 1)
        self.check(plural("report", run), 0)
        self.assertIn("eval/second/coverage", (run / "report.html").read_text())

        for name, texts in (("reward", ("evaluation.best", "coverage")), ("answers", ("better or worse",)), ("third/coverage", ("metrics are",))):
            bad = self.rl("other", self.EVALUATED.replace("second/coverage", name), **self.held_out())
            self.check(plural("train", bad), 2, *texts)

    def test_a_killed_run_has_the_same_best_model(self):
        whole = self.rl("whole", self.EVALUATED.replace("every: 2}}", "every: 3}}"), **self.held_out())
        self.check(plural("train", whole), 0)
        config = self.rl("killed", self.EVALUATED.replace("every: 2}}", "every: 3}}"), **self.held_out())
        run = self.dir / "killed"
        for goal in (2, 6):  # the newest checkpoint lies before the newest evaluation
            process = start("train", config, "--resume")
            wait_for(lambda: log_lines(run) > goal)
            process.kill()
            process.communicate()
        self.check(plural("train", config, "--resume"), 0)
        self.same_run(self.dir / "whole", run)
        for name in ("best.json", "model.safetensors"):
            self.assertEqual((self.dir / "whole" / "best" / name).read_bytes(), (run / "best" / name).read_bytes())

    def test_eval_and_report(self):
        self.check(plural("train", self.rl()), 0)
        run = self.dir / "run"
        data = self.dir / "train.jsonl"
        common = ["eval", "--model", run / "model", "--data", data, "--max-new-tokens", 24, "--samples", 3]
        self.check(plural(*common, "--num-answers", "2,1,3", "--title", "after <RL>", "--out", run / "evals" / "2-rl"), 0)
        self.check(plural(*common, "--num-answers", "2", "--mode", "independent", "--title", "single", "--out", run / "evals" / "1-single"), 0)

        info = json.loads((run / "evals" / "2-rl" / "metrics.json").read_text())
        self.assertEqual([e["num_answers"] for e in info["by_num_answers"]], [2, 1, 3])
        rows = lines((run / "evals" / "2-rl" / "samples.jsonl").read_text())
        main = [row for row in rows if row["num_answers"] == 2]
        self.assertEqual(len(main), len(EXAMPLES) * 3)
        hits = [len({a["match"] for a in row["answers"] if a["match"] >= 0}) for row in main]
        self.assertAlmostEqual(info["metrics"]["coverage"], sum(hits) / 2 / len(main), places=6)
        self.assertAlmostEqual(info["metrics"]["format_rate"], sum(row["format_ok"] for row in main) / len(main), places=6)
        if sum(hits):
            self.assertAlmostEqual(info["metrics"]["tokens_per_distinct_correct"], sum(row["tokens"] for row in main) / sum(hits), places=4)

        single = json.loads((run / "evals" / "1-single" / "metrics.json").read_text())
        rows = lines((run / "evals" / "1-single" / "samples.jsonl").read_text())
        self.assertEqual(set(single["metrics"]), set(info["metrics"]))
        self.assertTrue(all(len(row["completions"]) == 2 for row in rows))
        hits = [len({a["match"] for a in row["answers"] if a["match"] >= 0}) for row in rows]
        self.assertAlmostEqual(single["metrics"]["coverage"], sum(hits) / 2 / len(rows), places=6)

        done = plural("report", run)
        self.check(done, 0)
        table, page = done.stdout.split("\n\n")
        self.assertEqual([line.split()[0] for line in table.splitlines()], ["model", "single", "after"])
        self.assertEqual(page.strip(), str(run / "report.html"))
        html = (run / "report.html").read_text()
        for text in ("<svg", "after &lt;RL&gt;", "Reliability", "Coverage by K", "Training curves", "<mark class"):
            self.assertIn(text, html)
        for text in ("<script", "http:", "https:", "after <RL>"):
            self.assertNotIn(text, html)
        self.assertNotRegex(html, r"\bnan\b")

        (run / "evals" / "order.json").write_text('["2-rl", "1-single"]')
        order = plural("report", run).stdout.split("\n\n")[0].splitlines()
        self.assertTrue(order[1].startswith("after"))
        self.check(plural("report", run / "evals" / "2-rl"), 0)  # an evaluation alone
        self.check(plural("report", self.home / "sft"), 0)  # a run without evaluations
        self.check(plural("report", self.model), 2, "neither")

    def test_baselines_on_several_sets(self):
        files = self.held_out()
        out = self.dir / "out"
        self.check(plural("eval", "--model", self.model, "--data", files["first"], "--data", files["second"], "--max-new-tokens", 24,
                          "--num-answers", 2, "--baseline",
                          "independent,sequential,verbalised,answer_probability,answer_tag_probability", "--force-answers",
                          "--force-confidences", "--title", "tiny", "--bootstrap", 50, "--out", out), 0)
        done = plural("report", out)
        table = done.stdout.split("\n\n")[0].splitlines()
        titles = ["tiny", "tiny, independent samples", "tiny, one at a time", "tiny, verbalised sampling", "tiny, answer probability",
                  "tiny, answer probability (reference)"]
        self.assertEqual([re.sub(r"  +.*", "", line) for line in table[1:]],
                         [f"{title} ({name})" for name in ("first", "second") for title in titles])
        folders = {name: out / "evals" / f"second-{name}" for name in ("set", "sequential", "verbalised", "answer_probability", "answer_tag_probability")}
        info = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in folders.items()}
        rows = {name: lines((folder / "samples.jsonl").read_text()) for name, folder in folders.items()}
        self.assertEqual((info["sequential"]["mode"], info["verbalised"]["format"], info["answer_probability"]["confidence"]),
                         ("sequential", "verbalised", "probability"))
        # The same completions, judged by other confidences.
        self.assertEqual([r["completion"] for r in rows["set"]], [r["completion"] for r in rows["answer_probability"]])
        self.assertEqual(info["set"]["metrics"]["coverage"], info["answer_probability"]["metrics"]["coverage"])
        self.assertNotEqual(info["set"]["metrics"]["mean_confidence"], info["answer_probability"]["metrics"]["mean_confidence"])
        # No token of this tokenizer reads `answer`.
        self.assertEqual(info["answer_tag_probability"]["metrics"]["mean_confidence"], 0.5)
        self.assertEqual(info["set"]["metrics"]["forced_answers"], sum(r.get("forced_answers", 0) for r in rows["set"]) / len(rows["set"]))
        low, high = info["set"]["intervals"]["format_rate"]
        self.assertTrue(0 <= low <= info["set"]["metrics"]["format_rate"] <= high <= 1)
        for bin in info["set"]["bins"]:
            self.assertEqual(len(bin["accuracy_interval"]), 2)
        for row in rows["set"]:
            text = row["completion"].encode()
            for answer in row["answers"]:
                self.assertTrue(text[answer["begin"]:answer["end"]].startswith(b"<answer") or answer["begin"] == answer["end"])
                self.assertTrue(text[answer["confidence_begin"]:answer["confidence_end"]].startswith(b"<confidence") or
                                answer["confidence_begin"] == answer["confidence_end"])
        html = (out / "report.html").read_text()
        for text in ("Data: first", "Data: second", "every measure", "against tokens spent", "By rank", "<mark class"):
            self.assertIn(text, html)
        for text in ("<script", "http:", "https:"):
            self.assertNotIn(text, html)
        self.assertNotRegex(html, r"\bnan\b")
        # What lies in OUT already is shown, and said.
        again = plural("eval", "--model", self.model, "--data", files["first"], "--max-new-tokens", 4, "--num-answers", 2, "--baseline", "independent",
                       "--bootstrap", 0, "--out", out)
        self.check(again, 0, "of an earlier command", "first-answer_probability")

    def test_forced_completion_beside_the_model(self):
        data = write_lines(self.dir / "data.jsonl", EXAMPLES)
        # Too short for an answer, so that each one must be forced.
        base = ["eval", "--model", self.model, "--data", data, "--max-new-tokens", 4, "--num-answers", 2, "--bootstrap", 0]
        out = self.dir / "out"
        self.check(plural(*base, "--baseline", "forced", "--out", out), 0)
        plain, forced = (json.loads((folder / "metrics.json").read_text()) for folder in (out, out / "evals" / "forced"))
        self.assertEqual((plain["baseline"], forced["baseline"], forced["title"]), ("", "forced", "forced completion"))
        self.assertEqual(plain["metrics"]["forced_answers"], 0)
        self.assertGreater(forced["metrics"]["forced_answers"], 0)
        self.assertLess(forced["metrics"]["unanswered"], plain["metrics"]["unanswered"])
        for name in ("format_rate", "rows"):
            self.assertEqual(forced["metrics"][name], plain["metrics"][name])
        rows, more = (lines((folder / "samples.jsonl").read_text()) for folder in (out, out / "evals" / "forced"))
        for row, longer in zip(rows, more):  # the same completions, and what was forced after them
            self.assertTrue(longer["completion"].startswith(row["completion"]))
        # In one call with forcing from the start the very same comes out.
        again = self.dir / "again"
        self.check(plural(*base, "--force-answers", "--force-confidences", "--out", again), 0)
        self.assertEqual(json.loads((again / "metrics.json").read_text())["metrics"], forced["metrics"])

        self.check(plural(*base, "--baseline", "forced", "--force-answers", "--out", again), 2, "--baseline forced", "leave one out")
        self.check(plural(*base, "--format", "compact_rlvr", "--force-confidences", "--out", again), 2, "--force-confidences",
                   "'compact_rlvr' has no confidences")

    def test_short_names_of_the_reference(self):
        data = write_lines(self.dir / "data.jsonl", [{"prompt": "?", "gold": ["b"], "completion": "<answer1>b</answer1>"}])
        out = self.dir / "out"
        for name in ("multi_answer", "multi_answer_no_analysis", "multi_answer_rlvr"):
            self.check(plural("eval", "--data", data, "--format", name + "_short", "--num-answers", 1, "--out", out), 0)
            self.assertEqual(json.loads((out / "metrics.json").read_text())["format"], name)
        self.check(plural("eval", "--data", data, "--format", "ta_short", "--out", out), 2, "--format")

    def test_evaluation_without_a_model(self):
        data = write_lines(self.dir / "data.jsonl", EXAMPLES)
        made = self.dir / "made"
        self.check(plural("eval", "--model", self.model, "--data", data, "--max-new-tokens", 24, "--num-answers", "2,1", "--samples", 3,
                          "--out", made), 0)
        # What eval wrote can be evaluated again: the same numbers, K by K.
        again = self.dir / "again"
        self.check(plural("eval", "--data", made / "samples.jsonl", "--out", again), 0)
        first, second = (json.loads((folder / "metrics.json").read_text()) for folder in (made, again))
        self.assertEqual(second["mode"], "stored")
        self.assertEqual((first["prompts"], first["samples_per_prompt"]), (second["prompts"], second["samples_per_prompt"]))
        self.assertEqual(first["by_num_answers"], second["by_num_answers"])
        self.assertEqual(first["curve"][1:], second["curve"][1:])  # what the first answer alone cost is not known any more
        self.assertEqual(first["metrics"]["sample_pass@3"], second["metrics"]["sample_pass@3"])

        self.assertEqual((first["sampling"]["max_new_tokens"], second["sampling"]), (24, None))

        # Lines in any order; the last one is of the first prompt. Nothing names K or an id in the second file.
        lone = {"prompt": "x", "gold": ["b"], "completion": "<answer1>b</answer1><confidence1>1</confidence1>"}
        stored = write_lines(self.dir / "stored.jsonl", [{**lone, "id": name} for name in "aba"])
        nameless = write_lines(self.dir / "nameless.jsonl", [lone, lone])
        for file, prompts, samples in ((stored, 2, 2), (nameless, 2, 1)):
            self.check(plural("eval", "--data", file, "--bootstrap", 0, "--out", again), 0)
            info = json.loads((again / "metrics.json").read_text())
            self.assertEqual((info["prompts"], info["samples_per_prompt"]), (prompts, samples))
        self.assertEqual([row["id"] for row in lines((again / "samples.jsonl").read_text())], ["#1", "#2"])
        bad = write_lines(self.dir / "bad.jsonl", [{**lone, "id": "q", "num_answers": 100000}])
        self.check(plural("eval", "--data", bad, "--out", again), 2, "example 'q'", "num_answers", "from 1 to 1000")
        self.check(plural("eval", "--data", stored, "--num-answers", "3,3", "--out", again), 2, "3 is given twice")

        self.check(plural("eval", "--data", data, "--out", again), 2, "example 'q0'", "completion", "give a model")
        self.check(plural("eval", "--data", made / "samples.jsonl", "--mode", "sequential", "--out", again), 2, "--model")
        self.check(plural("eval", "--data", made / "samples.jsonl", "--num-answers", 3, "--out", again), 2, "--num-answers 3")
        self.check(plural("eval", "--model", self.model, "--out", again), 2, "--data")


if __name__ == "__main__":
    unittest.main()
