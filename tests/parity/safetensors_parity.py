"""safetensors files of plural and of the safetensors package, against numbers that both sides compute.

write FILE: the package writes; check FILE: the package reads what plural wrote. The tensors have the same
definition in tests/core/safetensors_test.cpp.
"""
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def tensors():
    base = torch.arange(12, dtype=torch.float64) * 0.375 - 1.5  # exact in every float type here
    grid = base.reshape(3, 4)
    return {
        "f64": grid.clone(),
        "f32": grid.to(torch.float32),
        "f16": grid.to(torch.float16),
        "bf16": grid.to(torch.bfloat16),
        "i64": torch.arange(-3, 4, dtype=torch.int64) * 10**12,
        "i32": torch.arange(-3, 4, dtype=torch.int32) * 10**6,
        "u8": torch.tensor([0, 1, 254, 255, 7], dtype=torch.uint8),
        "bool": torch.tensor([[True, False], [False, True]]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "odd \"name\" é": torch.tensor([1.0]),
    }


def main():
    mode, file = sys.argv[1:]
    want = tensors()
    if mode == "write":
        save_file(want, file, metadata={"format": "pt", "note": "from python"})
        return
    got = load_file(file)
    assert got.keys() == want.keys(), (sorted(got), sorted(want))
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype and got[name].shape == tensor.shape, name
        assert torch.equal(got[name], tensor), name
    with safe_open(file, "pt") as handle:
        assert handle.metadata() == {"format": "pt", "note": "from plural"}, handle.metadata()


main()
