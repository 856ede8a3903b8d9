"""The ProtoQA converter on hand-made lines of its format."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

TOOL = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"]) / "tools/protoqa_convert.py"


def run(text):
    return subprocess.run([sys.executable, TOOL], input=text.encode(), capture_output=True)


def line(clusters, question="name a thing on a desk."):
    return json.dumps({"metadata": {"id": "q1"}, "question": {"normalized": question}, "answers": {"clusters": clusters}})


class ProtoqaConvert(unittest.TestCase):
    def test_clusters_become_weighted_answers(self):
        done = run(line({"a": {"count": 3, "answers": ["lamp"]}, "b": {"count": 40, "answers": ["pen", "pencil"]}}))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            json.loads(done.stdout),
            {
                "id": "q1",
                "prompt": "Name a thing on a desk.",
                "gold": [
                    {"answer": "pen", "aliases": ["pencil"], "weight": 40},
                    {"answer": "lamp", "aliases": [], "weight": 3},
                ],
                "source": "protoqa",
            },
        )

    def test_all_bad_lines_are_named_and_nothing_is_written(self):
        good = line({"a": {"count": 3, "answers": ["lamp"]}})
        bad = ["{", line({}), line({"a": {"count": -1, "answers": ["x"]}}), line({"a": {"count": 1, "answers": []}}), "[]"]
        done = run("\n".join([good, *bad]))
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, b"")
        messages = done.stderr.decode().splitlines()
        self.assertEqual([m.split(": ")[0] for m in messages], [f"standard input:{n}" for n in range(2, 7)])
        self.assertIn("answers.clusters", messages[1])


if __name__ == "__main__":
    unittest.main()
