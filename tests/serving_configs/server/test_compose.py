"""docker-compose.yaml."""

import json
import pathlib

import check_jsonschema
import jsonschema

from tests.support.deployment import compose

SCHEMAS = pathlib.Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"


def test_compose_file_holds_to_the_schema() -> None:
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(compose()))
    # That the schema is not one that takes everything.
    wrong = compose()
    wrong["services"]["serving"]["comand"] = []
    assert list(validator.iter_errors(wrong))


def test_compose_reads_the_trees_own_config() -> None:
    service = compose()["services"]["serving"]
    (volume,) = service["volumes"]
    assert volume == {
        "type": "bind",
        "source": "../serving",
        "target": "/published",
        "read_only": True,
    }
    assert "--model_config_file=/published/models.config" in service["command"]
