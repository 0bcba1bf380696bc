"""The house rules: which package may import what, and what importing one costs."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]

# Package: the others of ours that it may import. Nothing goes back up.
MAY_IMPORT: dict[str, set[str]] = {
    "signatures": set(),
    "serving_configs": {"signatures"},
    "export": {"signatures"},
    "pipelines": {"export", "signatures", "serving_configs"},
    "serving": {"signatures", "serving_configs"},
}
PACKAGES = [name for name in MAY_IMPORT if (REPOSITORY / name).is_dir()]


def modules(package: str) -> list[pathlib.Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def imports(module: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Line and whole name of everything that a module imports, also within its functions."""
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
    assert set(PACKAGES) >= {"export", "pipelines", "serving_configs", "signatures"}
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
