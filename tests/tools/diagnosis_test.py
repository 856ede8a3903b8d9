"""examples/diagnosis: the posterior against enumeration, the data, the measures by hand, the summary, and a run of everything."""

import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

import numpy as np

EXAMPLE = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"]) / "examples/diagnosis"
PLURAL = pathlib.Path(os.environ["PLURAL_BIN"]) / "plural"
sys.path.insert(0, str(EXAMPLE))
import charts  # noqa: E402
import make_data  # noqa: E402
import measures  # noqa: E402
import network  # noqa: E402
import study  # noqa: E402
import summarise  # noqa: E402

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def make(folder, *arguments):
    command = [sys.executable, EXAMPLE / "make_data.py", "--out", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENV)


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def small_network():
    """3 diseases, 4 findings, 2 antecedents."""
    return network.Network(
        diseases=("a", "b", "c"),
        findings=("f", "g", "h", "i"),
        antecedents=("r", "s"),
        base=np.array([3.0, 1.0, 0.5]),
        by_age=np.array([[1.0, 2.0, 1.0, 1.0], [0.5, 1.0, 1.0, 3.0], [1.0, 1.0, 4.0, 1.0]]),
        by_sex=np.array([[1.0, 2.0], [1.5, 1.0], [1.0, 1.0]]),
        by_antecedent=np.array([[1.0, 5.0], [2.0, 1.0], [1.0, 1.0]]),
        leak=np.array([0.05, 0.1, 0.2, 0.01]),
        cause=np.array([[0.9, 0.0, 0.4, 0.0], [0.3, 0.7, 0.0, 0.0], [0.0, 0.6, 0.0, 0.8]]),
        antecedent_cause=np.array([[0.5, 0.0, 0.0, 0.1], [0.0, 0.2, 0.0, 0.0]]),
        mention_present=0.6,
        mention_absent=0.2,
    )


def joint_by_enumeration(world, case):
    """[D]: P(disease, what the text mentions | age, sex, antecedents), a sum over what every cause does and every finding."""
    diseases, findings = len(world.diseases), len(world.findings)
    prior = [world.base[d] * world.by_age[d][case.age] * world.by_sex[d][case.sex] *
             math.prod(world.by_antecedent[d][a] for a in case.antecedents) for d in range(diseases)]
    total = np.zeros(diseases)
    for d in range(diseases):
        for there in itertools.product((0, 1), repeat=findings):
            p = prior[d] / sum(prior)
            for f in range(findings):
                # Each cause fires or not, by itself; the finding is there when any does.
                causes = [world.leak[f], world.cause[d][f], *(world.antecedent_cause[a][f] for a in case.antecedents)]
                fires = sum(math.prod(c if on else 1 - c for c, on in zip(causes, which))
                            for which in itertools.product((0, 1), repeat=len(causes)) if any(which) == bool(there[f]))
                said = {(1, 1): world.mention_present, (1, 0): 1 - world.mention_present, (1, -1): 0.0,
                        (0, -1): world.mention_absent, (0, 0): 1 - world.mention_absent, (0, 1): 0.0}
                p *= fires * said[there[f], case.mentions[f]]
            total[d] += p
    return total


class Posterior(unittest.TestCase):
    def test_equals_enumeration_for_every_text(self):
        world = small_network()
        for age, sex, antecedents in ((0, 0, ()), (1, 1, (0,)), (3, 0, (1,)), (2, 1, (0, 1))):
            whole = 0.0
            for mentions in itertools.product((-1, 0, 1), repeat=len(world.findings)):
                case = network.Case(age, sex, antecedents, mentions)
                joint = joint_by_enumeration(world, case)
                np.testing.assert_allclose(world.posterior(case), joint / joint.sum(), rtol=1e-12)
                whole += joint.sum()
            self.assertAlmostEqual(whole, 1, places=12)  # these are all texts

    def test_draws_follow_it(self):
        world = small_network()
        stream = np.random.default_rng(5)
        cases = [world.draw(stream) for _ in range(6000)]
        posteriors = np.array([world.posterior(case) for case in cases])
        causes = np.array([case.disease for case in cases])
        for d in range(3):
            # Given the texts, causes are independent draws: the counts of any group of texts are known to within 4 standard deviations.
            for group in (posteriors[:, d] < 0.3, posteriors[:, d] >= 0.3):
                p = posteriors[group, d]
                self.assertLess(abs((causes[group] == d).sum() - p.sum()), 4 * math.sqrt((p * (1 - p)).sum()))

    def test_the_big_network_leaves_several_diseases_open(self):
        world = network.make_network(1)
        self.assertEqual((len(world.diseases), len(set(world.diseases)), len(world.findings)), (50, 50, 60))
        stream = np.random.default_rng(1)
        top = np.sort([world.posterior(world.draw(stream)) for _ in range(300)], axis=1)[:, ::-1]
        self.assertTrue(0.4 < top[:, 0].mean() < 0.65, top[:, 0].mean())
        self.assertTrue(0.65 < top[:, :3].sum(axis=1).mean() < 0.85, top[:, :3].sum(axis=1).mean())


class Data(unittest.TestCase):
    SIZES = ("--sft-cases", "40", "--train-cases", "30", "--heldout-cases", "20")

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = pathlib.Path(cls.folder.name) / "first"
        done = make(cls.out, *cls.SIZES)
        assert done.returncode == 0, done.stderr
        cls.truth = np.load(cls.out / "posteriors.npz")
        cls.diseases = [str(d) for d in cls.truth["diseases"]]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_same_arguments_same_bytes(self):
        again, other = (pathlib.Path(self.folder.name) / name for name in ("again", "other"))
        self.assertEqual(make(again, *self.SIZES).returncode, 0)
        self.assertEqual(make(other, *self.SIZES, "--seed", "2").returncode, 0)
        files = sorted(path.relative_to(self.out) for path in self.out.rglob("*") if path.is_file())
        self.assertEqual(len(files), 8)
        for file in files:
            self.assertEqual((self.out / file).read_bytes(), (again / file).read_bytes(), file)
        self.assertNotEqual((self.out / "heldout.jsonl").read_bytes(), (other / "heldout.jsonl").read_bytes())

    def test_labels_and_posteriors_belong_together(self):
        drawn, sets = read(self.out / "train_drawn.jsonl"), read(self.out / "train_set.jsonl")
        self.assertEqual([len(read(self.out / f)) for f in ("sft.jsonl", "train_drawn.jsonl", "heldout.jsonl")], [40, 30, 20])
        for line, posterior, one in zip(sets, self.truth["train"], drawn):
            self.assertEqual((line["id"], line["prompt"]), (one["id"], one["prompt"]))
            likely = {d for d in range(50) if posterior[d] >= make_data.SET_THRESHOLD} or {int(posterior.argmax())}
            self.assertEqual({g["answer"] for g in line["gold"]}, {self.diseases[d] for d in likely})
            for g in line["gold"]:
                self.assertAlmostEqual(g["weight"], posterior[self.diseases.index(g["answer"])], places=8)
            self.assertGreater(posterior[self.diseases.index(one["gold"][0]["answer"])], 0)
        np.testing.assert_allclose(self.truth["train"].sum(axis=1), 1, rtol=1e-12)

    def test_text_and_posterior_belong_together(self):
        """The case is read back from its text."""
        world = network.make_network(1)
        for line, posterior in zip(read(self.out / "heldout.jsonl"), self.truth["heldout"]):
            parts = {part.split(": ")[0]: part.split(": ")[1].split() for part in line["prompt"].rstrip(".").split(". ")}
            sex, age = parts["Patient"]
            mentions = [(f in parts.get("Findings", ())) - (f in parts.get("Absent", ())) for f in network.FINDINGS]
            antecedents = tuple(network.ANTECEDENTS.index(a) for a in parts.get("Antecedents", ()))
            case = network.Case(network.AGES.index(age), network.SEXES.index(sex), antecedents, tuple(mentions))
            np.testing.assert_allclose(world.posterior(case), posterior, rtol=1e-12)

    def test_words_are_tokens(self):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.out / "model/tokenizer.json"))
        config = json.loads((self.out / "model/config.json").read_text())
        self.assertEqual(tokenizer.get_vocab_size(), config["vocab_size"])
        self.assertEqual(tokenizer.token_to_id("<|im_end|>"), config["eos_token_id"])
        for line in read(self.out / "heldout.jsonl"):
            tokens = tokenizer.encode(line["prompt"], add_special_tokens=False).tokens
            self.assertEqual(len(tokens), len(line["prompt"].replace(":", " :").replace(".", " .").split()), tokens)
        answer = "<answer1>barosis</answer1><confidence1>0.05</confidence1><answer5>toralgia</answer5><confidence5>0.98</confidence5>"
        self.assertEqual(len(tokenizer.encode(answer, add_special_tokens=False).ids), 12)


def row(case, answers, tokens=10):
    """answers: [(disease or -1, confidence)]; disease 0 was drawn."""
    return measures.Row(case=case, diseases=[d for d, _ in answers], names=["abcde"[d] if d >= 0 else "nonsense" for d, _ in answers],
                        confidences=[q for _, q in answers], correct=[d == 0 for d, _ in answers], tokens=tokens)


POSTERIORS = np.array([[0.5, 0.3, 0.1, 0.06, 0.04], [0.2, 0.2, 0.3, 0.2, 0.1]])


class Measures(unittest.TestCase):
    def test_sets_by_hand(self):
        rows = [row(0, [(0, 0.2), (4, 0.9), (0, 0.3)], 20), row(1, [(2, 0.5), (-1, None)], 14)]
        self.assertEqual(measures.probabilities(rows[0], POSTERIORS[0]), [0.5, 0.04, 0.0])
        found = measures.set_measures(rows, POSTERIORS, 0.05, 3)
        expected = {
            "mass": (0.54 + 0.3) / 2, "best_mass": (0.9 + 0.7) / 2, "regret": (0.36 + 0.4) / 2,
            "top1": (0.04 + 0.3) / 2, "top1_regret": (0.46 + 0.0) / 2,
            "hits": 1, "recall": (1 / 4 + 1 / 5) / 2, "coverage": 1 / 3, "unique": 2, "tokens": 17,
        }
        self.assertEqual(set(found), set(expected))
        for name, value in expected.items():
            self.assertAlmostEqual(found[name], value, places=12, msg=name)

    def test_calibration_by_hand(self):
        # A disease that is stated again, and an answer without a confidence, are no forecasts.
        rows = [row(0, [(0, 0.6), (1, 0.35), (0, 0.1)]), row(1, [(-1, 0.35), (2, None)])]
        exact = measures.exact_calibration(rows, POSTERIORS, 3)
        self.assertEqual(exact["count"], 3)
        self.assertAlmostEqual(exact["squared_error"], (0.01 + 0.0025 + 0.1225) / 3)
        self.assertAlmostEqual(exact["irreducible"], (0.25 + 0.21 + 0.0) / 3)
        self.assertAlmostEqual(exact["ece"], (0.1 + 2 * abs(0.35 - 0.15)) / 3)
        self.assertEqual([b["count"] for b in exact["bins"]], [2, 1])
        self.assertEqual([(r["rank"], r["count"]) for r in exact["by_rank"]], [(1, 2), (2, 1)])
        self.assertAlmostEqual(exact["by_rank"][0]["mean_confidence"], 0.475)
        self.assertAlmostEqual(exact["by_rank"][0]["mean_probability"], 0.25)

    def test_label_calibration_is_that_of_the_command(self):
        rows = [row(0, [(0, 0.6), (1, 0.35)]), row(1, [(2, 0.5)])]
        labels = measures.label_calibration(rows, POSTERIORS, PLURAL)
        self.assertAlmostEqual(labels["brier"], (0.16 + 0.1225 + 0.25) / 3)
        # Stated .6, .35 and .05 else against .5, .3 and .2 else; .5, .5 else against .3, .7 else.
        self.assertAlmostEqual(labels["total_variation"], (0.15 + 0.2) / 2)
        kl = 0.5 * math.log(0.5 / 0.6) + 0.3 * math.log(0.3 / 0.35) + 0.2 * math.log(0.2 / 0.05)
        self.assertAlmostEqual(labels["kl"], (kl + 0.3 * math.log(0.3 / 0.5) + 0.7 * math.log(0.7 / 0.5)) / 2)
        self.assertEqual([(c["class"], c["count"]) for c in labels["by_class"]], [("1", 2), ("2", 1)])

    def test_chances_are_means_over_all_choices(self):
        rows = [row(0, a) for a in ([(0, 0), (1, 0), (2, 0)], [(0, 0), (3, 0)], [(1, 0), (1, 0), (0, 0)], [(-1, 0), (2, 0), (4, 0)])]
        for taken in range(4):
            for more in (1, 2, 3):
                sets = []
                for order in itertools.permutations(range(4), taken + 1):
                    held = {n for i in order[:-1] for n in rows[i].names} | set(rows[order[-1]].names[:more])
                    sets.append(held)
                for name, chance in measures.chances(rows, taken, more).items():
                    self.assertAlmostEqual(chance, sum(name in held for held in sets) / len(sets), places=12)

    def test_curve(self):
        rows = [row(0, [(0, 0), (1, 0)], 10), row(0, [(0, 0), (-1, 0)], 14)]
        points = measures.curve(rows, POSTERIORS, 0.05, 2, [6.0, 12.0])
        self.assertEqual([p["answers"] for p in points], [1, 2, 3, 4])
        self.assertEqual([p["tokens"] for p in points], [6, 12, 18, 24])
        for point, mass, unique in zip(points, (0.5, 0.65, 0.65, 0.8), (1, 2, 2, 3)):
            self.assertAlmostEqual(point["mass"], mass)
            self.assertAlmostEqual(point["unique"], unique)
        self.assertAlmostEqual(points[-1]["recall"], 2 / 4)

    def test_steps(self):
        curve = measures.running_mean([(2, 0.5), (4, 0.7), (6, 0.9)], 2)
        for (step, value), expected in zip(curve, ((2, 0.5), (4, 0.6), (6, 0.8))):
            self.assertEqual(step, expected[0])
            self.assertAlmostEqual(value, expected[1])
        self.assertEqual(measures.first_step(curve, 0.55), 4)
        self.assertIsNone(measures.first_step(curve, 0.85))


class Charts(unittest.TestCase):
    def test_points_stand_where_the_axes_say(self):
        series = [("one", [(0, 0, 0), (10, 1, 0.25)]), ("two", [])]
        svg = charts.line_chart("A <title>", "x", "y", series, x_range=(0, 10), y_range=(0, 1), diagonal=True)
        root = xml.etree.ElementTree.fromstring(svg)
        space = "{http://www.w3.org/2000/svg}"
        circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(space + "circle")]
        self.assertEqual(circles, [(charts.LEFT, charts.HEIGHT - charts.BOTTOM), (charts.WIDTH - charts.RIGHT, charts.TOP)])
        self.assertIn("A <title>", [t.text for t in root.iter(space + "text")])
        with self.assertRaisesRegex(ValueError, "no points"):
            charts.line_chart("t", "x", "y", [("one", [])])

    def test_ticks_are_round(self):
        self.assertEqual(charts.ticks(0, 1), [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0])
        self.assertEqual(charts.ticks(3, 148), [50, 100])


def write_evaluation(folder, rows, k):
    """What summarise.py reads of an evaluation. rows: [(case, [(text, confidence, correct)], tokens)]."""
    folder.mkdir(parents=True)
    lines = [{"id": f"heldout-{case:05}", "tokens": tokens,
              "answers": [{"text": t, "confidence": q, "correct": z} for t, q, z in answers]} for case, answers, tokens in rows]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = [{"answers": j, "tokens": 5.0 * j} for j in range(1, k + 1)]
    (folder / "metrics.json").write_text(json.dumps({"metrics": {"format_rate": 1.0}, "curve": curve}))


class Summary(unittest.TestCase):
    """Two seeds, two arms, one case of five diseases."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_dir = pathlib.Path(folder.name) / "run"
        self.results = pathlib.Path(folder.name) / "results"
        (self.run_dir / "data").mkdir(parents=True)
        np.savez(self.run_dir / "data/posteriors.npz", heldout=POSTERIORS[:1], train=POSTERIORS, diseases=np.array(list("abcde")))
        answers = {1: [("A", 0.5, True), ("b", 0.1, False)], 2: [("a", 0.7, True), ("e", 0.1, False)]}
        self.arms = [study.Arm("rlvr_single", "Single", k=1), study.Arm("rlcr_multi", "Multi", k=2)]
        for seed in (1, 2):
            evals = self.run_dir / f"seed{seed}/evals"
            write_evaluation(evals / "rlvr_single", [(0, [("a", 0.9, True)], 7), (0, [("a", 0.9, True)], 7)], 1)
            write_evaluation(evals / "rlcr_multi", [(0, answers[seed], 13)], 2)
            arm = self.run_dir / f"seed{seed}/rlcr_multi"
            (arm / "samples").mkdir(parents=True)
            (arm / "metrics.jsonl").write_text('{"step": 1, "time/step_s": 30}\n{"step": 2, "time/step_s": 90}\n')
            for step, texts in ((1, "ed"), (2, "ab")):
                sample = {"id": "train-00000", "tokens": 9, "answers": [{"text": t, "confidence": 0.5, "correct": False} for t in texts]}
                (arm / f"samples/step_{step}.jsonl").write_text(json.dumps(sample) + "\n")

    def test_numbers(self):
        summarise.summarise(self.run_dir, self.results, [1, 2], self.arms, PLURAL)
        summary = json.loads((self.results / "summary.json").read_text())
        self.assertEqual([a["name"] for a in summary["arms"]], ["rlvr_single", "rlcr_multi"])
        single, multi = summary["arms"]
        mass = multi["sets"]["mass"]
        self.assertAlmostEqual(mass["values"][0], 0.8)
        self.assertAlmostEqual(mass["mean"], (0.8 + 0.54) / 2)
        self.assertAlmostEqual(mass["std"], 0.26 / math.sqrt(2))
        self.assertAlmostEqual(multi["sets"]["regret"]["mean"], (0.0 + 0.26) / 2)
        self.assertAlmostEqual(single["sets"]["mass"]["mean"], 0.5)
        # (q - p)^2: seed 1 (0 + .04)/2, seed 2 (.04 + .0036)/2.
        self.assertAlmostEqual(multi["exact"]["squared_error"]["mean"], (0.02 + 0.0218) / 2)
        self.assertEqual([r["rank"] for r in multi["exact_by_rank"]], [1, 2])
        self.assertAlmostEqual(multi["exact_by_rank"][1]["mean_probability"]["mean"], (0.3 + 0.04) / 2)
        self.assertAlmostEqual(multi["training_minutes"]["mean"], 2)
        # Step 1: .1 of .8 possible; the mean of both steps: (.125 + 1)/2.
        self.assertAlmostEqual(multi["training"][0]["share"]["mean"], 0.125)
        self.assertAlmostEqual(multi["training"][1]["share"]["mean"], 0.5625)
        self.assertEqual(multi["steps_to"]["0.84"]["values"], [None, None])
        self.assertAlmostEqual(summary["best_mass"]["2"], 0.8)
        self.assertAlmostEqual(single["curve"][1]["unique"]["mean"], 1)

        page = (self.results / "summary.md").read_text()
        self.assertIn("| Multi | 2 | 1.000 ± 0.000 | 0.670 ± 0.184 |", page)
        self.assertIn("never", page)
        self.assertIn("tokens to recall", page)
        for file in summarise_files(page):
            xml.etree.ElementTree.parse(self.results / file)
        self.assertIn("recall_by_tokens.svg", summarise_files(page))


def summarise_files(page):
    return [line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]


class WholeStudy(unittest.TestCase):
    """Every part once, with next to no training; then again, with nothing left to do."""

    def test_runs_and_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            command = [
                sys.executable, EXAMPLE / "study.py", "--out", folder / "run", "--results", folder / "results", "--plural", PLURAL,
                "--seeds", "1", "--arms", "rlvr_single", "rlcr_multi", "reward_to_go", "any_brier_set", "--jobs", "2",
                "--data", "sft-cases=64", "train-cases=32", "heldout-cases=6",
                "--sft-set", "steps=12", "optimizer.warmup_steps=2", "sft.rows_per_step=16", "optimizer.learning_rate=1e-2",
                "--rl-set", "steps=2", "optimizer.warmup_steps=0", "prompts_per_step=2", "samples_per_prompt=2", "samples.every=1",
            ]
            done = subprocess.run(command, capture_output=True, text=True, env=ENV)
            self.assertEqual(done.returncode, 0, done.stderr[-3000:])
            self.assertIn("### Sets", done.stdout)
            sft = read(folder / "run/seed1/sft/metrics.jsonl")[-1]
            # The instruction is a few tokens: its phrases are those of the format.
            self.assertLess((sft["sft/tokens"] - sft["sft/target_tokens"]) / sft["sft/rows"], 50)
            self.assertLess(sft["sft/target_tokens"] / sft["sft/rows"], 6 * 5 + 1.01)
            models = sorted((folder / "run").rglob("model.safetensors"))
            written = {path: path.stat().st_mtime_ns for path in models}
            self.assertGreaterEqual(len(written), 6)
            summary = (folder / "results/summary.md").read_bytes()
            self.assertEqual(subprocess.run(command, capture_output=True, env=ENV).returncode, 0)
            self.assertEqual({path: path.stat().st_mtime_ns for path in models}, written)
            self.assertEqual((folder / "results/summary.md").read_bytes(), summary)

    def test_a_failure_names_the_log(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            command = [sys.executable, EXAMPLE / "study.py", "--out", folder / "run", "--results", folder / "results", "--plural", PLURAL,
                       "--seeds", "1", "--data", "sft-cases=8", "train-cases=8", "heldout-cases=2", "--sft-set", "steps=nonsense"]
            done = subprocess.run(command, capture_output=True, text=True, env=ENV)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"study: `plural train` failed with code 2; its messages are in .*sft\.log")


if __name__ == "__main__":
    unittest.main()
