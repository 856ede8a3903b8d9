"""Every sub-command over small inputs: help, exit codes, results that were worked out by hand."""

import collections
import itertools
import json
import math
import random
import signal
import statistics
import subprocess
import time
import unittest

from plural_command import EXAMPLES, CommandTest, lines, make_model, plural, start, wait_for, write_lines, write_model_config, write_tokenizer

COMMANDS = ["train", "eval", "generate", "score", "logprobs", "tokenize", "detokenize", "metrics", "init", "report", "config"]


class HelpTest(CommandTest):
    def test_every_command_has_help(self):
        for command in COMMANDS:
            done = plural(command, "--help")
            self.check(done, 0)
            self.assertIn("--help", done.stdout)
            self.assertIn(command, done.stdout)

    def test_the_list_of_commands(self):
        done = plural("--help")
        self.check(done, 0)
        listed = [line.split()[0] for line in done.stdout.split("Subcommands:")[1].splitlines() if line.startswith("  ")]
        self.assertEqual(sorted(listed[: len(COMMANDS)]), sorted(COMMANDS))

    def test_bad_usage_is_exit_code_2(self):
        for args in ([], ["no-such-command"], ["tokenize"], ["tokenize", "--no-such-option"], ["generate", "--model", "x", "--top-p", "2"],
                     ["metrics", "--bins", "many"], ["score", "--format", "no-such-format"]):
            done = plural(*args)
            self.check(done, 2)
            self.assertTrue(done.stderr.strip(), args)

    def test_version(self):
        self.assertRegex(plural("--version").stdout, r"^plural \d+\.\d+\.\d+\n$")


class TextTest(CommandTest):
    def setUp(self):
        super().setUp()
        write_tokenizer(self.dir)

    def test_tokenize_and_back(self):
        texts = ["ab", "", "é\n", "<answer1>x</answer1>", "🙂"]
        done = plural("tokenize", "--model", self.dir, stdin="".join(json.dumps({"text": t}) + "\n" for t in texts))
        self.check(done, 0)
        ids = [line["ids"] for line in lines(done.stdout)]
        # The vocabulary of this tokenizer is the bytes in order, then its added tokens.
        self.assertEqual(ids[:3], [list(t.encode()) for t in texts[:3]])
        self.assertEqual(ids[3], [258, ord("x"), 259])
        back = plural("detokenize", "--model", self.dir, stdin=done.stdout)
        self.check(back, 0)
        self.assertEqual([line["text"] for line in lines(back.stdout)], texts)

    def test_chat(self):
        message = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
        done = plural("tokenize", "--model", self.dir, "--chat", stdin=message)
        self.check(done, 0)
        expected = [256, *b"user\nhi", 257, *b"\n", 256, *b"assistant\n"]
        self.assertEqual(lines(done.stdout), [{"ids": expected}])

    def test_malformed_lines_are_answered_in_place(self):
        bad = ['{"text": "a"}', "not json", '["text"]', '{"no": 1}', '{"text": 5}', "", '{"text": "b"}']
        done = plural("tokenize", "--model", self.dir, stdin="\n".join(bad) + "\n")
        self.check(done, 2, "unusable")
        out = lines(done.stdout)
        self.assertEqual(len(out), len(bad))
        self.assertEqual([list(o) for o in out], [["ids"]] + [["error"]] * 5 + [["ids"]])
        self.assertIn("stdin:2", out[1]["error"])
        self.assertIn("'text' is missing", out[3]["error"])
        self.assertIn("expected a string, found number", out[4]["error"])
        done = plural("detokenize", "--model", self.dir, stdin='{"ids": [97, 99999]}\n{"ids": [98]}\n')
        self.check(done, 2)
        self.assertIn("99999", lines(done.stdout)[0]["error"])
        self.assertEqual(lines(done.stdout)[1], {"text": "b"})

    def test_deep_nesting_is_an_error_line(self):
        deep = "[" * 300_000 + "]" * 300_000  # shown in a message, it would overflow the stack
        done = plural("detokenize", "--model", self.dir, stdin=f'{{"ids": {deep}}}\n{{"ids": [98]}}\n')
        self.check(done, 2)
        out = lines(done.stdout)
        self.assertIn("stdin:1: the JSON is nested more than 200 deep", out[0]["error"])
        self.assertEqual(out[1], {"text": "b"})

    def test_the_input_is_never_overwritten(self):
        text = '{"text": "a"}\n'
        path = self.dir / "both"
        path.write_text(text)
        link = self.dir / "link"
        link.symlink_to(path)
        for out in (path, link):
            self.check(plural("tokenize", "--model", self.dir, "--in", path, "--out", out), 2, str(out), "choose another")
            with path.open(encoding="utf-8") as stream:
                self.check(plural("tokenize", "--model", self.dir, "--out", out, stdin_file=stream), 2, str(out))
        self.assertEqual(path.read_text(), text)
        self.check(plural("tokenize", "--model", self.dir, "--in", "/dev/null", "--out", "/dev/null"), 0)

    def test_files_in_and_out(self):
        (self.dir / "in").write_text('{"text": "a"}')  # no newline at the end
        self.check(plural("tokenize", "--model", self.dir, "--in", self.dir / "in", "--out", self.dir / "out"), 0)
        self.assertEqual((self.dir / "out").read_text(), '{"ids":[97]}\n')
        self.check(plural("tokenize", "--model", self.dir, "--in", self.dir / "absent"), 2, "absent", "No such file")


class ModelTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.model = make_model(self.dir)

    def test_logprobs_are_a_distribution(self):
        vocabulary = json.loads((self.model / "config.json").read_text())["vocab_size"]
        text = "".join(json.dumps({"ids": [97, 98, i]}) + "\n" for i in range(vocabulary))
        done = plural("logprobs", "--model", self.model, stdin=text)
        self.check(done, 0)
        rows = [line["logprobs"] for line in lines(done.stdout)]
        self.assertTrue(all(len(row) == 2 for row in rows))
        self.assertAlmostEqual(sum(math.exp(row[1]) for row in rows), 1, places=4)
        self.assertEqual(len({round(row[0], 5) for row in rows}), 1)

    def test_logprobs_of_bad_ids(self):
        bad = '{"ids": []}\n{"ids": [1, -2]}\n{"ids": [1, 100000]}\n{"ids": [7]}\n' + json.dumps({"ids": [1] * 513})
        done = plural("logprobs", "--model", self.model, stdin=bad)
        self.check(done, 2)
        out = lines(done.stdout)
        self.assertEqual([list(o)[0] for o in out], ["error", "error", "error", "logprobs", "error"])
        self.assertEqual(out[3]["logprobs"], [])
        self.assertIn("context is 512", out[4]["error"])

    def same_completions(self, a, b):
        """Matrix products of another batch size may round the last bits of a log-prob differently; nothing else differs."""
        a, b = lines(a.stdout), lines(b.stdout)
        self.assertEqual([{k: v for k, v in o.items() if k != "logprobs"} for o in a], [{k: v for k, v in o.items() if k != "logprobs"} for o in b])
        for x, y in zip(a, b):
            for p, q in zip(x.get("logprobs", []), y.get("logprobs", []), strict=True):
                self.assertAlmostEqual(p, q, places=5)

    def test_generate(self):
        prompts = '{"prompt": "one", "id": "p1"}\n{"prompt": [{"role": "user", "content": "two"}]}\n'
        args = ["generate", "--model", self.model, "-n", 3, "--max-new-tokens", 6, "--seed", 5]
        done = plural(*args, stdin=prompts)
        self.check(done, 0)
        out = lines(done.stdout)
        self.assertEqual(len(out), 6)
        self.assertEqual([o["sample"] for o in out], [0, 1, 2] * 2)
        self.assertEqual(out[0]["id"], "p1")
        for o in out:
            self.assertEqual(len(o["ids"]), len(o["logprobs"]))
            self.assertIn(o["finish_reason"], ("stop", "length"))
        self.assertEqual(plural(*args, stdin=prompts).stdout, done.stdout)
        self.same_completions(plural(*args, "--batch", 1, stdin=prompts), done)
        self.assertNotEqual(plural(*args[:-1], 6, stdin=prompts).stdout, done.stdout)
        # The log-probs are those of `logprobs` over prompt + completion.
        prompt = [256, *b"user\none", 257, *b"\n", 256, *b"assistant\n"]
        again = plural("logprobs", "--model", self.model, stdin=json.dumps({"ids": prompt + out[0]["ids"]}))
        for a, b in zip(lines(again.stdout)[0]["logprobs"][len(prompt) - 1:], out[0]["logprobs"]):
            self.assertAlmostEqual(a, b, places=4)

    def test_generate_keeps_order_around_bad_lines(self):
        prompts = '{"prompt": "one"}\nbroken\n{"prompt": "two"}\n' + json.dumps({"prompt": "x" * 600}) + '\n{"prompt": "three"}\n'
        done = plural("generate", "--model", self.model, "--max-new-tokens", 4, stdin=prompts)
        self.check(done, 2)
        out = lines(done.stdout)
        self.assertEqual(["error" in o for o in out], [False, True, False, True, False])
        self.assertIn("context is 512", out[3]["error"])
        # A row's random stream goes by its line, so bad lines elsewhere change nothing.
        self.same_completions(plural("generate", "--model", self.model, "--max-new-tokens", 4, "--batch", 1, stdin=prompts), done)

    def test_ctrl_c_while_generating(self):
        # The second batch would take minutes; Ctrl-C ends it between two tokens, and the first one's lines are there.
        out = self.dir / "out.jsonl"
        args = ["generate", "--model", self.model, "--batch", 1, "--max-new-tokens", 500, "-n"]
        process = start(*args, 4, "--out", out, stdin=subprocess.PIPE)
        process.stdin.write('{"prompt": "one"}\n')
        process.stdin.flush()
        wait_for(lambda: out.exists() and out.read_text().count("\n") == 4)
        process.stdin.write('{"prompt": "two"}\n')  # the pipe stays open: it now waits for a third line, or works
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, messages)
        self.assertGreaterEqual(len(lines(out.read_text())), 4)

        long = self.dir / "long.jsonl"
        prompt = self.dir / "prompt.jsonl"
        prompt.write_text('{"prompt": "one"}\n')
        process = start(*args, 100_000, "--in", prompt, "--out", long)
        wait_for(long.exists)
        time.sleep(1)  # it works on its only line now
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, messages)
        self.assertIn("completions done", messages)
        self.assertEqual(long.read_text(), "")  # not one prompt is finished

    def test_ctrl_c_keeps_the_finished_prompts_of_a_batch(self):
        # Near the end of the context completions are a few tokens; those of "long" take a while. The last prompt is finished early, too, but
        # there is a gap before it.
        texts = [json.dumps({"prompt": "x" * 485}), json.dumps({"prompt": "x" * 600}), json.dumps({"prompt": "y" * 484}),
                 json.dumps({"prompt": "long"}), json.dumps({"prompt": "z" * 485})]
        prompts, out = self.dir / "prompts.jsonl", self.dir / "out.jsonl"
        prompts.write_text("\n".join(texts) + "\n")
        args = ["generate", "--model", self.model, "--max-new-tokens", 500, "-n", 3000, "--out", out, "--in"]
        for pause in (1, 2, 4, 8, 16, 32):  # seconds; a slow machine needs more for the short ones
            process = start(*args, prompts)
            wait_for(out.exists)
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
            _, messages = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, messages)
            if len(written := lines(out.read_text())) > 3001:
                break
            out.unlink()
        self.assertIn("what came before the first unfinished prompt is written", messages)
        self.assertEqual(["error" in line for line in written], [False] * 3000 + [True] + [False] * 3000)
        prompts.write_text("\n".join(texts[:3]) + "\n")
        self.check(plural(*args, prompts), 2)
        kept = ("completion", "ids", "finish_reason", "sample", "error")
        self.assertEqual([{k: line.get(k) for k in kept} for line in written], [{k: line.get(k) for k in kept} for line in lines(out.read_text())])

    def test_ctrl_c_keeps_the_finished_ks_of_an_evaluation(self):
        data = write_lines(self.dir / "data.jsonl", EXAMPLES)
        out = self.dir / "out"
        args = ["eval", "--model", self.model, "--data", data, "--num-answers", "2,1,3", "--bootstrap", 0, "--out", out]
        process = start(*args, "--samples", 40, "--max-new-tokens", 400)
        for line in process.stderr:
            if line.startswith("K 2:"):
                break
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, messages)
        self.assertIn(f"the sets of K 2 are done and in {out / 'stopped'} (of 3 K asked for)", messages)
        self.assertFalse((out / "metrics.json").exists())  # half an evaluation is none for scripts that go on where they were stopped
        info = json.loads((out / "stopped" / "metrics.json").read_text())
        self.assertEqual([entry["num_answers"] for entry in info["by_num_answers"]], [2])
        self.assertEqual(len(lines((out / "stopped" / "samples.jsonl").read_text())), 4 * 40)
        self.check(plural("report", out / "stopped"), 0)
        self.check(plural(*args, "--max-new-tokens", 4), 0)
        self.assertEqual([entry["num_answers"] for entry in json.loads((out / "metrics.json").read_text())["by_num_answers"]], [2, 1, 3])
        self.assertFalse((out / "stopped").exists())

    def test_ctrl_c_while_evaluating(self):
        data = write_lines(self.dir / "data.jsonl", EXAMPLES)
        out = self.dir / "out"
        process = start("eval", "--model", self.model, "--data", data, "--samples", 100_000, "--max-new-tokens", 400, "--out", out)
        wait_for(out.exists)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, messages)
        self.assertEqual(list(out.iterdir()), [])  # half an evaluation is none

    def test_generate_asks_for_a_set(self):
        done = plural("generate", "--model", self.model, "--num-answers", 3, "--max-new-tokens", 4, "--temperature", 0,
                      stdin='{"prompt": "Name kinds of dog."}')
        plain = plural("generate", "--model", self.model, "--max-new-tokens", 4, "--temperature", 0, stdin='{"prompt": "Name kinds of dog."}')
        self.check(done, 0)
        self.assertNotEqual(lines(done.stdout)[0]["logprobs"], lines(plain.stdout)[0]["logprobs"])

    def test_a_format_of_one_answer_is_not_asked_for_more(self):
        data = write_lines(self.dir / "data.jsonl", EXAMPLES)
        self.check(plural("eval", "--model", "absent", "--data", data, "--format", "ta", "--num-answers", "1,3", "--out", self.dir / "out"), 2,
                   "'ta' holds one answer")  # before a model is loaded
        self.check(plural("eval", "--model", self.model, "--data", data, "--format", "ta", "--max-new-tokens", 4, "--out", self.dir / "out"), 0)
        self.assertEqual(json.loads((self.dir / "out" / "metrics.json").read_text())["num_answers"], 1)
        for command in (["generate", "--model", self.model], ["score"]):
            done = plural(*command, "--format", "ta", "--num-answers", 3, stdin="")
            self.check(done, 2, "num_answers", "'ta' holds one answer, 3 were asked for")
            self.check(plural(*command, "--format", "ta", "--num-answers", 1, stdin=""), 0)

    def test_a_format_without_a_number_of_answers(self):
        prompt, ask = '{"prompt": "Name kinds of dog."}', ["generate", "--model", self.model, "--max-new-tokens", 4, "--temperature", 0]
        self.check(plural("generate", "--model", "absent", "--format", "multi_answer", stdin=prompt), 2, "--format multi_answer", "--num-answers")
        # A format of one answer says the number by itself.
        one = plural(*ask, "--format", "ta", stdin=prompt)
        self.check(one, 0)
        self.assertEqual(one.stdout, plural(*ask, "--format", "ta", "--num-answers", 1, stdin=prompt).stdout)
        self.assertNotEqual(one.stdout, plural(*ask, stdin=prompt).stdout)
        self.check(plural(*ask, "--raw", "--format", "ta", stdin=prompt), 2, "--raw")

    def test_raw_prompts_take_no_instruction(self):
        self.check(plural("generate", "--model", self.model, "--raw", "--num-answers", 3, stdin='{"prompt": "x"}'), 2, "--raw")

    def test_init_depends_on_the_seed_only(self):
        source = self.dir / "source"
        config = write_model_config(source, 300)
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            self.check(plural("init", "--config", config, "--out", self.dir / name, "--seed", seed), 0)
        a, b, c = ((self.dir / name / "model.safetensors").read_bytes() for name in "abc")
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)
        self.check(plural("init", "--config", config, "--out", self.dir / "a"), 2, "holds a model already")


class ScoreTest(CommandTest):
    GOOD = "<answer1>Coat.</answer1><confidence1>0.6</confidence1><answer2>x</answer2><confidence2>0.3</confidence2>"

    def test_values_by_hand(self):
        line = json.dumps({"completion": self.GOOD, "gold": ["coat", "hat"]})
        done = plural("score", "--num-answers", 2, stdin=line)
        self.check(done, 0)
        out = lines(done.stdout)[0]
        self.assertEqual(out["answers"], ["Coat.", "x"])
        self.assertEqual(out["confidences"], [0.6, 0.3])
        self.assertEqual(out["correct"], [True, False])
        self.assertTrue(out["format_ok"])
        self.assertIsNone(out["error"])
        self.assertAlmostEqual(out["rewards"]["format"], 1)
        self.assertAlmostEqual(out["rewards"]["coverage"], 0.5)
        self.assertAlmostEqual(out["rewards"]["brier"], 1 - (0.4**2 + 0.3**2) / 2, places=6)
        self.assertAlmostEqual(out["total"], 2.375, places=6)

    def test_garbage_is_data_and_malformed_lines_are_errors(self):
        text = json.dumps({"completion": "garbage", "gold": ["a"]}) + '\n{"completion": "x"}\n{"gold": ["a"]}\n' + \
            json.dumps({"completion": "x", "gold": [{"answer": "a", "weight": -1}]}) + "\n"
        done = plural("score", stdin=text)
        self.check(done, 2)
        out = lines(done.stdout)
        self.assertEqual(out[0]["total"], 0)
        self.assertFalse(out[0]["format_ok"])
        self.assertIn("'gold' is missing", out[1]["error"])
        self.assertIn("'completion' is missing", out[2]["error"])
        self.assertIn("weight", out[3]["error"])

    def test_configuration(self):
        config = self.dir / "score.yaml"
        config.write_text("model: m\noutput: o\ndata: {train: t}\nnum_answers: 2\nrewards: [{name: coverage, weight: 3}]\n")
        done = plural("score", "--config", config, stdin=json.dumps({"completion": self.GOOD, "gold": ["coat"]}))
        self.check(done, 0)
        self.assertEqual(lines(done.stdout)[0]["rewards"], {"coverage": 0.5})
        self.assertAlmostEqual(lines(done.stdout)[0]["total"], 1.5)


class MetricsTest(CommandTest):
    def test_values_by_hand(self):
        done = plural("metrics", stdin='{"confidence": 0.9, "correct": true}\n{"confidence": 0.6, "correct": 0}\n')
        self.check(done, 0)
        out = lines(done.stdout)[0]
        self.assertEqual(out["count"], 2)
        self.assertAlmostEqual(out["brier"], (0.01 + 0.36) / 2)
        self.assertAlmostEqual(out["ece"], 0.5 * 0.1 + 0.5 * 0.6)
        self.assertAlmostEqual(out["accuracy"], 0.5)
        self.assertEqual(out["auroc"], 1)
        self.assertEqual([b["count"] for b in out["bins"]], [0, 0, 0, 0, 0, 0, 1, 0, 0, 1])

    def test_against_plain_python(self):
        rng = random.Random(4)
        rows = []
        for _ in range(200):
            k = rng.randint(1, 3)
            confidence = [rng.choice([0.05, 0.1, 0.3, 0.5, 0.6, 0.9, 1.0]) for _ in range(k)]
            rows.append({"confidence": confidence, "correct": [int(rng.random() < 0.2 + 0.5 * q) for q in confidence],
                         "class": [rng.choice("abc") for _ in range(k)], "probability": [rng.random() / k for _ in range(k)]})
        done = plural("metrics", stdin="".join(json.dumps(r) + "\n" for r in rows))
        self.check(done, 0)
        out = lines(done.stdout)[0]
        points = [(q, z) for r in rows for q, z in zip(r["confidence"], r["correct"])]
        mean = statistics.mean

        def ece(points):
            bins = collections.defaultdict(list)
            for q, z in points:
                bins[sum(q >= i / 10 for i in range(1, 10))].append((q, z))
            return sum(abs(sum(q - z for q, z in b)) for b in bins.values()) / len(points)

        def equal_mass(points, n=10):
            ordered, runs, begin = sorted(points, key=lambda p: p[0]), [], 0
            for i in range(1, n + 1):
                end = max(begin, len(ordered) * i // n)
                while begin < end < len(ordered) and ordered[end][0] == ordered[end - 1][0]:
                    end += 1
                runs += [ordered[begin:end]] if end > begin else []
                begin = end
            return runs

        def debiased_term(run):
            y = mean(z for _, z in run)
            return len(run) * ((mean(q for q, _ in run) - y) ** 2 - y * (1 - y) / (len(run) - 1)) if len(run) > 1 else 0

        def distance(row):
            q, p = row["confidence"], row["probability"]
            q = [x / max(1, sum(q)) for x in q]
            q, p = q + [max(0, 1 - sum(row["confidence"]))], p + [1 - sum(p)]
            raised = [max(x, 1e-3) for x in q]
            return (sum(abs(a - b) for a, b in zip(p, q)) / 2, sum(a * math.log(a / (b / sum(raised))) for a, b in zip(p, raised)))

        right, wrong = [q for q, z in points if z], [q for q, z in points if not z]
        expected = {
            "accuracy": mean(z for _, z in points),
            "brier": mean((q - z) ** 2 for q, z in points),
            "ece": ece(points),
            "ece_equal_mass": sum(abs(sum(q - z for q, z in run)) for run in equal_mass(points)) / len(points),
            "ece_debiased": max(0, sum(map(debiased_term, equal_mass(points))) / len(points)) ** 0.5,
            "auroc": mean((a > b) + 0.5 * (a == b) for a in right for b in wrong),
            "set_brier_sum": mean(sum((q - z) ** 2 for q, z in zip(r["confidence"], r["correct"])) for r in rows),
            "set_brier_mean": mean(mean((q - z) ** 2 for q, z in zip(r["confidence"], r["correct"])) for r in rows),
            "total_variation": mean(distance(r)[0] for r in rows),
            "kl": mean(distance(r)[1] for r in rows),
            "ece_classwise": mean(ece([(q, z) for r in rows for q, z, c in zip(r["confidence"], r["correct"], r["class"]) if c == name])
                                  for name in "abc"),
        }
        for name, value in expected.items():
            self.assertAlmostEqual(out[name], value, places=9, msg=name)
        parts = [out[f"brier_{part}"] for part in ("reliability", "resolution", "uncertainty", "within_bins")]
        self.assertAlmostEqual(parts[0] - parts[1] + parts[2] + parts[3], out["brier"], places=12)
        for slot in out["by_slot"]:
            i = int(slot["slot"]) - 1
            own = [(r["confidence"][i], r["correct"][i]) for r in rows if i < len(r["confidence"])]
            self.assertEqual(slot["count"], len(own))
            self.assertAlmostEqual(slot["ece"], ece(own), places=9)
        self.assertEqual(sorted(c["class"] for c in out["by_class"]), ["a", "b", "c"])

    def test_intervals(self):
        rows = [{"confidence": 0.25, "correct": i % 4 == 0} for i in range(400)]
        text = "".join(json.dumps(r) + "\n" for r in rows)
        out = lines(plural("metrics", stdin=text).stdout)[0]
        low, high = out["intervals"]["accuracy"]
        # The standard error of the mean of 400 trials with p = 1/4.
        self.assertAlmostEqual((high - low) / 2, 1.96 * (0.25 * 0.75 / 400) ** 0.5, delta=0.005)
        self.assertTrue(low < 0.25 < high)
        self.assertEqual(lines(plural("metrics", stdin=text).stdout)[0], out)
        other = lines(plural("metrics", "--seed", 2, stdin=text).stdout)[0]["intervals"]
        self.assertNotEqual(other["brier"], out["intervals"]["brier"])
        wide = lines(plural("metrics", "--level", 0.99, stdin=text).stdout)[0]["intervals"]["accuracy"]
        self.assertTrue(wide[0] < low and high < wide[1])
        self.assertEqual(lines(plural("metrics", "--bootstrap", 0, stdin=text).stdout)[0]["intervals"], {})

    def test_bad_lines(self):
        bad = ['{"confidence": 1.5, "correct": 1}', '{"confidence": 0.5, "correct": "yes"}', '{"confidence": [0.5, 1], "correct": [1]}',
               '{"confidence": 0.5, "correct": 1, "class": 3}', '{"confidence": 0.5, "correct": 1, "probability": [0.5]}',
               '{"confidence": [0.5, 0.5], "correct": [1, 0], "probability": [0.9, 0.2]}']
        done = plural("metrics", stdin="\n".join(bad) + '\n{"confidence": 1, "correct": 1}\n')
        self.check(done, 2)
        out = lines(done.stdout)
        self.assertEqual([list(o)[0] for o in out], ["error"] * len(bad) + ["count"])
        self.assertEqual(out[-1]["count"], 1)
        for line, field in zip(out, ("confidence", "correct", "equal length", "class", "probability", "at most 1, found 1.1")):
            self.assertIn(field, line["error"])

    def test_nothing_in(self):
        done = plural("metrics", stdin="")
        self.check(done, 0)
        self.assertIsNone(lines(done.stdout)[0]["ece"])


class EvalTest(CommandTest):
    """Stored completions of every kind, measured again in plain Python."""

    K, SAMPLES = 3, 3
    GOLD = {"cat": (0, ["kitty", "red cat"], 5), "dog": (1, [], 3), "owl": (2, [], 2)}
    WORDS = ["cat", "kitty", "red cat", "dog", "Dog!", "owl", "ant", "big ant", "the"]  # the last one has an empty normal form

    def random_set(self, rng):
        """[(number, text, confidence as written or None)]; numbers may be left out."""
        confidences = ["0", "0.1", "0.1", "0.5", "0.9", "1", "1.5", "85%", "maybe", None]
        return [(i, rng.choice(self.WORDS), rng.choice(confidences)) for i in range(1, self.K + 1) if rng.random() < 0.8]

    @staticmethod
    def text(answers):
        return "".join(f"<answer{i}>{a}</answer{i}>" + ("" if q is None else f"<confidence{i}>{q}</confidence{i}>") for i, a, q in answers)

    def read(self, answers):
        """The answers of a set as dictionaries, in order."""
        matches = {spelling: index for name, (index, aliases, _) in self.GOLD.items() for spelling in [name, *aliases]}
        out, keys, hits = [], set(), set()
        for number, text, stated in answers:
            normal = {"Dog!": "dog", "the": ""}.get(text, text)
            match = matches.get(normal, -1)
            q = None if stated in (None, "maybe") else float(stated[:-1]) / 100 if stated.endswith("%") else float(stated)
            q = q if q is not None and q <= 1 else None
            out.append({"number": number, "normal": normal, "match": match, "q": q, "z": int(match >= 0),
                        "new": bool(normal) and normal not in keys, "hit": match >= 0 and match not in hits})
            keys.add(normal)
            hits.add(match)
        return out

    def test_stored_sets_against_plain_python(self):
        rng = random.Random(11)
        prompts = [[self.random_set(rng) for _ in range(self.SAMPLES)] for _ in range(40)]
        gold = [{"answer": name, "aliases": aliases, "weight": weight} for name, (_, aliases, weight) in self.GOLD.items()]
        written = [{"id": f"p{p}", "prompt": "?", "gold": gold, "completion": self.text(answers), "tokens": 10 + len(answers)}
                   for p, rows in enumerate(prompts) for answers in rows]
        data = write_lines(self.dir / "stored.jsonl", written)
        self.check(plural("eval", "--data", data, "--num-answers", self.K, "--bootstrap", 0, "--out", self.dir / "out"), 0)
        info = json.loads((self.dir / "out" / "metrics.json").read_text())
        sets = [[self.read(answers) for answers in rows] for rows in prompts]
        rows = [row for prompt in sets for row in prompt]
        weights = [w / 10 for _, _, w in self.GOLD.values()]
        mean, ks = statistics.mean, range(1, self.K + 1)

        def hits(row):
            return len({a["match"] for a in row if a["z"]})

        def ranked(row):
            return sorted(row, key=lambda a: -1 if a["q"] is None else a["q"], reverse=True)

        def stated(row):
            return [a for a in row if a["q"] is not None]

        def distance(row):
            """Total variation and KL; None without a confidence in a new answer."""
            own = [a for a in stated(row) if a["new"] and (a["hit"] or not a["z"])]
            if not own:
                return None
            p, q, total = [weights[a["match"]] if a["z"] else 0 for a in own], [a["q"] for a in own], sum(a["q"] for a in own)
            q = [x / max(1, total) for x in q] + [max(0, 1 - total)]
            p = p + [max(0, 1 - sum(p))]
            raised = [max(x, 1e-3) for x in q]
            return (sum(abs(a - b) for a, b in zip(p, q)) / 2, sum(a * math.log(a * sum(raised) / b) for a, b in zip(p, raised) if a > 0))

        def grams(row, n):
            lists = [a["normal"].split() for a in row]
            return [tuple(words[i:i + n]) for words in lists for i in range(len(words) - n + 1)]

        def similarity(a, b):
            a, b = set(a["normal"].split()), set(b["normal"].split())
            return len(a & b) / len(a | b) if a | b else 1

        points = [a for row in rows for a in stated(row)]
        answers = [a for row in rows for a in row]
        distances = [d for d in map(distance, rows) if d]
        tokens = [line["tokens"] for line in written]
        expected = {
            "rows": len(rows), "answers": len(points),
            # A percentage is a confidence, but not in the format.
            "format_rate": mean(int([i for i, _, _ in r] == list(ks) and all(q in ("0", "0.1", "0.5", "0.9", "1") for _, _, q in r))
                                for prompt in prompts for r in prompt),
            "unanswered": mean(int(not r) for r in rows),
            "completion_characters": mean(len(line["completion"]) for line in written),
            "tokens_per_answer": sum(tokens) / len(answers),
            "coverage": mean(hits(r) / self.K for r in rows),
            "distinct_correct": mean(map(hits, rows)),
            "any_correct": mean(int(hits(r) > 0) for r in rows),
            "unique": mean(sum(a["new"] for a in r) / self.K for r in rows),
            "precision": mean(hits(r) / len(r) for r in rows if r),
            "recall": mean(hits(r) / 3 for r in rows),
            "f1": mean(2 * hits(r) / (len(r) + 3) for r in rows),
            "gold_mass": mean(sum(weights[m] for m in {a["match"] for a in r if a["z"]}) for r in rows),
            "accuracy": mean(a["z"] for a in answers),
            "confidence_adherence": len(points) / len(answers),
            "mean_confidence": mean(a["q"] for a in points),
            "brier": mean((a["q"] - a["z"]) ** 2 for a in points),
            "set_brier_sum": mean(sum(((a["q"] or 0) - a["z"]) ** 2 for a in r) for r in rows if r),
            "set_brier_mean": mean(mean(((a["q"] or 0) - a["z"]) ** 2 for a in r) for r in rows if r),
            "total_variation": mean(d[0] for d in distances), "kl": mean(d[1] for d in distances),
            "tokens": mean(tokens), "tokens_per_correct": sum(tokens) / sum(a["z"] for a in answers),
            "tokens_per_distinct_correct": sum(tokens) / sum(map(hits, rows)),
            "jaccard": mean(mean(similarity(a, b) for a, b in itertools.combinations(r, 2)) for r in rows if len(r) > 1),
            **{f"distinct_{n}": mean(len(set(g)) / len(g) for g in (grams(r, n) for r in rows) if g) for n in (1, 2)},
            **{f"coverage@{k}": mean(hits([a for a in r if a["number"] <= k]) / k for r in rows) for k in ks},
            **{f"coverage@rank{k}": mean(hits(ranked(r)[:k]) / k for r in rows) for k in ks},
            **{f"pass@{k}": mean(int(hits(ranked(r)[:k]) > 0) for r in rows) for k in ks},
            **{f"accuracy@rank{k}": mean(ranked(r)[k - 1]["z"] for r in rows if len(r) >= k) for k in ks},
            **{f"sample_pass@{k}": mean(mean(int(any(hits(r) for r in some)) for some in itertools.combinations(prompt, k)) for prompt in sets)
               for k in range(1, self.SAMPLES + 1)},
        }
        for name, value in expected.items():
            self.assertAlmostEqual(info["metrics"][name], value, places=9, msg=name)
        self.assertEqual(len(info["curve"]), self.K + self.SAMPLES - 1)
        for point, k in zip(info["curve"], ks):
            self.assertEqual(point["answers"], k)
            self.assertAlmostEqual(point["distinct_correct"], mean(hits([a for a in r if a["number"] <= k]) for r in rows))
            self.assertAlmostEqual(point["unique"], mean(sum(a["new"] for a in r if a["number"] <= k) for r in rows))
        for point, draws in zip(info["curve"][self.K:], range(2, self.SAMPLES + 1)):
            choices = [[[a for r in some for a in r] for some in itertools.combinations(prompt, draws)] for prompt in sets]
            self.assertEqual(point["answers"], draws * self.K)
            self.assertAlmostEqual(point["tokens"], draws * mean(tokens))
            self.assertAlmostEqual(point["distinct_correct"], mean(mean(map(hits, some)) for some in choices))
            self.assertAlmostEqual(point["unique"], mean(mean(len({a["normal"] for a in s if a["normal"]}) for s in some) for some in choices))


class ConfigTest(CommandTest):
    def test_every_key_is_listed(self):
        done = plural("config")
        self.check(done, 0)
        for text in ("prompts_per_step", "optimizer.learning_rate", "peak learning rate", "rewards: name: coverage", "advantage: name: grpo"):
            self.assertIn(text, done.stdout)

    def test_defaults_read_back(self):
        done = plural("config", "--defaults")
        self.check(done, 0)
        path = self.dir / "defaults.yaml"
        path.write_text(done.stdout)
        required = [o for key in ("model", "output", "data.train") for o in ("--set", f"{key}=x")]
        self.check(plural("config", "--check", path, *required, "--set", "rewards=[coverage]"), 0)
        self.check(plural("config", "--check", path), 2, "model", "output", "train")
        rewards = "rewards=[coverage, {name: brier, weight: %s}]"
        self.assertNotIn("warning", plural("config", "--check", path, *required, "--set", rewards % 1).stderr)
        self.check(plural("config", "--check", path, *required, "--set", rewards % 2), 0, "warning", "wrong on purpose")


if __name__ == "__main__":
    unittest.main()
