#!/usr/bin/env python3
"""Cases of the simulated diagnosis as plural's JSON Lines, with what is needed to start a model from scratch.

usage: make_data.py --out DIR [--seed 1] [--sft-cases N] [--train-cases N] [--heldout-cases N]

DIR gets
  sft.jsonl           cases to learn the format from; gold: the ten likeliest diseases, weights = posterior
  train_drawn.jsonl   cases for RL; gold: one disease, drawn from the posterior
  train_set.jsonl     the same cases; gold: every disease of posterior probability >= 0.05, weights = posterior
  heldout.jsonl       cases to evaluate on; gold as in train_drawn.jsonl
  posteriors.npz      the full posteriors: train and heldout, [cases, diseases], rows in the order of the files; diseases
  model/              config.json and a byte-level tokenizer in which every word of these texts is one token
The same arguments give the same bytes.
"""

import argparse
import json
import pathlib

import numpy as np

import network

SET_THRESHOLD = 0.05  # a disease belongs to the set label from this posterior probability on
SFT_ANSWERS = 10  # the likeliest diseases that fine-tuning draws its answers from
CONFIDENCES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)  # one token each; sft.yaml states them
MOST_ANSWERS = 5

# The words of `compact`'s instruction and of a chat, in pieces that are one token each. Whatever is not listed is bytes.
PHRASES = (
    " Give ",
    " answer. Write it as ",
    " different answers. Write each as ",
    "probability that it is correct, 0 to 1",
    ", numbered 1 to ",
    ", and nothing else.",
    " and nothing else.",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# A number, a word, a mark: each with the space before it.
PIECES = r" ?[0-9]+\.[0-9]+| ?[^\s.:,]+|[.:,]|\s"


def draw_cases(world, count, stream):
    """`count` cases with their posteriors [count, D]."""
    cases = [world.draw(stream) for _ in range(count)]
    return cases, np.array([world.posterior(case) for case in cases])


def gold(world, posterior, chosen):
    """The diseases `chosen`, the likeliest first, weights = posterior."""
    chosen = sorted(chosen, key=lambda d: (-posterior[d], d))
    return [{"answer": world.diseases[d], "weight": round(float(posterior[d]), 9)} for d in chosen]


def write_lines(path, world, kind, cases, golds):
    with open(path, "w", encoding="utf-8") as file:
        for number, (case, answers) in enumerate(zip(cases, golds)):
            line = {"id": f"{kind}-{number:05}", "prompt": world.text(case), "gold": answers}
            file.write(json.dumps(line) + "\n")


def likeliest(world, posterior):
    return gold(world, posterior, np.argsort(-posterior, kind="stable")[:SFT_ANSWERS])


def drawn(world, case):
    """The disease that the case was made from: given the text, a draw from the posterior."""
    return [{"answer": world.diseases[case.disease], "weight": 1}]


def plausible(world, posterior):
    """Never empty: of 50 diseases one has at least 0.02, and where none has 0.05 the likeliest stands alone."""
    chosen = np.flatnonzero(posterior >= SET_THRESHOLD)
    return gold(world, posterior, chosen if len(chosen) else [int(posterior.argmax())])


def byte_letters():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in range(256)]


def words(world):
    """Every piece of the texts that is longer than a byte."""
    listed = ["user", "assistant", "Patient", " Antecedents", " Findings", " Absent", "answer", *world.diseases]
    listed += [f" {name}" for name in (*network.SEXES, *network.AGES, *world.findings, *world.antecedents)]
    return listed + [str(confidence) for confidence in CONFIDENCES]


def write_tokenizer(folder, world):
    """Returns the size of the vocabulary and the id of the end of a turn."""
    letters = byte_letters()
    pieces = [*letters, *("".join(letters[byte] for byte in word.encode()) for word in words(world))]
    tags = [f"<{slash}{kind}{i}>" for kind in ("answer", "confidence") for i in range(1, MOST_ANSWERS + 1) for slash in ("", "/")]
    special = ["<|im_start|>", "<|im_end|>"]
    added = [
        {"id": len(pieces) + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": text in special}
        for i, text in enumerate([*special, *tags, *PHRASES])
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}, "post_processor": None,
        "decoder": byte_level,
        # Without merges, and with `ignore_merges`, a piece is one token if it is listed, else its bytes.
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": []},
    }
    settings = {"eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return len(pieces) + len(added), len(pieces) + 1


def write_model(folder, world):
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, end = write_tokenizer(folder, world)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 256,
        "intermediate_size": 896, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 8,
        "vocab_size": vocabulary, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "eos_token_id": end, "initializer_range": 0.05,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1, help="of the network and the cases")
    parser.add_argument("--sft-cases", type=int, default=32000)
    parser.add_argument("--train-cases", type=int, default=12800)
    parser.add_argument("--heldout-cases", type=int, default=500)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    world = network.make_network(args.seed)
    streams = np.random.default_rng(args.seed).spawn(3)
    sft, sft_posteriors = draw_cases(world, args.sft_cases, streams[0])
    train, train_posteriors = draw_cases(world, args.train_cases, streams[1])
    heldout, heldout_posteriors = draw_cases(world, args.heldout_cases, streams[2])
    write_lines(args.out / "sft.jsonl", world, "sft", sft, [likeliest(world, p) for p in sft_posteriors])
    write_lines(args.out / "train_drawn.jsonl", world, "train", train, [drawn(world, case) for case in train])
    write_lines(args.out / "train_set.jsonl", world, "train", train, [plausible(world, p) for p in train_posteriors])
    write_lines(args.out / "heldout.jsonl", world, "heldout", heldout, [drawn(world, case) for case in heldout])
    write_model(args.out / "model", world)
    # Last, and whole or not at all: it marks a complete folder.
    unfinished = args.out / "unfinished.npz"
    np.savez(unfinished, train=train_posteriors, heldout=heldout_posteriors, diseases=np.array(world.diseases))
    unfinished.replace(args.out / "posteriors.npz")


if __name__ == "__main__":
    main()
