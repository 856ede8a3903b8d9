#!/usr/bin/env python3
"""WordNet categories as a multi-answer dataset: "Name different kinds of garment (an article of clothing)."

Reads Debian's wordnet-base (WordNet 3.0, free licence) and writes train.jsonl, heldout.jsonl and about.json.

A category is a noun synset of a concrete lexicographer file with 8 to 400 hyponym synsets (at any depth; instances such
as "Rome" are not hyponyms) of which at least 6 were used in the texts that WordNet's authors counted. Its gold answers
are those hyponyms: the lemmas of the synset, weighted by its sense count. A lemma of the category itself is not an
answer (WordNet has a "man" below "man"), and a synset that has no other lemma is left out.

The split is by category and strict. Let D(c) be category c with everything below it. For a held-out category h and a
trained category t, D(h) and D(t) have no synset in common. So no held-out category, nothing above it and nothing below it is a
trained category, and no held-out answer is an answer in training (as a synset; two synsets may share a spelling).
To keep that from eating up the training set, a category that overlaps with more than six others is never held out.

usage: wordnet_dataset.py [--wordnet /usr/share/wordnet] --out DIR [--held-out 100] [--seed 0]
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import re
import sys

# Lexicographer files (lexnames(5WN)) whose nouns can be touched or seen to be done.
CONCRETE = {
    4: "act",
    5: "animal",
    6: "artifact",
    8: "body",
    13: "food",
    17: "object",
    18: "person",
    20: "plant",
    27: "substance",
}
MIN_ANSWERS, MAX_ANSWERS = 8, 400
MIN_USED = 6
MIN_CHILDREN = 2  # a category with one child is another name for the child
MAX_OVERLAPS_OF_HELD_OUT = 6

Synset = collections.namedtuple("Synset", "offset file lemmas count gloss children")


def read_counts(path):
    """cntlist.rev -> {(lemma, lexicographer file, lex_id): times used}, nouns only."""
    counts = {}
    with open(path, encoding="ascii") as lines:
        for line in lines:
            key, _, count = line.split()
            lemma, _, sense = key.rpartition("%")
            kind, file, lex_id = sense.split(":")[:3]
            if kind == "1":
                counts[lemma, int(file), int(lex_id)] = int(count)
    return counts


def read_synsets(path, counts):
    """data.noun (format: wndb(5WN)) -> {offset: Synset}."""
    synsets = {}
    with open(path, encoding="ascii") as lines:
        for line in lines:
            if line.startswith("  "):
                continue  # the licence
            data, _, gloss = line.partition("|")
            fields = data.split()
            offset, file, words = fields[0], int(fields[1]), int(fields[3], 16)
            lemmas, count = [], 0
            for i in range(4, 4 + 2 * words, 2):
                lemmas.append(fields[i].replace("_", " "))
                count += counts.get((fields[i].lower(), file, int(fields[i + 1], 16)), 0)
            pointers = fields[4 + 2 * words + 1 :]
            children = [
                pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] == "~" and pointers[i + 2] == "n"
            ]
            synsets[offset] = Synset(offset, file, lemmas, count, gloss.strip(), children)
    return synsets


def descendants(synsets, offset):
    seen, stack = set(), list(synsets[offset].children)
    while stack:
        child = stack.pop()
        if child not in seen:
            seen.add(child)
            stack.extend(synsets[child].children)
    return seen


def short_gloss(gloss):
    """The definition without examples, domain labels and nested brackets."""
    text = re.split(r'[;"]', gloss)[0]
    text = re.sub(r"\([^()]*\)", " ", text)
    return re.sub(r"\s+([,.])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,.:")


def make_prompt(category):
    gloss = short_gloss(category.gloss)
    return f"Name different kinds of {category.lemmas[0]}{f' ({gloss})' if gloss else ''}."


def gold_answers(synsets, category, below):
    own = {lemma.casefold() for lemma in category.lemmas}
    answers = []
    for synset in sorted((synsets[o] for o in below), key=lambda s: (-s.count, s.offset)):
        lemmas = [lemma for lemma in synset.lemmas if lemma.casefold() not in own]
        if lemmas:
            answers.append({"answer": lemmas[0], "aliases": lemmas[1:], "weight": synset.count})
    return answers


def find_categories(synsets):
    """{offset: (example, {the synset and all below it})}."""
    categories = {}
    for synset in synsets.values():
        if synset.file not in CONCRETE or len(synset.children) < MIN_CHILDREN:
            continue
        below = descendants(synsets, synset.offset)
        if not MIN_ANSWERS <= len(below) <= MAX_ANSWERS:
            continue
        gold = gold_answers(synsets, synset, below)
        if len(gold) < MIN_ANSWERS or sum(answer["weight"] > 0 for answer in gold) < MIN_USED:
            continue
        example = {
            "id": synset.offset,
            "prompt": make_prompt(synset),
            "gold": gold,
            "source": "wordnet",
            "category": synset.lemmas[0],
            "domain": CONCRETE[synset.file],
        }
        categories[synset.offset] = (example, below | {synset.offset})
    return categories


def split(categories, held_out, seed):
    """(train, held-out) offsets, both in an order fixed by the seed."""
    owners = collections.defaultdict(set)
    for offset, (_, family) in categories.items():
        for synset in family:
            owners[synset].add(offset)
    overlaps = {
        offset: set().union(*(owners[synset] for synset in family)) - {offset}
        for offset, (_, family) in categories.items()
    }
    order = sorted(categories)
    random.Random(seed).shuffle(order)
    held, dropped = [], set()
    for offset in order:
        if len(held) == held_out:
            break
        if len(overlaps[offset] - set(held) - dropped) <= MAX_OVERLAPS_OF_HELD_OUT:
            held.append(offset)
            dropped |= overlaps[offset]
    train = [offset for offset in order if offset not in dropped and offset not in set(held)]
    return train, held


def write_lines(path, examples):
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "w", encoding="utf-8") as out:
        for example in examples:
            out.write(json.dumps(example, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wordnet", type=pathlib.Path, default="/usr/share/wordnet", help="folder with data.noun")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--held-out", type=int, default=100, help="held-out categories (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    sources = [args.wordnet / "data.noun", args.wordnet / "cntlist.rev"]
    for path in sources:
        if not path.is_file():
            sys.exit(f"wordnet_dataset: {path} is missing; install the Debian package wordnet-base (make setup does)")
    synsets = read_synsets(sources[0], read_counts(sources[1]))
    categories = find_categories(synsets)
    train, held = split(categories, args.held_out, args.seed)
    if len(held) < args.held_out or not train:
        sys.exit(f"wordnet_dataset: only {len(held)} of {args.held_out} categories can be held out; ask for fewer")

    args.out.mkdir(parents=True, exist_ok=True)
    write_lines(args.out / "train.jsonl", (categories[o][0] for o in train))
    write_lines(args.out / "heldout.jsonl", (categories[o][0] for o in held))
    about = {
        "categories": len(categories),
        "train": len(train),
        "heldout": len(held),
        "left_out_because_they_overlap": len(categories) - len(train) - len(held),
        "seed": args.seed,
        "sources": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sources},
    }
    (args.out / "about.json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{args.out}: {len(train)} categories to train on, {len(held)} held out", file=sys.stderr)


if __name__ == "__main__":
    main()
