"""Each kind of bad input: one clear message with the place and the remedy, a fitting exit code, nothing finished lost."""

import ctypes
import json
import os
import resource
import shutil
import unittest

from plural_command import EXAMPLES, RL, SFT, CommandTest, lines, make_model, plural, write_lines, write_model_config, write_tokenizer


def obey_permissions():
    """Root reads and writes everywhere; without CAP_DAC_OVERRIDE (1) and CAP_DAC_READ_SEARCH (2) in its bounding set the new process does not."""
    pr_capbset_drop = 24
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(pr_capbset_drop, capability)


class BadInputTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.model = make_model(self.dir)

    def rl(self, text=RL, **values):
        return self.write_config(text, **{"model": self.model, **values})

    def test_every_problem_of_a_configuration_at_once(self):
        text = RL.replace("steps: 8", "stepz: 8\nsteps: many").replace("weight: 0.5", "wieght: 0.5") + "objective: {{clip_low: 7}}\n"
        config = self.rl(text)
        for command in (["train", config], ["config", "--check", config]):
            done = plural(*command)
            self.check(done, 2, f"{config}:", "unknown key 'stepz'", "did you mean 'steps'?", "many", "clip_low")
        self.assertFalse((self.dir / "run").exists())

    def test_duplicate_keys(self):
        config = self.rl(RL + "steps: 9\n")
        self.check(plural("train", config), 2, f"{config}:", "duplicate", "steps")

    def test_duplicate_keys_come_with_the_other_problems(self):
        config = self.rl(RL + "steps: 9\nstepz: 1\nseed: soon\n")
        for command in (["train", config], ["config", "--check", config]):
            self.check(plural(*command), 2, "duplicate key 'steps' (first at line ", "unknown key 'stepz'", "'seed': expected a whole number")

    def test_names_of_parts(self):
        config = self.rl(RL.replace("- coverage", "- coverge") + "matcher: psychic\n")
        self.check(plural("train", config), 2, "coverge", "coverage", "psychic", "word_set")

    def test_how_many_answers(self):
        single = RL.replace("num_answers: 2", "num_answers: {k}") + "format: {form}\n"
        for k, form, text in (("[]", "compact", "expected at least one number"), ("[1, 20000]", "compact", "expected at most 10000, got 20000"),
                              ("3", "ta", "format 'ta' holds one answer: expected 1, got 3")):
            config = self.rl(single, k=k, form=form)
            self.check(plural("config", "--check", config), 2, f"{config}:", "'num_answers'", text)
            self.check(plural("train", config), 2, text)
        self.check(plural("config", "--check", self.rl(single, k="[]", form="compact"), "--set", "task=sft"), 2, "'num_answers'")

    def test_the_file_that_is_checked_is_not_written_over(self):
        config = self.rl()
        before = config.read_text()
        self.check(plural("config", "--check", config, "--out", config), 2, "choose another")
        self.assertEqual(config.read_text(), before)
        kept = self.dir / "kept"
        kept.write_text("kept")
        bad = self.write_config(RL + "stepz: 1\n", name="bad.yaml", model=self.model)
        self.check(plural("config", "--check", bad, "--out", kept), 2, "stepz")
        self.assertEqual(kept.read_text(), "kept")

    def test_missing_files(self):
        self.check(plural("train", self.dir / "absent.yaml"), 2, "absent.yaml")
        self.check(plural("train", self.rl(data=self.dir / "absent.jsonl")), 2, "absent.jsonl")
        self.check(plural("train", self.rl(model=self.dir / "absent_model")), 2, "absent_model")
        self.check(plural("generate", "--model", self.dir / "absent_model", stdin='{"prompt": "x"}'), 2, "absent_model")
        self.check(plural("train", self.rl(), "--set", "device=cuda:99"), 2, "cuda")
        self.check(plural("report", self.dir / "absent_run"), 2, "absent_run")
        self.assertFalse((self.dir / "run").exists())

    def test_a_model_folder_with_a_part_missing(self):
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            hidden = (self.model / name).rename(self.model / "hidden")
            for done in (plural("train", self.rl()), plural("generate", "--model", self.model, stdin='{"prompt": "x"}')):
                self.check(done, 2, str(self.model), name)
            hidden.rename(self.model / name)
        (self.model / "tokenizer.json").write_text('{"model": ')
        self.check(plural("tokenize", "--model", self.model, stdin='{"text": "x"}'), 2, "tokenizer.json", "not valid JSON")
        self.assertFalse((self.dir / "run").exists())

    def test_malformed_lines_of_a_data_set(self):
        data = self.dir / "bad.jsonl"
        data.write_text(json.dumps(EXAMPLES[0]) + "\n{broken\n" + json.dumps({"id": "x", "prompt": 5, "gold": []}) + "\n")
        for done in (plural("train", self.rl(data=data)), plural("eval", "--model", self.model, "--data", data, "--out", self.dir / "out")):
            self.check(done, 2, "bad.jsonl:2", "bad.jsonl:3", "prompt")

    def test_prompts_longer_than_the_context(self):
        data = write_lines(self.dir / "long.jsonl", EXAMPLES + [{"id": "too-long", "prompt": "x" * 600, "gold": ["a"]}])
        self.check(plural("train", self.rl(data=data)), 2, "too-long", "512", "long.jsonl", "shorten")
        self.check(plural("eval", "--model", self.model, "--data", data, "--out", self.dir / "out"), 2, "too-long", "512", "shorten")
        self.assertFalse((self.dir / "run").exists())
        data = write_lines(self.dir / "long_gold.jsonl", EXAMPLES + [{"id": "long-gold", "prompt": "x", "gold": ["b", "c" * 200, "d" * 200]}])
        done = plural("train", self.rl(SFT, data=data))
        self.check(done, 2, "1 example does not fit", "long-gold", "longest target")
        self.assertFalse((self.dir / "run").exists())
        sft = SFT.replace("sft: {{", "sft: {{target: responses, ")
        # Without the format's instruction a prompt of 450 bytes fits, and with a short response; not with a long one.
        fits = {"id": "fits", "prompt": "y" * 450, "responses": [{"text": "a"}]}
        data = write_lines(self.dir / "responses.jsonl", [fits, {**fits, "id": "long-response", "responses": [{"text": "a"}, {"text": "b" * 60}]}])
        done = plural("train", self.rl(sft, data=data))
        self.check(done, 2, "1 example does not fit", "long-response", "512", "longest target")
        self.assertNotIn("'fits'", done.stderr)
        self.check(plural("train", self.rl(sft, data=write_lines(data, [fits])), "--set", "steps=1"), 0)

    def test_gold_answers_that_cannot_be_targets(self):
        for gold, problem in (["see </answer1>"], "tag of the answer format"), (["?!", "..."], "letter or digit"):
            data = write_lines(self.dir / "gold.jsonl", EXAMPLES + [{"id": "odd", "prompt": "x", "gold": gold}])
            self.check(plural("train", self.rl(SFT, data=data)), 2, "example 'odd'", problem)
        self.assertFalse((self.dir / "run").exists())

    def test_a_tokenizer_that_does_not_fit(self):
        size = write_tokenizer(self.model, extra_tokens=50)
        message = f"the tokenizer has {size} ids"
        self.check(plural("train", self.rl()), 2, message, "do not belong together")
        self.check(plural("generate", "--model", self.model, stdin='{"prompt": "x"}'), 2, message)
        config = write_model_config(self.dir / "small", 100)
        self.check(plural("init", "--config", config, "--out", self.dir / "new", "--tokenizer", self.model), 2, message)

    def test_a_tokenizer_with_another_end_token_is_warned_of(self):
        warning = "the tokenizer's end token is 257 (eos_token of tokenizer_config.json), but eos_token_id of generation_config.json or config.json is 0, 5"
        commands = (["train", self.rl(), "--set", "steps=1"], ["generate", "--model", self.model, "--max-new-tokens", 1],
                    ["init", "--config", self.model / "config.json", "--out", self.dir / "new", "--tokenizer", self.model])
        for command in commands:
            done = plural(*command, stdin='{"prompt": "x"}')
            self.check(done, 0)
            self.assertNotIn("warning", done.stderr)
        shutil.rmtree(self.dir / "run")
        shutil.rmtree(self.dir / "new")
        path = self.model / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [0, 5]}))
        for command in commands:
            self.check(plural(*command, stdin='{"prompt": "x"}'), 0, f"warning: {self.model}: {warning}", "the one that came with it")

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_disk_for_output(self):
        for command, text in ((["tokenize", "--model", self.model], '{"text": "a"}'), (["metrics"], '{"confidence": 1, "correct": 1}'),
                              (["score"], '{"completion": "a", "gold": ["a"]}'), (["config"], "")):
            self.check(plural(*command, "--out", "/dev/full", stdin=text), 1, "/dev/full", "No space left")
        with open("/dev/full", "w", encoding="utf-8") as full:
            for command in (["config"], ["--help"], ["eval", "--help"]):
                self.check(plural(*command, stdout=full), 1, "standard output")

    def test_a_disk_that_fills_up_during_a_run(self):
        whole = self.rl(output=self.dir / "whole")
        self.check(plural("train", whole), 0)
        config = self.rl(output=self.dir / "run")
        run = self.dir / "run"

        def limit(size):
            return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        # Small files can be written, a checkpoint (of about 400 KB) cannot.
        done = plural("train", config, preexec_fn=limit(100_000))
        self.check(done, 1, str(run), "once there is room, go on with --resume")
        steps = [line["step"] for line in lines((run / "metrics.jsonl").read_text())]
        self.assertEqual(steps, [1, 2])
        self.assertEqual(list((run / "checkpoints").glob("step_*")), [])
        self.assertEqual([p for p in run.rglob("*") if ".tmp" in p.name], [])
        self.check(plural("train", config, "--resume"), 0)
        self.assertEqual((run / "model" / "model.safetensors").read_bytes(), (self.dir / "whole" / "model" / "model.safetensors").read_bytes())

    def test_a_run_folder_that_cannot_be_written(self):
        (self.dir / "file").write_text("kept")
        self.check(plural("train", self.rl(output=self.dir / "file" / "run")), 1, "cannot be created", "file/run")
        self.check(plural("train", self.rl(output="/proc/plural/run")), 1, "cannot be created", "/proc/plural/run")
        self.assertEqual((self.dir / "file").read_text(), "kept")
        self.check(plural("init", "--config", self.dir / "source" / "config.json", "--out", self.dir / "file" / "model"), 1, "file/model")

    def test_a_read_only_run_folder(self):
        run = self.dir / "run"
        config = self.rl()
        self.check(plural("train", config), 0)
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        folders = [run, *(p for p in run.rglob("*") if p.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        self.addCleanup(lambda: [folder.chmod(0o755) for folder in folders])
        done = plural("train", config, "--resume", preexec_fn=obey_permissions)
        self.check(done, 1, str(run), "Permission denied", "choose another folder")
        other = plural("train", config, "--set", f"output={run / 'inner'}", preexec_fn=obey_permissions)
        self.check(other, 1, "cannot be created", "Permission denied")
        self.assertEqual({p: p.read_bytes() for p in run.rglob("*") if p.is_file()}, before)
        for folder in folders:
            folder.chmod(0o755)
        self.check(plural("train", config, "--resume"), 0, "resuming after step 8 of 8")

    def test_an_evaluation_into_a_read_only_folder_ends_before_it_begins(self):
        out = self.dir / "out"
        out.mkdir()
        out.chmod(0o555)
        self.addCleanup(lambda: out.chmod(0o755))
        data = write_lines(self.dir / "data.jsonl", EXAMPLES)
        done = plural("eval", "--model", self.model, "--data", data, "--max-new-tokens", 4, "--out", out, preexec_fn=obey_permissions)
        self.check(done, 1, str(out), "Permission denied")
        self.assertNotIn("coverage", done.stderr)  # nothing was sampled

    def test_a_damaged_checkpoint_gives_way_to_an_older_one(self):
        config = self.rl()
        self.check(plural("train", config), 0)
        run = self.dir / "run"
        before = (run / "model" / "model.safetensors").read_bytes()
        newest = run / "checkpoints" / "step_8"
        for path in newest.glob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:1000])
        done = plural("train", config, "--resume")
        self.check(done, 0, "step_8", "damaged", "resuming after step 6 of 8")
        self.assertEqual((run / "model" / "model.safetensors").read_bytes(), before)

    def test_a_run_whose_checkpoints_cannot_be_used_is_left_as_it_is(self):
        config = self.rl()
        self.check(plural("train", config), 0)
        run = self.dir / "run"
        checkpoints = sorted((run / "checkpoints").glob("step_*"))
        self.assertEqual([path.name for path in checkpoints], ["step_6", "step_8"])

        def contents():
            return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

        whole = contents()
        for path in checkpoints:  # nobody's fault: the files of another user, say
            path.chmod(0)
        self.check(plural("train", config, "--resume", preexec_fn=obey_permissions), 2, "step_8 cannot be read", "step_6 cannot be read",
                   "Permission denied", "nothing was changed")
        for path in checkpoints:
            path.chmod(0o755)
        self.assertEqual(contents(), whole)
        state = checkpoints[1] / "state.json"
        state.write_text(state.read_text().replace('"version": 1', '"version": 2'))
        changed = contents()
        self.check(plural("train", config, "--resume"), 2, "step_8 is of another version", "version 2, expected 1", "step_6 is whole")
        self.assertEqual(contents(), changed)
        for path in checkpoints:
            (path / "state.json").write_text("{")
        damaged = contents()
        self.check(plural("train", config, "--resume"), 2, "step_8 is damaged", "step_6 is damaged", "start anew in another output folder")
        self.assertEqual(contents(), damaged)
        for path, before in whole.items():
            path.write_bytes(before)
        self.check(plural("train", config, "--resume"), 0, "resuming after step 8 of 8")

    def test_a_model_with_damaged_weights(self):
        path = self.model / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")  # NaN
        done = plural("train", self.rl())
        self.check(done, 1, "not finite", f"no step was trained yet, so it is the weights in {self.model}")
        self.assertNotIn("--resume", done.stderr)


if __name__ == "__main__":
    unittest.main()
