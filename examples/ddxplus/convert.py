#!/usr/bin/env python3
"""Turn the released DDXPlus files (arXiv 2205.09148, CC-BY 4.0; French or English) into plural's JSON Lines.

A patient becomes a case in words: age, sex, the reason for the visit, symptoms and history. The gold answers are the
differential diagnosis with its probabilities as weights, or the pathology alone (--gold pathology). Evidences at their
default value say that there is nothing, as the data set defines it, and are left out. The data itself is not part of
plural; download it from its authors.

usage: convert.py --patients release_train_patients.zip --evidences release_evidences.json
                  --conditions release_conditions.json [--out FILE] [--limit N --seed S]
                  [--gold differential|pathology] [--min-probability P]

A line that cannot be used is an error that names file, line, column and what to do; nothing is written then.
"""

import argparse
import ast
import collections
import contextlib
import csv
import io
import json
import random
import sys
import zipfile

COLUMNS = ("AGE", "SEX", "PATHOLOGY", "EVIDENCES", "INITIAL_EVIDENCE", "DIFFERENTIAL_DIAGNOSIS")
SEXES = {"F": "female", "M": "male"}
SYSTEM = ("You are a medical expert. From a patient's age, sex, symptoms and history you name the diagnoses that explain "
          "the case. An answer is the bare name of a diagnosis, without any other word.")
MOST_ERRORS = 20


class BadInput(Exception):
    pass


def read_json(path, what):
    """A file of {name: {...}}."""
    try:
        with open(path, encoding="utf-8") as file:
            table = json.load(file)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; give the path of the released {what}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: this is not JSON ({error}); download {what} again") from None
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise BadInput(f"{path}: expected an object of objects by name, as in the released {what}")
    return table


def need(entry, key, kind, where, default=None):
    found = entry.get(key, default) if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or not isinstance(found, kind):
        raise BadInput(f"{where}: expected '{key}' to be {kind.__name__}, found {json.dumps(found)}")
    return found


# values: {code: in words}; default: the code that says "nothing"; possible: all codes, none for a binary evidence.
Evidence = collections.namedtuple("Evidence", "question antecedent values default possible")


class Evidences:
    """release_evidences.json: codes in words."""

    def __init__(self, path):
        self.path = path
        self.by_name = {}
        for key, entry in read_json(path, "release_evidences.json").items():
            where = f"{path}: evidence '{key}'"
            question = need(entry, "question_en", str, where).strip()
            antecedent = need(entry, "is_antecedent", bool, where)
            values = {code: need(meaning, "en", str, f"{where}, value '{code}'").strip()
                      for code, meaning in need(entry, "value_meaning", dict, where, {}).items()}
            possible = {str(value) for value in need(entry, "possible-values", list, where, [])}
            name = need(entry, "name", str, where)
            self.by_name[name] = Evidence(question, antecedent, values, str(entry.get("default_value")), possible)

    def describe(self, codes):
        """{question: [answers]} of symptoms, and of antecedents. A binary evidence is answered by "yes"."""
        symptoms, antecedents = {}, {}
        for code in codes:
            name, has_value, value = code.partition("_@_")
            if name not in self.by_name:
                raise BadInput(f"evidence '{name}' is not in {self.path}; take the file of the same release "
                               "(French and English names differ)")
            evidence = self.by_name[name]
            if bool(evidence.possible) != bool(has_value):
                raise BadInput(f"evidence '{code}' {'needs a' if evidence.possible else 'takes no'} value after '_@_'")
            if has_value and value not in evidence.possible:
                raise BadInput(f"evidence '{name}' has no value '{value}' in {self.path}")
            if has_value and value == evidence.default:
                continue
            answers = (antecedents if evidence.antecedent else symptoms).setdefault(evidence.question, [])
            answers.append(evidence.values.get(value, value) if has_value else "yes")
        return symptoms, antecedents


class Conditions:
    """release_conditions.json: pathologies by the name that the patients' files use."""

    def __init__(self, path):
        self.path = path
        self.english = {}
        for key, entry in read_json(path, "release_conditions.json").items():
            where = f"{path}: condition '{key}'"
            self.english[need(entry, "condition_name", str, where)] = need(entry, "cond-name-eng", str, where).strip()

    def answer(self, name, weight):
        if name not in self.english:
            raise BadInput(f"pathology '{name}' is not in {self.path}; take the file of the same release "
                           "(French and English names differ)")
        english = self.english[name]
        return {"answer": english, "aliases": [] if name == english else [name], "weight": weight}


def literal(row, column):
    """Lists are written as Python writes them."""
    try:
        value = ast.literal_eval(row[column])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list) or not value:
        raise BadInput(f"{column}: expected a list such as ['E_1', 'E_2_@_V_3'], found {row[column][:60]!r}")
    return value


def differential(row, conditions, least):
    gold = []
    for pair in literal(row, "DIFFERENTIAL_DIAGNOSIS"):
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and
                isinstance(pair[1], (int, float)) and not isinstance(pair[1], bool) and 0 <= pair[1] <= 1):
            raise BadInput(f"DIFFERENTIAL_DIAGNOSIS: expected pairs ['name', probability], found {pair!r}")
        gold.append(conditions.answer(*pair))
    kept = [answer for answer in gold if answer["weight"] >= least]
    if not kept:
        raise BadInput(f"DIFFERENTIAL_DIAGNOSIS: no diagnosis has a probability of {least} or more; lower --min-probability")
    return sorted(kept, key=lambda answer: -answer["weight"])  # stable: ties stay as in the file


def in_words(findings):
    return "\n".join(f"- {question} {', '.join(answers)}" for question, answers in findings.items()) or "- none reported"


def convert(row, name, evidences, conditions, args):
    """One example, or BadInput naming the column."""
    missing = [column for column in COLUMNS if row.get(column) is None]
    if missing or None in row:
        raise BadInput(f"expected {len(COLUMNS)} columns, found {'too many' if None in row else 'none for ' + missing[0]}")
    if not row["AGE"].isdecimal() or int(row["AGE"]) > 130:
        raise BadInput(f"AGE: expected years as a whole number, found {row['AGE']!r}")
    if row["SEX"] not in SEXES:
        raise BadInput(f"SEX: expected F or M, found {row['SEX']!r}")
    codes = literal(row, "EVIDENCES")
    if not all(isinstance(code, str) for code in codes):
        raise BadInput("EVIDENCES: expected a list of texts")
    initial = row["INITIAL_EVIDENCE"]
    if initial not in codes:
        raise BadInput(f"INITIAL_EVIDENCE: '{initial}' is not among the EVIDENCES of the patient")
    symptoms, antecedents = evidences.describe(codes)
    complaint = [finding for part in evidences.describe([initial]) for finding in part.items()]
    pathology = conditions.answer(row["PATHOLOGY"], 1.0)
    gold = [pathology] if args.gold == "pathology" else differential(row, conditions, args.min_probability)
    case = f"A {row['AGE']}-year-old {SEXES[row['SEX']]} patient."
    for question, answers in complaint:  # none where it stands at its default value
        case += f"\nReason for the visit: {question} {', '.join(answers)}"
    case += f"\nSymptoms:\n{in_words(symptoms)}\nHistory:\n{in_words(antecedents)}\n\nWhich diagnoses explain this case?"
    return {"id": name, "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": case}],
            "gold": gold, "source": "ddxplus", "pathology": pathology["answer"]}


@contextlib.contextmanager
def open_patients(path):
    """The CSV file, or the one file of a ZIP archive, as text."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
                if len(names) != 1:
                    raise BadInput(f"{path}: expected an archive of one CSV file, found {len(names)} files; unpack it and "
                                   "give the CSV file")
                with archive.open(names[0]) as file:
                    yield io.TextIOWrapper(file, encoding="utf-8", newline="")
        else:
            with open(path, encoding="utf-8", newline="") as file:
                yield file
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; give the path of a released patients file") from None


def read_patients(path, limit, seed):
    """[(line, row)] in the order of the file; with a limit, a uniform sample without replacement (a reservoir)."""
    kept, draw = [], random.Random(seed)
    with open_patients(path) as file:
        rows = csv.DictReader(file)
        try:
            missing = [column for column in COLUMNS if column not in (rows.fieldnames or [])]
            if missing:
                raise BadInput(f"{path}:1: the column {missing[0]} is missing; expected {','.join(COLUMNS)} in any order")
            for index, row in enumerate(rows):
                if limit == 0 or index < limit:
                    kept.append((rows.line_num, row))
                elif (place := draw.randrange(index + 1)) < limit:
                    kept[place] = (rows.line_num, row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: after line {rows.line_num}: this is not CSV in UTF-8 ({error})") from None
    if not kept:
        raise BadInput(f"{path}: holds no patients")
    return sorted(kept, key=lambda item: item[0])


def not_negative(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("expected 0 or more")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patients", required=True, metavar="FILE", help="release_*_patients.zip, or the CSV file in it")
    parser.add_argument("--evidences", required=True, metavar="FILE", help="release_evidences.json")
    parser.add_argument("--conditions", required=True, metavar="FILE", help="release_conditions.json")
    parser.add_argument("--out", default="-", metavar="FILE", help="JSON Lines (default: standard output)")
    parser.add_argument("--limit", type=not_negative, default=0, metavar="N", help="a random sample of N patients; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="of that sample (default 0)")
    parser.add_argument("--gold", choices=("differential", "pathology"), default="differential", help="what is correct")
    parser.add_argument("--min-probability", type=float, default=0.0, metavar="P",
                        help="leave out diagnoses of the differential below P (default 0)")
    args = parser.parse_args()
    examples, errors = [], []
    try:
        evidences, conditions = Evidences(args.evidences), Conditions(args.conditions)
        patients = read_patients(args.patients, args.limit, args.seed)
    except BadInput as error:
        sys.exit(fail([str(error)]))
    for line, row in patients:
        try:
            examples.append(convert(row, f"ddxplus-{line}", evidences, conditions, args))
        except BadInput as error:
            errors.append(f"{args.patients}:{line}: {error}")
    if errors:
        sys.exit(fail(errors))
    text = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
    try:
        with contextlib.nullcontext(sys.stdout) if args.out == "-" else open(args.out, "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        sys.exit(fail([f"cannot write {args.out}: {error.strerror}; name a file in a folder that exists"]))


def fail(errors):
    """Prints them; the exit code."""
    print("\n".join(errors[:MOST_ERRORS]), file=sys.stderr)
    if len(errors) > MOST_ERRORS:
        print(f"... and {len(errors) - MOST_ERRORS} more", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
