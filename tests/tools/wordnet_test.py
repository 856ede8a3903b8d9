"""The WordNet dataset: the split is closed, the lines are well formed, the same seed gives the same bytes.

WordNet is parsed again here from its upward ('@', hypernym) pointers, while the tool reads the downward ones.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"])
WORDNET = pathlib.Path("/usr/share/wordnet")


def make(folder, *arguments):
    command = [sys.executable, SOURCE / "tools/wordnet_dataset.py", "--out", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def parse_upwards():
    """({offset: set of direct hypernyms}, {offset: list of lemmas})."""
    up, lemmas = collections.defaultdict(set), {}
    for line in (WORDNET / "data.noun").read_text(encoding="ascii").splitlines():
        if not line[0].isdigit():
            continue
        fields = line[: line.index("|")].split()
        words = int(fields[3], 16)
        lemmas[fields[0]] = [w.replace("_", " ") for w in fields[4 : 4 + 2 * words : 2]]
        rest = fields[5 + 2 * words :]
        while rest:
            if rest[0] == "@":
                up[fields[0]].add(rest[1])
            rest = rest[4:]
    return up, lemmas


@unittest.skipUnless((WORDNET / "data.noun").is_file(), "wordnet-base is not installed")
class WordnetDataset(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = pathlib.Path(cls.folder.name)
        done = make(cls.out)
        assert done.returncode == 0, done.stderr
        cls.train, cls.held = read(cls.out / "train.jsonl"), read(cls.out / "heldout.jsonl")
        cls.up, cls.lemmas = parse_upwards()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def above(self, offset):
        seen, front = set(), {offset}
        while front:
            front = set().union(*(self.up[o] for o in front)) - seen
            seen |= front
        return seen

    def test_sizes(self):
        self.assertEqual(len(self.held), 100)
        self.assertGreaterEqual(len(self.train), 300)

    def test_no_held_out_category_or_synset_above_or_below_it_is_in_training(self):
        train, held = {x["id"] for x in self.train}, {x["id"] for x in self.held}
        self.assertEqual(len(train), len(self.train))
        self.assertFalse(train & held)
        for offset in self.lemmas:
            family = self.above(offset) | {offset}
            self.assertFalse(
                family & train and family & held,
                f"synset {offset} {self.lemmas[offset]} is (below) a trained and (below) a held-out category",
            )

    def test_gold_is_every_synset_below(self):
        below = collections.Counter()
        for offset in self.lemmas:
            below.update(self.above(offset))
        for example in self.train + self.held:
            # Only synsets whose every lemma is the category's own may be missing.
            self.assertLessEqual(len(example["gold"]), below[example["id"]])
            self.assertGreaterEqual(len(example["gold"]), below[example["id"]] - 5, example["id"])

    def test_lines_are_well_formed(self):
        for example in self.train + self.held:
            self.assertEqual(list(example), ["id", "prompt", "gold", "source", "category", "domain"])
            self.assertRegex(example["prompt"], r"^Name different kinds of [^()]+( \([^()]+\))?\.$")
            self.assertNotRegex(example["prompt"], r"[\"_]|  | [,.)]")
            self.assertTrue(8 <= len(example["gold"]) <= 400)
            self.assertGreaterEqual(sum(g["weight"] > 0 for g in example["gold"]), 6)
            own = {lemma.casefold() for lemma in self.lemmas[example["id"]]}
            for gold in example["gold"]:
                self.assertEqual(list(gold), ["answer", "aliases", "weight"])
                self.assertGreaterEqual(gold["weight"], 0)
                for spelling in [gold["answer"], *gold["aliases"]]:
                    self.assertNotIn("_", spelling)
                    self.assertNotIn(spelling.casefold(), own)

    def test_counts_by_hand(self):
        # cntlist.rev: car 71, automobile 15, auto 2, motorcar 1; "machine" counts under another sense.
        everything = {x["category"]: x for x in self.train + self.held}
        car = everything["motor vehicle"]["gold"][0]
        self.assertEqual(car, {"answer": "car", "aliases": ["auto", "automobile", "machine", "motorcar"], "weight": 89})

    def test_same_seed_same_bytes_other_seed_other_split(self):
        with tempfile.TemporaryDirectory() as again, tempfile.TemporaryDirectory() as other:
            self.assertEqual(make(again).returncode, 0)
            self.assertEqual(make(other, "--seed", "1").returncode, 0)
            for name in ("train.jsonl", "heldout.jsonl"):
                first = (self.out / name).read_bytes()
                self.assertEqual(first, (pathlib.Path(again) / name).read_bytes())
                self.assertNotEqual(first, (pathlib.Path(other) / name).read_bytes())

    def test_missing_wordnet_says_what_to_install(self):
        with tempfile.TemporaryDirectory() as empty:
            done = make(empty, "--wordnet", empty)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("wordnet-base", done.stderr)


if __name__ == "__main__":
    unittest.main()
