"""Writes `tiny.pth`, which PyTorch itself has to have written.

Run where PyTorch is installed: `python tests/data/make_pth.py`. PyTorch is no requirement of this
project, and is never loaded beside TensorFlow.
"""

import collections
import pathlib

import torch

HERE = pathlib.Path(__file__).parent


def main() -> None:
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.arange(6).reshape(2, 3) / 8)
        linear.bias.copy_(torch.tensor([-1.5, 2.25]))
    shared = torch.arange(24, dtype=torch.float32)
    state = collections.OrderedDict(
        {f"module.{key}": tensor for key, tensor in linear.state_dict().items()}
    )
    state["part.module.weight"] = shared[4:16].reshape(3, 4).T  # A view that is not contiguous.
    state["half"] = torch.tensor([0.5, -65504.0], dtype=torch.float16)
    state["scalar"] = shared[23]
    state["parameter.grad"] = torch.ones(2, 1, requires_grad=True)
    torch.save({"model": state}, HERE / "tiny.pth")
    torch.save(state, HERE / "tiny-old-format.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
