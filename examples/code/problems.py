#!/usr/bin/env python3
"""The problems of this example, written for it: small Python functions, each with several different reference programs.

usage: problems.py OUT     writes OUT/sft.jsonl, OUT/rl.jsonl, OUT/heldout.jsonl (those in data/ were made so)

A line has the prompt, the reference programs as gold answers and the tests for the reward and the matcher `code`
(docs/rewards/code.md). The expected values come from the first program; all programs of a problem must agree on them.
"""

import json
import pathlib
import sys

# (split, signature, what it returns, programs, arguments of the tests). A program without "def" is the returned value.
PROBLEMS = [
    # Fine-tuning sees these with their programs.
    ("sft", "add(x, y)", "the sum of x and y",
     ["x + y", "y + x", "sum([x, y])"], [[2, 3], [0, 7], [-4, 1]]),
    ("sft", "double(x)", "two times x",
     ["2 * x", "x * 2", "x + x"], [[3], [0], [-5]]),
    ("sft", "square(x)", "x times x",
     ["x * x", "x ** 2", "pow(x, 2)"], [[3], [-4], [1]]),
    ("sft", "increment(x)", "x plus one",
     ["x + 1", "1 + x", "sum([x, 1])"], [[4], [0], [-1]]),
    ("sft", "negate(x)", "minus x",
     ["-x", "0 - x", "x * (-1)"], [[4], [0], [-2]]),
    ("sft", "add_three(x)", "x plus three",
     ["x + 3", "3 + x", "x + 1 + 2"], [[4], [0], [-3]]),
    ("sft", "is_even(x)", "True if the whole number x is even and False if it is odd",
     ["x % 2 == 0", "not x % 2", "x % 2 != 1"], [[4], [7], [0], [13]]),
    ("sft", "is_positive(x)", "True if x is above zero, else False",
     ["x > 0", "0 < x", "not x <= 0"], [[4], [-7], [0]]),
    ("sft", "larger(x, y)", "the larger one of x and y",
     ["max(x, y)", "x if x > y else y", "sorted([x, y])[1]"], [[2, 3], [9, 4], [-1, -6]]),
    ("sft", "average(x, y)", "half of the sum of x and y",
     ["(x + y) / 2", "x / 2 + y / 2", "0.5 * (x + y)"], [[2, 4], [1, 2], [-3, 3]]),
    ("sft", "absolute(x)", "x without its sign",
     ["abs(x)", "x if x > 0 else -x", "max(x, -x)"], [[4], [-7], [0]]),
    ("sft", "to_upper(s)", "the text s in upper case",
     ["s.upper()", "str.upper(s)", "''.join(c.upper() for c in s)"], [["cat"], ["Big Dog"], [""]]),
    ("sft", "last_char(s)", "the last character of the text s",
     ["s[-1]", "s[len(s) - 1]", "s[::-1][0]"], [["cat"], ["dog"], ["x"]]),
    ("sft", "reverse_text(s)", "the text s backwards",
     ["s[::-1]", "''.join(reversed(s))", "''.join(list(s)[::-1])"], [["cat"], ["abcd"], [""]]),
    ("sft", "repeat_twice(s)", "the text s written twice, one after the other",
     ["s + s", "s * 2", "2 * s"], [["ab"], ["x"], [""]]),
    ("sft", "starts_with(s, t)", "True if the text s begins with the text t, else False",
     ["s.startswith(t)", "s[:len(t)] == t", "s.find(t) == 0"], [["carpet", "car"], ["carpet", "pet"], ["x", "x"]]),
    ("sft", "count_items(xs)", "how many items the list xs has",
     ["len(xs)", "sum(1 for x in xs)", "xs.__len__()"], [[[4, 5, 6]], [[]], [[1]]]),
    ("sft", "total(xs)", "the sum of the numbers in the list xs",
     ["sum(xs)", "sum(x for x in xs)",
      "def total(xs):\n    result = 0\n    for x in xs:\n        result += x\n    return result"],
     [[[1, 2, 3]], [[]], [[-4, 10]]]),
    ("sft", "first_item(xs)", "the first item of the list xs",
     ["xs[0]", "xs[:1][0]", "next(iter(xs))"], [[[4, 5, 6]], [["z", "y"]], [[0]]]),
    ("sft", "is_empty(xs)", "True if the list xs has no items, else False",
     ["len(xs) == 0", "not xs", "xs == []"], [[[]], [[1, 2]], [[0]]]),
    ("sft", "add_one_to_all(xs)", "a list with one added to each number of the list xs",
     ["[x + 1 for x in xs]", "list(map(lambda x: x + 1, xs))", "[1 + x for x in xs]"], [[[1, 2]], [[]], [[-1, 5, 5]]]),
    ("sft", "count_zeros(xs)", "how many numbers of the list xs are zero",
     ["xs.count(0)", "sum(x == 0 for x in xs)", "len([x for x in xs if x == 0])"], [[[0, 1, 0]], [[]], [[3, 4]]]),
    # Reinforcement learning practises these (and those above); it never sees a program for them.
    ("rl", "subtract(x, y)", "x minus y",
     ["x - y", "-y + x", "sum([x, -y])"], [[5, 3], [0, 7], [-4, -1]]),
    ("rl", "triple(x)", "three times x",
     ["3 * x", "x * 3", "x + x + x"], [[3], [0], [-5]]),
    ("rl", "cube(x)", "x times x times x",
     ["x * x * x", "x ** 3", "pow(x, 3)"], [[3], [-2], [1]]),
    ("rl", "decrement(x)", "x minus one",
     ["x - 1", "-1 + x", "sum([x, -1])"], [[4], [0], [-1]]),
    ("rl", "add_ten(x)", "x plus ten",
     ["x + 10", "10 + x", "x + 5 + 5"], [[4], [0], [-10]]),
    ("rl", "halve(x)", "half of x",
     ["x / 2", "x * 0.5", "0.5 * x"], [[4], [3], [-5]]),
    ("rl", "is_odd(x)", "True if the whole number x is odd and False if it is even",
     ["x % 2 == 1", "x % 2 != 0", "bool(x % 2)"], [[4], [7], [0], [13]]),
    ("rl", "is_negative(x)", "True if x is below zero, else False",
     ["x < 0", "0 > x", "not x >= 0"], [[4], [-7], [0]]),
    ("rl", "is_zero(x)", "True if x is zero, else False",
     ["x == 0", "0 == x", "not x"], [[4], [-7], [0]]),
    ("rl", "smaller(x, y)", "the smaller one of x and y",
     ["min(x, y)", "x if x < y else y", "sorted([x, y])[0]"], [[2, 3], [9, 4], [-1, -6]]),
    ("rl", "distance(x, y)", "the difference of x and y without its sign",
     ["abs(x - y)", "max(x, y) - min(x, y)", "abs(y - x)"], [[2, 5], [9, 4], [-1, -1]]),
    ("rl", "to_lower(s)", "the text s in lower case",
     ["s.lower()", "str.lower(s)", "''.join(c.lower() for c in s)"], [["CAT"], ["Big Dog"], [""]]),
    ("rl", "first_char(s)", "the first character of the text s",
     ["s[0]", "s[:1]", "list(s)[0]"], [["cat"], ["dog"], ["x"]]),
    ("rl", "text_length(s)", "how many characters the text s has",
     ["len(s)", "sum(1 for c in s)", "s.__len__()"], [["cat"], ["x y"], [""]]),
    ("rl", "join_texts(s, t)", "the text s followed by the text t",
     ["s + t", "''.join([s, t])", "f'{s}{t}'"], [["ab", "c"], ["", "x"], ["no", "no"]]),
    ("rl", "repeat_three_times(s)", "the text s written three times, one after the other",
     ["s * 3", "3 * s", "s + s + s"], [["ab"], ["x"], [""]]),
    ("rl", "ends_with(s, t)", "True if the text s ends with the text t, else False",
     ["s.endswith(t)", "s[len(s) - len(t):] == t", "s[::-1].startswith(t[::-1])"],
     [["carpet", "pet"], ["carpet", "car"], ["x", "x"]]),
    ("rl", "largest(xs)", "the largest number of the list xs",
     ["max(xs)", "sorted(xs)[-1]", "-min(-x for x in xs)"], [[[4, 9, 6]], [[1]], [[-4, -2]]]),
    ("rl", "last_item(xs)", "the last item of the list xs",
     ["xs[-1]", "xs[len(xs) - 1]", "xs[::-1][0]"], [[[4, 5, 6]], [["z", "y"]], [[0]]]),
    ("rl", "reverse_list(xs)", "the list xs backwards",
     ["xs[::-1]", "list(reversed(xs))", "[xs[-i - 1] for i in range(len(xs))]"], [[[1, 2, 3]], [[]], [["b", "a"]]]),
    ("rl", "double_all(xs)", "a list with each number of the list xs doubled",
     ["[2 * x for x in xs]", "[x + x for x in xs]", "list(map(lambda x: 2 * x, xs))"], [[[1, 2]], [[]], [[-1, 5, 5]]]),
    ("rl", "count_ones(xs)", "how many numbers of the list xs are one",
     ["xs.count(1)", "sum(x == 1 for x in xs)", "len([x for x in xs if x == 1])"], [[[0, 1, 1]], [[]], [[3, 4]]]),
    # Evaluation only.
    ("heldout", "multiply(x, y)", "the product of x and y",
     ["x * y", "y * x", "x * y * 1"], [[2, 3], [0, 7], [-4, 2]]),
    ("heldout", "quadruple(x)", "four times x",
     ["4 * x", "x * 4", "x + x + x + x"], [[3], [0], [-5]]),
    ("heldout", "add_five(x)", "x plus five",
     ["x + 5", "5 + x", "x + 2 + 3"], [[4], [0], [-5]]),
    ("heldout", "subtract_two(x)", "x minus two",
     ["x - 2", "-2 + x", "x - 1 - 1"], [[4], [0], [-3]]),
    ("heldout", "divide(x, y)", "x divided by y",
     ["x / y", "x * (1 / y)", "x * y ** -1"], [[6, 2], [1, 4], [-3, 2]]),
    ("heldout", "remainder(x, y)", "the remainder of x divided by y",
     ["x % y", "divmod(x, y)[1]", "x - x // y * y"], [[7, 3], [8, 4], [2, 5]]),
    ("heldout", "sum_of_three(x, y, z)", "the sum of x, y and z",
     ["x + y + z", "sum([x, y, z])", "z + y + x"], [[1, 2, 3], [0, 0, 7], [-4, 2, 2]]),
    ("heldout", "is_equal(x, y)", "True if x and y are equal, else False",
     ["x == y", "y == x", "not x != y"], [[3, 3], [3, 4], [0, -1]]),
    ("heldout", "is_multiple_of_three(x)", "True if the whole number x can be divided by three, else False",
     ["x % 3 == 0", "not x % 3", "x // 3 * 3 == x"], [[9], [7], [0], [11]]),
    ("heldout", "is_above_ten(x)", "True if x is above ten, else False",
     ["x > 10", "10 < x", "not x <= 10"], [[11], [10], [-20]]),
    ("heldout", "exclaim(s)", "the text s followed by an exclamation mark",
     ["s + '!'", "f'{s}!'", "''.join([s, '!'])"], [["cat"], [""], ["no!"]]),
    ("heldout", "second_char(s)", "the second character of the text s",
     ["s[1]", "s[1:2]", "list(s)[1]"], [["cat"], ["dog"], ["xyz"]]),
    ("heldout", "is_longer(s, t)", "True if the text s is longer than the text t, else False",
     ["len(s) > len(t)", "len(t) < len(s)", "not len(s) <= len(t)"], [["cat", "x"], ["a", "bc"], ["no", "no"]]),
    ("heldout", "contains(s, t)", "True if the text t occurs in the text s, else False",
     ["t in s", "s.find(t) >= 0", "s.count(t) > 0"], [["carpet", "rp"], ["carpet", "cat"], ["x", "x"]]),
    ("heldout", "smallest(xs)", "the smallest number of the list xs",
     ["min(xs)", "sorted(xs)[0]", "-max(-x for x in xs)"], [[[4, 9, 6]], [[1]], [[-4, -2]]]),
    ("heldout", "second_item(xs)", "the second item of the list xs",
     ["xs[1]", "xs[1:][0]", "xs[1:2][0]"], [[[4, 5, 6]], [["z", "y"]], [[0, 0]]]),
    ("heldout", "sort_list(xs)", "the list xs in rising order",
     ["sorted(xs)", "list(sorted(xs))", "sorted(x for x in xs)"], [[[3, 1, 2]], [[]], [[5, 5, 4]]]),
    ("heldout", "square_all(xs)", "a list with the square of each number of the list xs",
     ["[x * x for x in xs]", "[x ** 2 for x in xs]", "list(map(lambda x: x * x, xs))"], [[[1, 2]], [[]], [[-3, 5]]]),
    ("heldout", "count_twos(xs)", "how many numbers of the list xs are two",
     ["xs.count(2)", "sum(x == 2 for x in xs)", "len([x for x in xs if x == 2])"], [[[2, 1, 2]], [[]], [[3, 4]]]),
    ("heldout", "has_items(xs)", "True if the list xs has at least one item, else False",
     ["len(xs) > 0", "bool(xs)", "xs != []"], [[[]], [[1, 2]], [[0]]]),
]
# What each file holds: practice includes what fine-tuning has shown.
FILES = {"sft": ("sft",), "rl": ("sft", "rl"), "heldout": ("heldout",)}


def call(program, name, arguments):
    scope = {}
    exec(program, scope)
    return scope[name](*json.loads(json.dumps(arguments)))


def example(split, signature, returns, programs, arguments):
    name = signature.split("(")[0]
    programs = [p if p.startswith("def ") else f"def {signature}: return {p}" for p in programs]
    tests = [{"call": name, "args": args, "output": call(programs[0], name, args)} for args in arguments]
    if all(test["output"] == tests[0]["output"] for test in tests):
        sys.exit(f"{name}: a function that ignores its input passes the tests; add one with another result")
    for program in programs[1:]:
        for test in tests:
            found = call(program, name, test["args"])
            if found != test["output"] or type(found) is not type(test["output"]):
                sys.exit(f"{name}: {program!r} gives {found!r} for {test['args']}, expected {test['output']!r}")
    return {"id": name, "prompt": f"Write a Python function {signature} that returns {returns}.", "gold": programs,
            "tests": tests, "source": split}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: problems.py OUT")
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for file, splits in FILES.items():
        lines = [json.dumps(example(*problem)) + "\n" for problem in PROBLEMS if problem[0] in splits]
        (out / f"{file}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
