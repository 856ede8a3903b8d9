# SPDX-License-Identifier: Apache-2.0
"""Mean cross-entropy over target tokens and its gradients by transformers, in float64, as JSON on standard output.

Usage: train_parity.py MODEL_DIR ROWS.json, rows being [{"prompt": ids, "target": ids}, ...]."""
import json
import sys

import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float64)
rows = json.load(open(sys.argv[2]))
total, count = 0.0, sum(len(row["target"]) for row in rows)
for row in rows:
    ids = torch.tensor([row["prompt"] + row["target"]])
    logits = model(ids).logits[0, len(row["prompt"]) - 1 : -1]
    total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(row["target"]), reduction="sum")
loss = total / count
loss.backward()
gradients = {name: p.grad.flatten().tolist() for name, p in model.named_parameters()}
norm = sum((p.grad**2).sum() for p in model.parameters()).sqrt().item()
print(json.dumps(dict(loss=loss.item(), grad_norm=norm, gradients=gradients)))
