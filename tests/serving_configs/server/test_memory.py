"""The formula of a server's memory."""

import dataclasses

from serving_configs.server.memory import server_memory
from serving_configs.tree.files import FileRecord
from signatures import Geometry
from tests.support.deployment import MODELS

S24_224 = Geometry(224, 196, 8, 384, 1000, 24, 2)


def weights_of(parameters: int, graph: int = 2_500_000) -> tuple[FileRecord, ...]:
    path = "variables/variables.data-00000-of-00001"
    files = {path: 4 * parameters, "saved_model.pb": graph}
    return tuple(FileRecord(name, size, "0" * 64) for name, size in files.items())


def test_memory_is_what_servers_were_measured_to_take() -> None:
    """In MiB, of `benchmarks.serving_memory`, and of a real server with its warm-up."""
    small = dataclasses.replace(
        MODELS[0], files=weights_of(11_956_264), geometry=Geometry(224, 196, 4, 192, 1000, 24, 2)
    )
    large = dataclasses.replace(
        MODELS[0], files=weights_of(47_062_120), geometry=Geometry(384, 576, 8, 384, 1000, 24, 2)
    )
    constant_small, constant_large = (
        dataclasses.replace(model, profile="throughput", files=weights_of(parameters, graph))
        for model, parameters, graph in (
            (small, 11_956_264, 23_897_564),
            (dataclasses.replace(large, geometry=S24_224), 46_916_200, 87_681_500),
        )
    )
    # Copies of the weights, beside those of the model.
    copied_small, copied_large = (
        dataclasses.replace(model, files=weights_of(2 * parameters))
        for model, parameters in ((constant_small, 11_956_264), (constant_large, 46_916_200))
    )
    for models, taken in (
        ([(small, 1)], 891),
        ([(small, 2)], 1152),
        ([(large, 1)], 1157),
        ([(large, 2)], 1690),
        ([(small, 2), (small, 2)], 1335),
        ([(constant_small, 1)], 1381),
        ([(constant_small, 2)], 2417),
        ([(constant_large, 1)], 3012),
        ([(constant_large, 2)], 6036),
        ([(copied_small, 1)], 1043),
        ([(copied_small, 2)], 1397),
        ([(copied_large, 1)], 1287),
        ([(copied_large, 2)], 2127),
    ):
        assert taken <= server_memory(models) / 2**20 <= 1.5 * taken
    # Four requests as large as the largest batch.
    assert server_memory([(MODELS[1], 1)]) - server_memory([(MODELS[0], 1)]) == 4 * 16 * 64 * 2**20
