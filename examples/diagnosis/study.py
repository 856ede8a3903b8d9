#!/usr/bin/env python3
"""The diagnosis study: all arms over all seeds, then tables and plots. Goes on where it was stopped.

usage: study.py [--out runs/diagnosis] [--results examples/diagnosis/results] [--seeds 1 2 3] [--arms NAME ...] [--jobs 2]

Each seed is one random model, fine-tuned once (sft.yaml) and then trained by each arm (rl.yaml and the arm's settings).
OUT gets data/, and for each seed seedN/NAME/ (the run folder of `plural train`, and its log NAME.log) and seedN/evals/NAME/.
`--jobs` runs go side by side with one thread each; a run that is done is skipped, one that was cut off is resumed.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of training. `k` answers are asked for; `labels` is "drawn" (one disease) or "set" (all plausible ones)."""

    name: str
    title: str
    k: int = 3
    labels: str = "drawn"
    settings: tuple = ()

    @property
    def most_tokens(self):
        """Two tags, a name, two tags and a number for each answer, and the end. Text after the last answer would cost nothing,
        so without a bound completions drift to any length."""
        return 6 * self.k + 1


NO_BRIER = "rewards.2.weight=0"  # logged, not paid
ANY_CORRECT = "rewards.1={name: any_correct}"
PER_ANSWER_CREDIT = "advantage={name: set_credit}"
ARMS = (
    Arm("rlvr_single", "RLVR-Single", k=1, settings=(NO_BRIER,)),
    Arm("rlcr_single", "RLCR-Single", k=1),
    Arm("rlvr_multi", "RLVR-Multi", settings=(NO_BRIER,)),
    Arm("rlcr_multi", "RLCR-Multi"),
    Arm("reward_to_go", "RLCR-Multi, reward-to-go", settings=(PER_ANSWER_CREDIT,)),
    Arm("std", "RLCR-Multi, divided by std", settings=("advantage.scale=group",)),
    Arm("rlcr_multi_k2", "RLCR-Multi, K = 2", k=2),
    Arm("rlcr_multi_k4", "RLCR-Multi, K = 4", k=4),
    Arm("rlcr_multi_k5", "RLCR-Multi, K = 5", k=5),
    Arm("rlcr_multi_set", "RLCR-Multi on sets", labels="set"),
    Arm("any_brier_set", "any + Brier on sets", labels="set", settings=(ANY_CORRECT,)),
)
# The fine-tuned model that all arms of a seed start from, asked for one answer and for three.
STARTS = (Arm("sft_single", "fine-tuned, one answer", k=1), Arm("sft_multi", "fine-tuned, three answers"))


class Study:
    def __init__(self, args):
        self.args = args
        self.out = args.out.resolve()
        self.data = self.out / "data"
        self.say_lock = threading.Lock()
        self.begin = time.time()

    def say(self, text):
        with self.say_lock:
            print(f"[{(time.time() - self.begin) / 60:5.1f} min] {text}", file=sys.stderr, flush=True)

    def run(self, log, *command):
        """Runs a command of `plural` with its messages in a file, on one thread."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as messages:
            done = subprocess.run([str(self.args.plural), *map(str, command)], stdout=messages, stderr=messages, check=False,
                                  env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode != 0:
            raise RuntimeError(f"`plural {command[0]}` failed with code {done.returncode}; its messages are in {log}")

    def make_data(self):
        if (self.data / "posteriors.npz").exists():
            return
        self.say("making the cases")
        subprocess.run([sys.executable, HERE / "make_data.py", "--out", self.data, *self.args.data], check=True)

    def train(self, run_dir, config, seed, settings):
        if (run_dir / "model" / "model.safetensors").exists():
            return
        values = [f"output={run_dir}", f"seed={seed}", *settings]
        self.run(run_dir.with_suffix(".log"), "train", HERE / config, *(part for v in values for part in ("--set", v)), "--resume")

    def evaluate(self, seed_dir, arm, model, seed):
        """About as many answers for each case whatever K is: enough for the curves up to ten."""
        out = seed_dir / "evals" / arm.name
        if (out / "metrics.json").exists():
            return
        self.run(seed_dir / "evals" / f"{arm.name}.log", "eval", "--model", model, "--dtype", "bfloat16", "--data",
                 self.data / "heldout.jsonl", "--format", "compact", "--matcher", "normalised", "--num-answers", arm.k,
                 "--samples", -(-10 // arm.k), "--max-new-tokens", arm.most_tokens, "--seed", seed, "--bootstrap", 0, "--title", arm.title,
                 "--out", out)

    def start(self, seed):
        """The fine-tuned model of a seed."""
        seed_dir = self.out / f"seed{seed}"
        init = seed_dir / "init"
        if not (init / "tokenizer_config.json").exists():  # its last file
            shutil.rmtree(init, ignore_errors=True)
            self.run(seed_dir / "init.log", "init", "--config", self.data / "model" / "config.json", "--tokenizer",
                     self.data / "model", "--seed", seed, "--out", init)
        self.train(seed_dir / "sft", "sft.yaml", seed,
                   [f"model={init}", f"data.train={self.data / 'sft.jsonl'}", *self.args.sft_set])
        for arm in STARTS:
            self.evaluate(seed_dir, arm, seed_dir / "sft" / "model", seed)
        self.say(f"seed {seed}: fine-tuned")

    def arm(self, seed, arm):
        seed_dir = self.out / f"seed{seed}"
        self.train(seed_dir / arm.name, "rl.yaml", seed,
                   [f"model={seed_dir / 'sft' / 'model'}", f"data.train={self.data / f'train_{arm.labels}.jsonl'}",
                    f"num_answers={arm.k}", f"sampling.max_new_tokens={arm.most_tokens}", *arm.settings, *self.args.rl_set])
        self.evaluate(seed_dir, arm, seed_dir / arm.name / "model", seed)
        self.say(f"seed {seed}: {arm.title}")

    def run_all(self, seeds, arms):
        """`--jobs` runs at a time; the arms of a seed follow its fine-tuning. The first failure stops what has not begun."""
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:
            seed_of = {pool.submit(self.start, seed): seed for seed in seeds}
            pending = set(seed_of)
            try:
                while pending:
                    done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        if future in seed_of:
                            pending |= {pool.submit(self.arm, seed_of[future], arm) for arm in arms}
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs" / "diagnosis")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--plural", type=pathlib.Path, default=ROOT / "build" / "release" / "bin" / "plural")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=[arm.name for arm in ARMS])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--data", nargs="*", default=[], metavar="OPTION", help="further options of make_data.py, without --: NAME=VALUE")
    parser.add_argument("--sft-set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of fine-tuning")
    parser.add_argument("--rl-set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every arm")
    args = parser.parse_args()
    args.data = [f"--{option}" for option in args.data]
    return args


def main():
    args = parse_args()
    study = Study(args)
    study.make_data()
    arms = [arm for arm in ARMS if arm.name in args.arms]
    study.run_all(args.seeds, arms)
    study.say("tables and plots")
    import summarise  # needs numpy only here

    summarise.summarise(study.out, args.results, args.seeds, [*STARTS, *arms], args.plural)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"study: {error}")
    except KeyboardInterrupt:
        sys.exit("study: stopped; the same command goes on")
