#!/usr/bin/env python3
"""Turn ProtoQA files (github.com/iesl/protoqa-data, CC-BY 4.0) into plural's JSON Lines.

ProtoQA asks survey questions and groups the answers of about a hundred people into clusters. Each cluster becomes one
gold answer: its first spelling is the answer, the others are aliases, the number of people is the weight. The data
itself is not part of plural; download it from its authors.

usage: protoqa_convert.py [--in FILE] [--out FILE]    (standard input and output by default)
A line that is not ProtoQA is an error naming file, line and field; nothing is written then.
"""

import argparse
import json
import sys


class BadLine(Exception):
    pass


def field(value, path, kind):
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            raise BadLine(f"the field '{path}' is missing")
        value = value[key]
    if not isinstance(value, kind):
        raise BadLine(f"the field '{path}' has the wrong type ({type(value).__name__})")
    return value


def convert(record):
    question = field(record, "question.normalized", str).strip()
    if not question:
        raise BadLine("the field 'question.normalized' is empty")
    gold = []
    for name, cluster in field(record, "answers.clusters", dict).items():
        spellings = field(cluster, "answers", list) if isinstance(cluster, dict) else None
        if not spellings or not all(isinstance(s, str) and s.strip() for s in spellings):
            raise BadLine(f"cluster '{name}' has no list of answers")
        count = field(cluster, "count", (int, float))
        if isinstance(count, bool) or not 0 <= count < float("inf"):
            raise BadLine(f"cluster '{name}' has the count {count}")
        spellings = [s.strip() for s in spellings]
        gold.append({"answer": spellings[0], "aliases": spellings[1:], "weight": count})
    if not gold:
        raise BadLine("the field 'answers.clusters' is empty")
    gold.sort(key=lambda answer: -answer["weight"])  # stable: ties stay as in the file
    return {
        "id": field(record, "metadata.id", str),
        "prompt": question[0].upper() + question[1:],
        "gold": gold,
        "source": "protoqa",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--in", dest="input", default="-", metavar="FILE")
    parser.add_argument("--out", default="-", metavar="FILE")
    args = parser.parse_args()

    name = "standard input" if args.input == "-" else args.input
    try:
        source = sys.stdin.buffer if args.input == "-" else open(args.input, "rb")
    except OSError as error:
        sys.exit(f"protoqa_convert: cannot read {name}: {error.strerror}")
    examples, errors = [], []
    with source:
        for number, line in enumerate(source, 1):
            if not line.strip():
                continue
            try:
                examples.append(convert(json.loads(line.decode("utf-8"))))
            except UnicodeDecodeError:
                errors.append(f"{name}:{number}: this is not UTF-8")
            except json.JSONDecodeError as error:
                errors.append(f"{name}:{number}: this is not JSON: {error.msg} at column {error.colno}")
            except BadLine as error:
                errors.append(f"{name}:{number}: {error}")
    if errors:
        print("\n".join(errors[:20]), file=sys.stderr)
        if len(errors) > 20:
            print(f"... and {len(errors) - 20} more", file=sys.stderr)
        sys.exit(2)
    text = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
    if args.out == "-":
        sys.stdout.buffer.write(text.encode("utf-8"))
    else:
        try:
            with open(args.out, "w", encoding="utf-8") as out:
                out.write(text)
        except OSError as error:
            sys.exit(f"protoqa_convert: cannot write {args.out}: {error.strerror}")


if __name__ == "__main__":
    main()
