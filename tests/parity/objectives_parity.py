# SPDX-License-Identifier: Apache-2.0
"""Losses, gradients and AdamW trajectories by PyTorch, written the padded [B, T] way, as JSON on standard output."""
import itertools
import json

import torch

torch.manual_seed(20240601)
torch.set_default_dtype(torch.float64)


def loss_of(logp, old, ref, adv, mask, aggregation, low, high, beta, kl, max_tokens):
    """[B, T] log-probs; adv [B]; mask [B, T]. Written with torch.min, as the papers have it."""
    ratio = torch.exp(logp - (logp.detach() if old is None else old))
    a = adv[:, None]
    per_token = -torch.min(ratio * a, torch.clamp(ratio, 1 - low, 1 + high) * a)
    if beta > 0:
        d = ref - logp
        per_token = per_token + beta * {"k1": -d, "k2": d**2 / 2, "k3": torch.exp(d) - d - 1}[kl]
    per_token = per_token * mask
    if aggregation in ("dapo", "bnpo"):
        return per_token.sum() / mask.sum()
    if aggregation == "grpo":
        return (per_token.sum(1) / mask.sum(1)).mean()
    return per_token.sum() / (len(mask) * max_tokens)


def objective_cases():
    cases = []
    lengths, width = [5, 1, 7, 3], 7
    mask = torch.tensor([[1.0] * n + [0.0] * (width - n) for n in lengths])
    for aggregation, (low, high), (beta, kl), on_policy in itertools.product(
        ["dapo", "grpo", "dr_grpo", "bnpo"],
        [(0.2, 0.28), (0.1, 0.1), (1.0, 3.0)],
        [(0.0, "k3"), (0.04, "k1"), (0.3, "k2"), (0.1, "k3")],
        [True, False],
    ):
        logp = (-3 * torch.rand(len(lengths), width)).requires_grad_()
        old = logp.detach() + 0.5 * torch.randn_like(logp)
        ref = logp.detach() + 0.7 * torch.randn_like(logp)
        adv = torch.randn(len(lengths))
        loss = loss_of(logp, None if on_policy else old, ref, adv, mask, aggregation, low, high, beta, kl, 9)
        loss.backward()
        flat = lambda x: x.detach()[mask.bool()].tolist()
        cases.append(dict(aggregation=aggregation, clip_low=low, clip_high=high, kl_weight=beta, kl=kl,
                          on_policy=on_policy, lengths=lengths, max_tokens=9, log_prob=flat(logp), old=flat(old),
                          ref=flat(ref), advantage=adv.tolist(), loss=loss.item(), grad=flat(logp.grad)))
    return cases


def adamw_case(dtype, weight_decay, max_norm):
    """torch.optim.AdamW on masters, the gradient rounded to the parameter's dtype first."""
    master = torch.float64 if dtype == torch.float64 else torch.float32
    start = [torch.randn(5, 3).to(dtype), torch.randn(3).to(dtype)]
    weights = [s.to(master).clone().requires_grad_() for s in start]
    decay = [{"params": [weights[0]], "weight_decay": weight_decay}, {"params": [weights[1]], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decay, lr=1.0, betas=(0.9, 0.99), eps=1e-8)
    steps = []
    for step in range(6):
        lr = 0.05 / (step + 1)
        grads = [torch.randn(w.shape).to(dtype) for w in weights]
        for w, g in zip(weights, grads):
            w.grad = g.to(master).clone()
        norm = torch.sqrt(sum((g.to(torch.float64) ** 2).sum() for g in grads)).item()
        if max_norm > 0 and norm > max_norm:
            for w in weights:
                w.grad.mul_(max_norm / norm)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        steps.append(dict(lr=lr, norm=norm, grads=[g.flatten().tolist() for g in grads],
                          parameters=[w.detach().to(dtype).flatten().tolist() for w in weights]))
    return dict(dtype=str(dtype).split(".")[1], weight_decay=weight_decay, max_norm=max_norm,
                start=[s.flatten().tolist() for s in start], steps=steps)


adamw = [adamw_case(dtype, decay, norm) for dtype in (torch.float64, torch.float32, torch.bfloat16)
         for decay, norm in ((0.0, 0.0), (0.1, 1.0))]
print(json.dumps(dict(torch=torch.__version__, objective=objective_cases(), adamw=adamw)))
