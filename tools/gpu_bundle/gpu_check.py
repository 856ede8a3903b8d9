#!/usr/bin/env python3
"""Run plural's CUDA tests, a short training run and the benchmarks on this machine, and write one JSON.

Needs nothing but a Python whose `torch` is the 2.11 wheel for CUDA 13.0, of which only LibTorch is used. Where that Python has
transformers or TRL, these do the same work for comparison. Without a GPU everything is reported as skipped. Exit code: 0 = all passed or skipped, 1 = something failed.

usage: gpu-check [--out gpu-check.json] [--quick]
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
BIN, DATA = HERE / "bin", HERE / "data"
SKIPPED = 77  # exit code of a test that found no GPU
# One forward for sampling and training: their log-probs agree, up to what the dtype rounds.
DIFFERENCE_METRIC = "policy/sampler_trainer_diff"
MAX_DIFFERENCE_NATS = {"float32": 1e-4, "bfloat16": 0.01}
TEST_LIMIT_S, TRAIN_LIMIT_S, BENCH_LIMIT_S = 600, 300, 300


def torch_folder():
    spec = importlib.util.find_spec("torch")  # found without importing: the import costs seconds
    if spec is None:
        sys.exit(f"gpu-check: {sys.executable} has no torch package; run this with the Python that has the torch 2.11 wheel")
    return pathlib.Path(spec.origin).parent


def make_environment(torch):
    libraries = [torch / "lib", HERE / "lib", *sorted(torch.parent.glob("nvidia/*/lib"))]
    path = os.pathsep.join([*map(str, libraries), os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "LD_LIBRARY_PATH": path}


def find_device(torch_version):
    device = {"name": None, "driver": None, "torch": torch_version, "host": platform.machine()}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return device
    if done.returncode == 0 and done.stdout.strip():
        name, driver, memory = [part.strip() for part in done.stdout.splitlines()[0].split(",")]
        device.update(name=name, driver=driver, memory=memory)
    return device


def run(command, environment, limit_s, cwd=None):
    """{result, seconds, exit_code, output (its end)} of a command; result is passed, skipped or failed."""
    begin = time.monotonic()
    try:
        done = subprocess.run(
            [str(word) for word in command], env=environment, cwd=cwd, timeout=limit_s,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, output = None, f"{(error.stdout or b'').decode(errors='replace')}\nstopped after {limit_s} s"
    except OSError as error:
        code, output = None, str(error)
    result = {0: "passed", SKIPPED: "skipped"}.get(code, "failed")
    return {"result": result, "seconds": round(time.monotonic() - begin, 2), "exit_code": code, "output": output[-3000:]}


def report(kind, name, outcome):
    print(f"{outcome['result']:8} {kind} {name} ({outcome['seconds']} s)", file=sys.stderr, flush=True)
    if outcome["result"] == "failed":
        print("    " + outcome["output"].strip().replace("\n", "\n    "), file=sys.stderr, flush=True)
    return {"name": name, **outcome}


def skip(why):
    return {"result": "skipped", "seconds": 0.0, "exit_code": None, "output": why}


def write_python(folder):
    """A Python for the tests: this one without the bundle's libraries, which are not those that it was built with."""
    python = folder / "python"
    old = os.environ.get("LD_LIBRARY_PATH")
    restore = "unset LD_LIBRARY_PATH" if old is None else f"export LD_LIBRARY_PATH={shlex.quote(old)}"
    python.write_text(f'#!/bin/sh\n{restore}\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return python


def run_tests(work, environment):
    """Outcomes of the tests, and the names of those that the bundle leaves out (tools/gpu_bundle/list_tests.py)."""
    # Some tests let Python recompute their numbers with torch alone.
    environment = {
        **environment,
        "PLURAL_TEST_PYTHON": str(write_python(work)),
        "PLURAL_SOURCE_DIR": str(HERE / "source"),
        "PLURAL_BIN": str(BIN),
    }
    listed = json.loads((HERE / "tests.json").read_text())
    outcomes = []
    for test in listed["tests"]:
        command = [BIN / test["program"], *test["arguments"]]
        outcome = run(command, {**environment, **test["environment"]}, TEST_LIMIT_S)
        outcomes.append(report("test", test["name"], outcome))
    return outcomes, listed["left_out"]


def make_model(folder, config, environment):
    """A randomly initialised model folder with the tokenizer beside it."""
    outcome = run([BIN / "plural", "init", "--config", config, "--out", folder, "--seed", "1"], environment, TRAIN_LIMIT_S)
    if outcome["result"] == "passed":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(DATA / name, folder)
    return outcome


def train(work, environment, name, task, dtype):
    """A training run of data/`task`.yaml into the folder `name`, with the metrics of its last step."""
    command = [BIN / "plural", "train", DATA / f"{task}.yaml"]
    for setting in (f"data.train={DATA / 'train.jsonl'}", f"dtype={dtype}", f"output={name}"):
        command += ["--set", setting]
    outcome = run(command, environment, TRAIN_LIMIT_S, cwd=work)
    if outcome["result"] == "passed":
        steps = [json.loads(line) for line in (work / name / "metrics.jsonl").read_text().splitlines()]
        outcome["metrics"] = steps[-1]
        if task == "rl":
            check_difference(outcome, steps, MAX_DIFFERENCE_NATS[dtype])
    return report("training", name, outcome)


def check_difference(outcome, steps, limit):
    """Fails a run whose sampler and trainer disagree in some step, or were never compared.

    A step without the metric had nothing to learn from; null is a number that is not finite.
    """
    differences = [step[DIFFERENCE_METRIC] for step in steps if DIFFERENCE_METRIC in step]
    if not differences:
        problem = f"no step has {DIFFERENCE_METRIC}, so sampler and trainer were not compared"
    elif None in differences:
        problem = f"{DIFFERENCE_METRIC} is not a finite number in some step"
    else:
        outcome["max_sampler_trainer_diff"] = max(differences)
        if max(differences) < limit:
            return
        problem = f"{DIFFERENCE_METRIC} is up to {max(differences)}, not below {limit}"
    outcome["result"] = "failed"
    outcome["output"] += f"\n{problem}"


def run_training(work, environment):
    """init, fine-tuning, RL in both dtypes and generation; stops at what the rest builds on."""
    outcomes = [report("training", "init", make_model(work / "model", DATA / "tiny_model.json", environment))]
    if outcomes[-1]["result"] == "passed":
        outcomes.append(train(work, environment, "sft", "sft", "float32"))
    if outcomes[-1]["result"] != "passed":
        return outcomes
    outcomes.append(train(work, environment, "rl_bfloat16", "rl", "bfloat16"))
    outcomes.append(train(work, environment, "rl", "rl", "float32"))
    if outcomes[-1]["result"] == "passed":
        command = [BIN / "plural", "generate", "--model", "rl/model", "--device", "cuda", "--num-answers", "2",
                   "--format", "compact", "-n", "4", "--seed", "1", "--in", DATA / "prompts.jsonl"]
        outcomes.append(report("training", "generate", run(command, environment, TRAIN_LIMIT_S, cwd=work)))
    return outcomes


def bench_sizes(quick):
    """Samples of each prompt, new tokens, repetitions."""
    return (8, 16, 1) if quick else (64, 128, 4)


def bench_arguments(model, dtype, quick):
    """Program -> its arguments (benchmarks/*_bench.cpp)."""
    prompts = DATA / "prompts.jsonl"
    samples, tokens, repeats = bench_sizes(quick)
    return {
        "model_bench": [model, dtype, "cuda", repeats],
        "generate_bench": [model, prompts, dtype, "cuda", samples, tokens, repeats],
        "train_step_bench": [model, prompts, dtype, "cuda", samples, tokens, repeats],
        "score_bench": [DATA / "score_rows.jsonl", "cuda"],
    }


def json_lines(text):
    """The JSON objects among a program's output lines."""
    objects = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects


def run_benchmark(kind, name, command, environment):
    outcome = run(command, environment, BENCH_LIMIT_S)
    if outcome["result"] == "passed":
        outcome["numbers"] = json_lines(outcome["output"])
        if not outcome["numbers"]:
            outcome["result"] = "failed"
    return report(kind, name, outcome)


def run_peers(model, dtype, quick):
    """The same work in Python (benchmarks/peers), where this Python has the package."""
    samples, tokens, _ = bench_sizes(quick)
    outcomes = []
    for package, script in (("transformers", "transformers_generate.py"), ("trl", "trl_grpo.py")):
        if importlib.util.find_spec(package) is None or not (HERE / "peers" / script).is_file():
            continue
        command = [sys.executable, HERE / "peers" / script, "--model", model, "--prompts", DATA / "prompts.jsonl",
                   "--samples", samples, "--new-tokens", tokens, "--dtype", dtype, "--device", "cuda"]
        outcomes.append(run_benchmark("peer", f"{script} {dtype}", command, os.environ))
    return outcomes


def ratios(outcomes):
    """How many times faster than the peers in this run: {what: times}."""
    numbers = [number for outcome in outcomes for number in outcome.get("numbers", []) if "name" in number]
    result = {}
    for work, peer, key in (("generate", "transformers", "tokens_per_s"), ("grpo_step", "trl", "median_s")):
        for dtype in ("bfloat16", "float32"):
            ours, theirs = (
                next((n[key] for n in numbers if n["name"].startswith(f"{work}/{who}") and n["name"].endswith(dtype)), None)
                for who in ("plural", peer)
            )
            if ours and theirs:
                result[f"{work}/{dtype} over {peer}"] = ours / theirs if key == "tokens_per_s" else theirs / ours
    return result


def run_benchmarks(work, environment, quick):
    """Each prints JSON objects. The model has the size of SmolLM2-135M, with random weights."""
    model = work / "bench_model"
    made = make_model(model, DATA / "config.json", environment)
    if made["result"] != "passed":
        return [report("benchmark", "init", made)]
    outcomes = []
    for dtype in ("bfloat16", "float32"):
        for name, arguments in bench_arguments(model, dtype, quick).items():
            if (BIN / name).is_file():
                outcomes.append(run_benchmark("benchmark", f"{name} {dtype}", [BIN / name, *arguments], environment))
        outcomes += run_peers(model, dtype, quick)
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-check.json"), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small benchmarks")
    args = parser.parse_args()

    torch = torch_folder()
    version = (torch / "version.py").read_text().split("__version__ = ")[1].split("\n")[0].strip("'\"")
    if not version.startswith("2.11."):
        sys.exit(f"gpu-check: plural was built with LibTorch 2.11, but {torch} is torch {version}")
    environment = make_environment(torch)
    device = find_device(version)
    has_module = (HERE / "lib/libplural_cuda.so").is_file()
    why = "no GPU was found (nvidia-smi)" if device["name"] is None else None if has_module else "built without CUDA"
    print(f"device: {device['name'] or 'no GPU'}, torch {version}", file=sys.stderr)

    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # Without a GPU they say so themselves, with exit code 77.
        tests, left_out = run_tests(pathlib.Path(folder), environment)
    if why:
        training = [report("training", "init, sft, rl_bfloat16, rl, generate", skip(why))]
        benchmarks = [report("benchmark", path.name, skip(why)) for path in sorted(BIN.glob("*_bench"))]
    else:
        with tempfile.TemporaryDirectory() as folder:
            training = run_training(pathlib.Path(folder), environment)
            benchmarks = run_benchmarks(pathlib.Path(folder), environment, args.quick)

    outcomes = [*tests, *training, *benchmarks]
    counts = {kind: sum(o["result"] == kind for o in outcomes) for kind in ("passed", "failed", "skipped")}
    if not why and counts["skipped"]:
        # On a machine with a GPU nothing may hide behind a skip.
        print(f"gpu-check: {counts['skipped']} skipped although {device['name']} is there", file=sys.stderr)
    ok = counts["failed"] == 0 and (why is not None or counts["skipped"] == 0)
    result = {
        "ok": ok,
        "skipped_because": why,
        "device": device,
        "plural": json.loads((HERE / "about.json").read_text()),
        "counts": counts,
        "seconds": round(time.monotonic() - begin, 1),
        "tests": tests,
        "tests_left_out": left_out,  # they need transformers and a real model
        "training": training,
        "benchmarks": benchmarks,
        "ratios": ratios(benchmarks),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    summary = f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"
    if why:
        print(f"gpu-check: {why}: nothing of CUDA was checked here. {summary}. {args.out}", file=sys.stderr)
    else:
        print(f"gpu-check: {summary}. {args.out}", file=sys.stderr)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
