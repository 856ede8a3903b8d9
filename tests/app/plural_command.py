"""Runs the real `plural` binary: what the tests of the command share."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

PLURAL = pathlib.Path(os.environ["PLURAL_BIN"]) / "plural"
# One thread: the runs are tiny, and the machine runs other tests at the same time.
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def plural(*args, stdin=None, stdin_file=None, **options):
    """The finished process; stdout and stderr as text. `stdin` is text, `stdin_file` an open file."""
    source = {"input": stdin} if stdin_file is None else {"stdin": stdin_file}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([str(PLURAL), *map(str, args)], text=True, env=ENV, timeout=300, check=False, **source, **options)


def start(*args, **options):
    """The running process."""
    return subprocess.Popen([str(PLURAL), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV, **options)


def wait_for(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            raise AssertionError("nothing happened in time")
        time.sleep(0.005)


def lines(text):
    """JSON Lines; only a newline ends one, and not, as for splitlines(), U+0085 or U+2028 inside a text."""
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")] if text else []


def write_lines(path, objects):
    path.write_text("".join(json.dumps(o) + "\n" for o in objects))
    return path


def byte_letters():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in plain}
    for b in range(256):
        table.setdefault(b, chr(256 + len([x for x in table if x not in plain])))
    return [table[b] for b in range(256)]


def write_tokenizer(folder, extra_tokens=0):
    """Bytes, the chat tokens, and one token for each tag of the compact format."""
    vocab = {letter: i for i, letter in enumerate(byte_letters())}
    tags = [f"<{slash}{kind}{i}>" for kind in ("answer", "confidence") for i in range(1, 5) for slash in ("", "/")]
    names = ["<|im_start|>", "<|im_end|>"] + tags + [f"<extra{i}>" for i in range(extra_tokens)]
    added = [
        {"id": 256 + i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": name.startswith("<|")}
        for i, name in enumerate(names)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": []},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {"eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return 256 + len(names)


def write_model_config(folder, vocab_size, context=512):
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
        "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2, "vocab_size": vocab_size,
        "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "hidden_act": "silu", "eos_token_id": 257,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def make_model(folder, context=512):
    """A tiny random model with its tokenizer, made by `plural init`."""
    source = folder / "source"
    size = write_tokenizer(source)
    config = write_model_config(source, size, context)
    model = folder / "model"
    done = plural("init", "--config", config, "--out", model, "--tokenizer", source, "--seed", 3)
    assert done.returncode == 0, done.stderr
    return model


EXAMPLES = [
    {"id": f"q{i}", "prompt": f"Letters of group {i}?", "gold": [{"answer": a, "weight": w} for a, w in zip(group, (3, 2, 1))]}
    for i, group in enumerate((("n", "b", "c"), ("d", "e", "f"), ("g", "h", "i"), ("k", "l", "m")))
]

SFT = """task: sft
model: {model}
output: {output}
dtype: float32
data: {{train: {data}}}
num_answers: 2
steps: 60
sft: {{rows_per_step: 16, num_answers: [2], confidences: [0.2, 0.5, 0.8]}}
optimizer: {{learning_rate: 1e-2, schedule: linear}}
checkpoint: {{every: 0}}
"""

RL = """task: rl
model: {model}
output: {output}
dtype: float32
data: {{train: {data}}}
num_answers: 2
steps: 8
prompts_per_step: 2
samples_per_prompt: 4
sampling: {{max_new_tokens: 24}}
rewards:
  - {{name: format, weight: 0.5}}
  - coverage
  - {{name: brier, sum_at_most_one: false}}
optimizer: {{learning_rate: 1e-3}}
checkpoint: {{every: 2}}
"""


class CommandTest(unittest.TestCase):
    """A scratch folder for each test."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="plural_app_test."))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def write_config(self, text, name="run.yaml", **values):
        values.setdefault("output", self.dir / "run")
        values.setdefault("data", write_lines(self.dir / "train.jsonl", EXAMPLES))
        path = self.dir / name
        path.write_text(text.format(**values))
        return path

    def check(self, done, code, *texts):
        """Exit code, and each text in the messages."""
        self.assertEqual(done.returncode, code, f"stdout: {(done.stdout or '')[-2000:]}\nstderr: {done.stderr[-4000:]}")
        for text in texts:
            self.assertIn(text, done.stderr)
        if code not in (0, 130):
            self.assertNotIn("terminate called", done.stderr)
