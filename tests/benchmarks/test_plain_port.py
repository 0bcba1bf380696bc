"""What the published form is compared with computes the same."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.plain_port import write_plain_port
from export.variants import CaiTConfig
from tests.support.arrays import Serve, Tensors

pytestmark = pytest.mark.slow


def test_plain_port_computes_what_the_published_model_does(
    tiny_config: CaiTConfig,
    tiny_tensors: Tensors,
    tiny_served: dict[str, Serve],
    serve_from: Callable[[pathlib.Path], Serve],
    tmp_path: pathlib.Path,
) -> None:
    write_plain_port(tiny_config, tiny_tensors, tmp_path / "port")
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    found = serve_from(tmp_path / "port")("serving_default", images=images)
    wanted = tiny_served["classifier"]("class_attention", images=images)
    for i in range(tiny_config.sa_blocks):
        reply = tiny_served["classifier"]("self_attention", images=images, block=[i] * 3)
        wanted[f"sa_ffn_block_{i}_att"] = reply["attention"]
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
