"""The house rules: which package may import what, and what importing one costs."""

import ast
import functools
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.paths import PACKAGES, REPOSITORY

# Package: the others of ours that it may import. Nothing goes back up.
MAY_IMPORT: dict[str, set[str]] = {
    "signatures": set(),
    "serving_configs": {"signatures"},
    "export": {"signatures"},
    "pipelines": {"export", "signatures", "serving_configs"},
    "serving": {"signatures", "serving_configs"},
}

# Room: the others of its package that it may import. A module that is in no room is its own.
ROOMS: dict[str, set[str]] = {
    "export.checkpoints": {"architecture", "errors", "variants", "weights"},
    "export.reference": {"variants"},
    "export.saved_model": {"blocks", "compute", "layers", "names", "variants"},
    "serving_configs.tree": {"errors"},
    "serving_configs.server": {"errors", "rendering", "tree"},
    "serving_configs.hub": {"errors", "rendering", "tree"},
    "serving_configs.trust": {"errors", "hub", "tree"},
    "serving_configs.rollout": {"errors", "server", "tree", "trust"},
    "serving_configs.upload": {"errors", "hub", "server", "tree", "trust"},
    "pipelines.elements": set(),
    "pipelines.filesystem": set(),
    "pipelines.runtime": {"filesystem"},
    "pipelines.store": {"filesystem"},
    "pipelines.data": {"elements", "runtime"},
    "pipelines.gate": {"data", "elements", "runtime"},
    "pipelines.publish": {"data", "elements", "filesystem", "gate", "runtime", "store"},
    "pipelines.evaluate": {"data", "gate", "runtime", "store"},
    "serving.client": {"command_line", "errors", "tensors"},
    "serving.model_server": {"command_line", "errors", "http_guard", "tensors", "text_proto"},
    # A SavedModel that no server has loaded, and a server of its own.
    "serving.attention": {"client", "command_line", "errors", "model_server"},
    "serving.page": {
        "attention",
        "client",
        "command_line",
        "errors",
        "http_guard",
        "model_server",
    },
}
# The same for the rooms of the server; each may also import what `serving` shares.
SERVER_ROOMS: dict[str, set[str]] = {
    "servables": set(),
    "calls": {"servables"},
    "batching": {"servables"},
    "rest": {"calls", "servables"},
}


def modules(package: str) -> list[pathlib.Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


@functools.cache
def imports(module: pathlib.Path) -> list[tuple[int, str]]:
    """Line and whole name of everything that a module imports, also within its functions."""
    return list(_imports(module))


def _imports(module: pathlib.Path) -> Iterator[tuple[int, str]]:
    package = module.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from ..x import y` in a/b/c.py is of a.x: one dot is the folder that it is in.
            base = package[: len(package) - node.level + 1] if node.level else ()
            assert base or not node.level, f"{module}:{node.lineno} imports from above its package"
            yield node.lineno, ".".join([*base, *([node.module] if node.module else [])])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            (name,) = node.args
            assert isinstance(name, ast.Constant), f"{module}:{node.lineno} imports what?"
            yield node.lineno, str(name.value)


def test_the_packages_are_there() -> None:
    assert set(PACKAGES) == set(MAY_IMPORT)
    for package in PACKAGES:
        assert (REPOSITORY / package / "__init__.py") in modules(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_is_below_them(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    forbidden |= {"benchmarks", "examples", "tests", "conftest"}
    seen = set()
    for module in modules(package):
        for line, name in imports(module):
            top = name.split(".")[0]
            assert top not in forbidden, f"{module}:{line} imports {name}"
            seen.add(top)
    # So that a reader of imports that finds none is not taken for a clean package.
    assert package in seen


def inner_imports(package: str) -> Iterator[tuple[str, str, str]]:
    """Where, the importing module and the imported one, of imports within a package."""
    for module in modules(package):
        path = module.relative_to(REPOSITORY)
        importing = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for line, name in imports(module):
            if name.split(".")[0] == package:
                yield f"{path}:{line}", importing, name


def part(name: str, depth: int) -> str:
    """The part of a dotted name at a depth; empty above it."""
    return (name.split(".") + [""] * depth)[depth]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_is_below_them(room: str) -> None:
    package, name = room.split(".")
    assert (REPOSITORY / package / name).is_dir() or (REPOSITORY / package / f"{name}.py").exists()
    for where, importing, imported in inner_imports(package):
        if part(importing, 1) == name and part(imported, 1) not in {name, ""}:
            assert part(imported, 1) in ROOMS[room], f"{where} imports {imported}"


def test_every_room_has_its_rules() -> None:
    for package in PACKAGES:
        found = {p.parent.name for p in (REPOSITORY / package).glob("*/__init__.py")}
        assert {f"{package}.{name}" for name in found} <= set(ROOMS)
        for room in (REPOSITORY / package).rglob("*/__init__.py"):
            # What lives there and what it imports is the first that a reader sees of it.
            summary = ast.get_docstring(ast.parse(room.read_text(encoding="utf-8")))
            assert summary, room


@pytest.mark.parametrize("room", SERVER_ROOMS)
def test_rooms_of_the_server_import_only_what_is_below_them(room: str) -> None:
    assert (REPOSITORY / "serving" / "model_server" / room).is_dir()
    for where, importing, imported in inner_imports("serving"):
        inside = importing.startswith(f"serving.model_server.{room}.")
        if inside and imported.startswith("serving.model_server."):
            assert part(imported, 2) in {room, *SERVER_ROOMS[room]}, f"{where} imports {imported}"


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_each_other_in_no_circle(package: str) -> None:
    below: dict[str, set[str]] = {}
    for _, importing, imported in inner_imports(package):
        one, other = part(importing, 1), part(imported, 1)
        if one and other:
            below.setdefault(one, set()).add(other)
            below.setdefault(other, set())
    while leaves := {room for room, others in below.items() if not others - {room}}:
        below = {room: others - leaves for room, others in below.items() if room not in leaves}
    assert not below


def test_tests_take_helpers_from_support_alone() -> None:
    for module in modules("tests"):
        folder = module.relative_to(REPOSITORY).parent
        for line, name in imports(module):
            where = f"{module}:{line} imports {name}"
            assert not f"{name}.".startswith("tests.") or name.startswith("tests.support"), where
            # What is tested there is benchmarks.
            if folder != pathlib.Path("tests/benchmarks"):
                assert name.split(".")[0] != "benchmarks", where


def test_a_conftest_has_fixtures_and_hooks_alone() -> None:
    found = sorted((REPOSITORY / "tests").rglob("conftest.py"))
    assert REPOSITORY / "tests" / "conftest.py" in found
    for path in found:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                fixture = any("pytest.fixture" in ast.unparse(d) for d in node.decorator_list)
                assert fixture or node.name.startswith("pytest_"), f"{path}: {node.name}"


def test_tests_are_in_folders_named_after_the_packages() -> None:
    tests = REPOSITORY / "tests"
    for path in modules("tests"):
        folder = path.parent.relative_to(tests)
        if folder.parts[:1] not in (("support",), ("data",)):
            assert path.name == "conftest.py" or path.name.startswith("test_"), path
            # The tests of a cluster are of no one package, and run by a command of their own.
            assert folder.parts[:1] == ("cluster",) or (REPOSITORY / folder).is_dir(), path


def test_no_two_test_files_have_one_name() -> None:
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    # Each package has its part of the documentation's commands.
    twice = {name for name in names if names.count(name) > 1} - {"test_readme.py"}
    assert not twice


@pytest.mark.parametrize("package", PACKAGES)
def test_beam_is_imported_by_the_pipelines_alone_and_pytorch_by_none(package: str) -> None:
    # PyTorch and TensorFlow in one process abort it.
    forbidden = {"torch", "torchvision", "timm"}
    if package != "pipelines":
        forbidden.add("apache_beam")
    seen = {
        name.split(".")[0]: f"{m}:{line}" for m in modules(package) for line, name in imports(m)
    }
    assert not {name: where for name, where in seen.items() if name in forbidden}
    assert ("apache_beam" in seen) == (package == "pipelines")


def test_the_light_packages_load_without_tensorflow_and_beam() -> None:
    # A command refuses a wrong flag in a fraction of the seconds that these take to load.
    script = (
        "import sys, export, signatures, serving_configs\n"
        "heavy = {'tensorflow', 'tf_keras', 'tensorflow_hub', 'apache_beam', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
