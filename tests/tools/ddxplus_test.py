"""The DDXPlus converter on the made-up sample of examples/ddxplus and on small files of its format."""

import csv
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

FOLDER = pathlib.Path(os.environ["PLURAL_SOURCE_DIR"]) / "examples/ddxplus"
SAMPLE = FOLDER / "sample"
COLUMNS = ["AGE", "DIFFERENTIAL_DIAGNOSIS", "SEX", "PATHOLOGY", "EVIDENCES", "INITIAL_EVIDENCE"]
PATIENT = {"AGE": "30", "DIFFERENTIAL_DIAGNOSIS": "[['Migraine', 0.25], ['Influenza', 0.75]]", "SEX": "F", "PATHOLOGY": "Influenza",
           "EVIDENCES": "['E_1', 'E_9_@_V_2', 'E_9_@_V_6', 'E_10_@_7', 'E_14', 'E_16_@_V_7']", "INITIAL_EVIDENCE": "E_1"}
CASE = """A 30-year-old female patient.
Reason for the visit: Do you have a fever? yes
Symptoms:
- Do you have a fever? yes
- Where does it hurt? forehead, muscles
- How strong is the pain, from 0 to 10? 7
History:
- Is somebody near you ill in the same way? yes

Which diagnoses explain this case?"""


def csv_text(*patients):
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(patients)
    return out.getvalue()


class DdxplusConvert(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="plural_ddxplus_test."))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    def run_tool(self, patients, *options, evidences=SAMPLE / "release_evidences.json",
                 conditions=SAMPLE / "release_conditions.json"):
        command = [sys.executable, FOLDER / "convert.py", "--patients", patients, "--evidences", evidences,
                   "--conditions", conditions, *options]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    def examples(self, *args, **files):
        done = self.run_tool(*args, **files)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def refused(self, patients, *texts, **files):
        done = self.run_tool(patients, **files)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stdout, "")
        for text in texts:
            self.assertIn(text, done.stderr)
        return done.stderr.splitlines()

    def patient_refused(self, changes, *texts):
        patients = self.write("bad.csv", csv_text(PATIENT, {**PATIENT, **changes}))
        lines = self.refused(patients, f"{patients}:3: ", *texts)
        self.assertEqual(len(lines), 1)

    def test_a_case_in_words(self):
        (example,) = self.examples(self.write("one.csv", csv_text(PATIENT)))
        self.assertEqual(example["id"], "ddxplus-2")
        self.assertEqual([m["role"] for m in example["prompt"]], ["system", "user"])
        # E_16 stands at its default value: nothing was found.
        self.assertEqual(example["prompt"][1]["content"], CASE)
        self.assertEqual(example["gold"], [{"answer": "Influenza", "aliases": [], "weight": 0.75},
                                           {"answer": "Migraine", "aliases": [], "weight": 0.25}])
        self.assertEqual((example["source"], example["pathology"]), ("ddxplus", "Influenza"))

    def test_what_is_gold(self):
        patients = self.write("one.csv", csv_text(PATIENT))
        self.assertEqual([g["answer"] for g in self.examples(patients, "--min-probability", 0.5)[0]["gold"]], ["Influenza"])
        self.assertEqual(self.examples(patients, "--gold", "pathology")[0]["gold"],
                         [{"answer": "Influenza", "aliases": [], "weight": 1.0}])

    def test_the_sample(self):
        examples = self.examples(SAMPLE / "release_train_patients.csv")
        self.assertEqual(len(examples), 20)
        self.assertEqual([e["id"] for e in examples], [f"ddxplus-{line}" for line in range(2, 22)])
        for example in examples:
            self.assertIn(example["pathology"], [g["answer"] for g in example["gold"]])
            self.assertAlmostEqual(sum(g["weight"] for g in example["gold"]), 1, places=3)

    def test_a_random_sample_is_kept_by_its_seed(self):
        patients = SAMPLE / "release_train_patients.csv"
        five = self.examples(patients, "--limit", 5, "--seed", 3)
        self.assertEqual(len(five), 5)
        self.assertEqual(five, self.examples(patients, "--limit", 5, "--seed", 3))
        everyone = self.examples(patients)
        self.assertEqual(five, [e for e in everyone if e["id"] in {f["id"] for f in five}])  # in the order of the file
        drawn = [e["id"] for seed in range(40) for e in self.examples(patients, "--limit", 5, "--seed", seed)]
        self.assertEqual(set(drawn), {e["id"] for e in everyone})  # every patient can be drawn

    def test_the_released_archive(self):
        path = self.dir / "release_train_patients.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("release_train_patients", csv_text(PATIENT))
        self.assertEqual(len(self.examples(path)), 1)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("another", "")
        self.refused(path, "an archive of one CSV file, found 2")

    def test_french_names_become_english_with_an_alias(self):
        conditions = self.write("c.json", json.dumps({"Grippe": {"condition_name": "Grippe", "cond-name-eng": "Influenza"}}))
        french = {**PATIENT, "PATHOLOGY": "Grippe", "DIFFERENTIAL_DIAGNOSIS": "[['Grippe', 1]]"}
        (example,) = self.examples(self.write("fr.csv", csv_text(french)), conditions=conditions)
        self.assertEqual(example["gold"], [{"answer": "Influenza", "aliases": ["Grippe"], "weight": 1}])
        self.assertEqual(example["pathology"], "Influenza")

    def test_bad_patients_are_named_with_place_and_remedy(self):
        self.patient_refused({"AGE": "old"}, "AGE: expected years as a whole number, found 'old'")
        self.patient_refused({"SEX": "X"}, "SEX: expected F or M, found 'X'")
        self.patient_refused({"EVIDENCES": "E_1"}, "EVIDENCES: expected a list", "found 'E_1'")
        self.patient_refused({"EVIDENCES": "['E_1', 3]"}, "EVIDENCES: expected a list of texts")
        self.patient_refused({"EVIDENCES": "['E_1', 'E_99']"}, "evidence 'E_99' is not in", "take the file of the same release")
        self.patient_refused({"EVIDENCES": "['E_1', 'E_9']"}, "evidence 'E_9' needs a value after '_@_'")
        self.patient_refused({"EVIDENCES": "['E_1', 'E_2_@_V_1']"}, "evidence 'E_2_@_V_1' takes no value")
        self.patient_refused({"EVIDENCES": "['E_1', 'E_10_@_11']"}, "evidence 'E_10' has no value '11'")
        self.patient_refused({"INITIAL_EVIDENCE": "E_2"}, "INITIAL_EVIDENCE: 'E_2' is not among")
        self.patient_refused({"PATHOLOGY": "Plague"}, "pathology 'Plague' is not in", "take the file of the same release")
        self.patient_refused({"DIFFERENTIAL_DIAGNOSIS": "[['Influenza', 2]]"}, "expected pairs ['name', probability]")
        self.patient_refused({"DIFFERENTIAL_DIAGNOSIS": "__import__('os').getcwd()"}, "DIFFERENTIAL_DIAGNOSIS: expected a list")

    def test_all_bad_patients_are_reported_together(self):
        bad = {**PATIENT, "SEX": "?"}
        lines = self.refused(self.write("many.csv", csv_text(PATIENT, *[bad] * 23)))
        self.assertEqual(len(lines), 21)
        self.assertEqual(lines[-1], "... and 3 more")

    def test_bad_files(self):
        good = SAMPLE / "release_train_patients.csv"
        self.refused(self.dir / "none.csv", "none.csv: No such file", "give the path")
        self.refused(self.write("empty.csv", csv_text()), "holds no patients")
        self.refused(self.write("columns.csv", "AGE,SEX\n3,F\n"), "columns.csv:1: the column PATHOLOGY is missing")
        self.refused(self.write("short.csv", ",".join(COLUMNS) + "\n30\n"), "short.csv:2: expected 6 columns")
        self.refused(good, "none.json", evidences=self.dir / "none.json")
        self.refused(good, "this is not JSON", evidences=self.write("broken.json", "{"))
        self.refused(good, "expected an object of objects", conditions=self.write("list.json", "[1]"))
        lacking = self.write("lacking.json", json.dumps({"E_1": {"name": "E_1", "is_antecedent": False}}))
        self.refused(good, "evidence 'E_1': expected 'question_en' to be str, found null", evidences=lacking)
        done = self.run_tool(good, "--out", self.dir / "no" / "out.jsonl")
        self.assertEqual(done.returncode, 2)
        self.assertIn("name a file in a folder that exists", done.stderr)


if __name__ == "__main__":
    unittest.main()
