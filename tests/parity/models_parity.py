# SPDX-License-Identifier: Apache-2.0
"""What `transformers` computes, for tests/models: random tiny models of every family and option.

write OUT             writes OUT/<case>/ (a Hugging Face folder) with expected.safetensors
smollm2 OUT MODEL_DIR  writes OUT/float32.safetensors and float64.safetensors for a 40-token text
check DIR             loads DIR with transformers and compares its logits with DIR/logits.safetensors
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama import modeling_llama

SMALL = dict(vocab_size=67, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256)
# The bases are small so that some of the 4 frequencies of a head of 8 lie on the ramp between kept and divided ones:
# llama3 has wavelengths 6.3 (kept), 13, 28 (between 8 and 32: interpolated) and 59 (divided); yarn has 0, 1/4, 1/2, 3/4.
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, rope_theta=20.0)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32, rope_theta=20.0)

# name -> (model_type, config fields, how the folder is written)
CASES = {
    "llama": ("llama", {}, {}),
    "llama_tied": ("llama", dict(tie_word_embeddings=True), {}),
    "llama_heads": ("llama", dict(num_key_value_heads=4), {}),
    "llama_one_kv_head": ("llama", dict(num_key_value_heads=1), {}),
    "llama_head_dim": ("llama", dict(head_dim=14), {}),
    "llama_bias": ("llama", dict(attention_bias=True, mlp_bias=True), {}),
    "llama_eps": ("llama", dict(rms_norm_eps=1e-3, rope_parameters=dict(rope_type="default", rope_theta=321.0)), {}),
    "llama_linear": ("llama", dict(rope_parameters=dict(rope_type="linear", factor=3.0, rope_theta=10000.0)), {}),
    "llama_llama3": ("llama", dict(rope_parameters=LLAMA3), {}),
    "llama_llama3_old_style": ("llama", dict(rope_parameters=LLAMA3), dict(old_style=True)),
    "llama_yarn": ("llama", dict(rope_parameters=YARN), {}),
    "llama_yarn_options": ("llama", dict(rope_parameters=dict(YARN, beta_fast=4.0, beta_slow=1.5, mscale=0.8,
                                                              mscale_all_dim=0.5, truncate=False)), {}),
    "llama_yarn_factor": ("llama", dict(rope_parameters=dict(YARN, attention_factor=1.3)), dict(old_style=True)),
    "llama_sharded": ("llama", dict(tie_word_embeddings=False), dict(max_shard_size="12KB")),
    "mistral": ("mistral", dict(sliding_window=None), {}),
    "mistral_window": ("mistral", dict(sliding_window=7), {}),
    "qwen2": ("qwen2", {}, {}),
    "qwen2_tied": ("qwen2", dict(tie_word_embeddings=True), {}),
    "qwen2_window": ("qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=1), {}),
    "qwen3": ("qwen3", dict(head_dim=8), {}),
    "qwen3_odd": ("qwen3", dict(head_dim=18, num_attention_heads=3, num_key_value_heads=1), {}),
    "qwen3_bias": ("qwen3", dict(head_dim=16, attention_bias=True), {}),
    "qwen3_layer_types": ("qwen3", dict(head_dim=8, use_sliding_window=True, sliding_window=6, layer_types=[
        "full_attention", "sliding_attention", "full_attention"]), {}),
    "qwen3_yarn": ("qwen3", dict(head_dim=8, rope_parameters=YARN), {}),
}


def old_style(folder: Path) -> None:
    """Rewrites rope_parameters as transformers 4 did: rope_theta outside, rope_scaling with `type`."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope["rope_type"]
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype", "float32")
    (folder / "config.json").write_text(json.dumps(config))


def expected(model, ids, with_gradients: bool):
    """Logits of each sequence, and the gradient of the sum of log-probs of each sequence's tokens 1.. ."""
    model.zero_grad()
    logits = model(input_ids=ids).logits
    log_prob = logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    result = {"ids": ids, "logits": logits.detach(), "log_prob": log_prob.detach()}
    if with_gradients:
        log_prob.sum().backward()
        for name, parameter in model.named_parameters():
            result["grad." + name] = parameter.grad.detach().clone()
    return {name: tensor.contiguous() for name, tensor in result.items()}


def write(out: Path) -> None:
    for number, (name, (model_type, fields, how)) in enumerate(CASES.items()):
        torch.manual_seed(100 + number)
        config = AutoConfig.for_model(model_type, **{**SMALL, **fields})
        # eager: the plainest attention, with every mask spelled out.
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        with torch.no_grad():  # far from the start values, so that norms, biases and masks all matter
            for key, parameter in model.named_parameters():
                parameter.normal_(1.0 if "norm" in key else 0.0, 0.25 if parameter.dim() == 1 else 0.15)
        folder = out / name
        model.save_pretrained(folder, max_shard_size=how.get("max_shard_size", "5GB"))
        if how.get("old_style"):
            old_style(folder)
            reloaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
            model = reloaded.eval()
        save_file(expected(model, torch.randint(0, 67, (3, 40)), True), folder / "expected.safetensors")


def exact_norm(self, hidden):
    """LlamaRMSNorm in the dtype of what it is given: theirs computes in float32 even where all else is float64."""
    return self.weight * (hidden * (hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).rsqrt())


def write_smollm2(out: Path, model_dir: str) -> None:
    text = ("The museum keeps three kinds of armour: mail, plate and lamellar. Visitors may touch only the copies, "
            "which were made by apprentices in the nineteenth century from drawings in the town archive.")
    ids = torch.tensor([Tokenizer.from_file(model_dir + "/tokenizer.json").encode(text).ids[:40]])
    assert ids.shape[1] > 30, ids.shape
    keep = ("ids", "logits", "log_prob", "grad.model.embed_tokens.weight",
            "grad.model.layers.0.self_attn.q_proj.weight", "grad.model.layers.14.mlp.down_proj.weight",
            "grad.model.layers.29.input_layernorm.weight", "grad.model.norm.weight")

    def run(dtype, name):
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype).eval()
        result = expected(model, ids, True)
        assert result["logits"].dtype == dtype, result["logits"].dtype
        save_file({key: result[key] for key in keep}, out / name)

    run(torch.float32, "float32.safetensors")
    modeling_llama.LlamaRMSNorm.forward = exact_norm
    run(torch.float64, "float64.safetensors")


def check(folder: Path) -> None:
    ours = load_file(folder / "logits.safetensors")
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], (kind, info[kind])
    kept = model.dtype

    def error(logits, exact):
        return (logits.float() - exact).abs()

    with torch.no_grad():
        exact = model.float().eval()(input_ids=ours["ids"]).logits  # of the very weights that were saved
        found = error(ours["logits"], exact)
        if kept == torch.float32:
            assert found.max() <= 2e-5, f"logits differ by {found.max()}"
        else:  # rounding is allowed to cost what it costs transformers
            theirs = error(model.to(kept)(input_ids=ours["ids"]).logits, exact)
            assert found.mean() <= 1.1 * theirs.mean() and found.max() <= 2 * theirs.max(), (
                f"off the exact logits by {found.mean()} on average, at most {found.max()}; "
                f"transformers by {theirs.mean()}, at most {theirs.max()}")
    print(f"{folder}: dtype {kept}, logits off by at most {found.max():.2e}")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    elif sys.argv[1] == "smollm2":
        write_smollm2(Path(sys.argv[2]), sys.argv[3])
    elif sys.argv[1] == "check":
        check(Path(sys.argv[2]))
