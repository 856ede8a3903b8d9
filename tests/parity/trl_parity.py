# SPDX-License-Identifier: Apache-2.0
"""Losses and gradients of TRL's own GRPO and GMPO trainers on random tensors, as JSON on standard output.

Runs in the environment that benchmarks/peers/setup.sh makes. The output is kept in tests/golden/trl_losses.json:

    venv-peers/bin/python tests/parity/trl_parity.py > tests/golden/trl_losses.json
"""
import json
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
from trl import GRPOTrainer
from trl.experimental.gmpo import GMPOTrainer

torch.manual_seed(20261125)
torch.set_default_dtype(torch.float64)

LENGTHS, WIDTH, MAX_TOKENS = [4, 1, 6, 3], 6, 9
MASK = torch.tensor([[1.0] * n + [0.0] * (WIDTH - n) for n in LENGTHS])

DEFAULTS = dict(loss_type="dapo", level="token", low=0.2, high=0.28, delta=None, beta=0.0, bias_correction=False,
                off_policy=None, top_entropy=1.0, importance=None, entropy_coef=0.0)


def trainer(c, logp, entropy):
    """What _compute_loss reads of a trainer, on one process without gradient accumulation."""
    accelerator = SimpleNamespace(num_processes=1, sync_gradients=True, gather=lambda x: x,
                                  reduce=lambda x, reduction=None: x, pad_across_processes=lambda x, **kw: x)
    args = SimpleNamespace(delta=c["delta"], use_bias_correction_kl=c["bias_correction"], steps_per_generation=1,
                           sapo_temperature_pos=1.0, sapo_temperature_neg=1.05, vespo_k_pos=2.0, vespo_lambda_pos=3.0,
                           vespo_k_neg=3.0, vespo_lambda_neg=2.0)
    fake = SimpleNamespace(
        accelerator=accelerator, args=args, aux_loss_enabled=False, beta=c["beta"], current_gradient_accumulation_steps=1,
        epsilon_low=c["low"], epsilon_high=c["high"], importance_sampling_level=c["level"], loss_type=c["loss_type"],
        max_completion_length=MAX_TOKENS, model=SimpleNamespace(training=True), off_policy_mask_threshold=c["off_policy"],
        top_entropy_quantile=c["top_entropy"], use_adaptive_entropy=False, entropy_coef=c["entropy_coef"],
        _entropy_bonus_enabled=c["entropy_coef"] > 0, use_vllm=c["importance"] is not None,
        vllm_importance_sampling_correction=c["importance"] is not None, _metrics={"train": defaultdict(list)})
    fake._get_per_token_logps_and_entropies = lambda *a, **k: (logp, entropy, None)
    fake.get_high_entropy_mask = lambda *a: GRPOTrainer.get_high_entropy_mask(fake, *a)
    fake.get_off_policy_mask = GRPOTrainer.get_off_policy_mask
    fake.get_gamma_weights = GRPOTrainer.get_gamma_weights
    return fake


def importance_ratio(mode, old, sampler):
    """As _generate_and_score_completions computes it, bounds 0.5 and 2."""
    difference = (old - sampler) * MASK
    if mode.startswith("sequence"):
        difference = difference.sum(-1, keepdim=True)
    ratio = torch.exp(difference)
    if mode.endswith("truncate"):
        return ratio.clamp(min=0.5, max=2.0)
    return ratio.masked_fill((ratio < 0.5) | (ratio > 2.0), 0.0)


def case(**changes):
    c = {**DEFAULTS, **changes}
    logp = (-2.5 * torch.rand(len(LENGTHS), WIDTH)).requires_grad_()
    old = logp.detach() + 0.4 * torch.randn_like(logp)
    # Token ratios spread wide enough that some lie outside of the bounds.
    sampler = old + (0.9 if (c["importance"] or "").startswith("token") else 0.3) * torch.randn_like(logp)
    ref = logp.detach() + 0.7 * torch.randn_like(logp)
    entropy = (3 * torch.rand_like(logp)).detach().requires_grad_()
    advantage = torch.randn(len(LENGTHS))
    inputs = dict(prompt_ids=torch.zeros(len(LENGTHS), 1, dtype=torch.long), prompt_mask=torch.ones(len(LENGTHS), 1),
                  completion_ids=torch.zeros(len(LENGTHS), WIDTH, dtype=torch.long), completion_mask=MASK,
                  advantages=advantage, old_per_token_logps=old, ref_per_token_logps=ref,
                  sampling_per_token_logps=sampler, num_items_in_batch=MASK.sum())
    if c["importance"]:
        inputs["importance_sampling_ratio"] = importance_ratio(c["importance"], old, sampler)
    cls = GMPOTrainer if c["loss_type"] == "gmpo" else GRPOTrainer
    loss = cls._compute_loss(trainer(c, logp, entropy), None, inputs)
    loss.backward()
    flat = lambda x: [round(v, 12) for v in x.detach()[MASK.bool()].tolist()]
    zero = torch.zeros_like(logp)
    return dict(**c, lengths=LENGTHS, max_tokens=MAX_TOKENS, log_prob=logp.detach()[MASK.bool()].tolist(),
                old=old[MASK.bool()].tolist(), sampler=sampler[MASK.bool()].tolist(), ref=ref[MASK.bool()].tolist(),
                entropy=entropy.detach()[MASK.bool()].tolist(), advantage=advantage.tolist(), loss=loss.item(),
                grad=flat(logp.grad), entropy_grad=flat(entropy.grad if entropy.grad is not None else zero))


cases = [case(loss_type=t) for t in ("grpo", "bnpo", "dr_grpo", "dapo", "sapo", "vespo")]
cases += [case(loss_type="cispo", high=h) for h in (1.28, 5.0)]
cases += [case(loss_type="grpo", level="sequence", low=3e-4, high=4e-4), case(loss_type="luspo", level="sequence")]
cases += [case(loss_type="gmpo", low=0.4, high=0.4), case(loss_type="gmpo", low=0.1, high=0.2, beta=0.1)]
cases += [case(loss_type=t, delta=1.5) for t in ("grpo", "dapo")]
cases += [case(beta=0.1), case(beta=0.1, bias_correction=True), case(loss_type="sapo", beta=0.05)]
cases += [case(off_policy=0.02), case(top_entropy=0.4), case(top_entropy=0.4, loss_type="grpo", entropy_coef=0.02),
          case(entropy_coef=0.05), case(loss_type="dr_grpo", entropy_coef=0.05)]
cases += [case(importance=m) for m in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")]
# Pieces put together: what one of them does to the shape or the count shows in the other.
gspo = dict(level="sequence", low=3e-4, high=4e-4)
cases += [case(**gspo, top_entropy=0.4), case(**gspo), case(**gspo, loss_type="bnpo", beta=0.1),
          case(**gspo, loss_type="dr_grpo", entropy_coef=0.05), case(**gspo, loss_type="grpo", delta=1.5),
          case(**gspo, importance="sequence_truncate"), case(loss_type="luspo", level="sequence", beta=0.05),
          case(loss_type="cispo", high=5.0, importance="token_truncate"), case(loss_type="cispo", high=5.0, top_entropy=0.4),
          case(loss_type="vespo", beta=0.1), case(loss_type="sapo", top_entropy=0.4)]
print(json.dumps(dict(made_by="tests/parity/trl_parity.py", trl=trl.__version__, torch=torch.__version__, cases=cases),
                 indent=None))
