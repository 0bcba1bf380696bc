"""Our code on the workers of an engine: in a wheel that is sent to them, in an image, or installed.

Code of another version may give other figures, or fail within the job.
"""

import hashlib
import pathlib
import zipfile
from collections.abc import Iterable, Mapping

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    WorkerOptions,
)

from export.errors import UserError

_PACKAGES = ("export", "pipelines", "serving", "serving_configs", "signatures")
WHEEL = "run `make wheel`, and pass --extra_package build/wheels/cait_serving-*.whl"


def require_code(options: PipelineOptions, runner: str) -> None:
    """Looks for the code in a wheel that is sent to the workers, or for an image that has it.

    Raises:
        UserError: they would not have it, or would have other code.
    """
    portable = options.view_as(PortableOptions)
    image = options.view_as(WorkerOptions).sdk_container_image
    if image or (portable.environment_type == "DOCKER" and portable.environment_config):
        return
    wheels = [
        path
        for path in options.view_as(SetupOptions).extra_packages or ()
        if pathlib.PurePath(path).name.startswith("cait_serving-")
    ]
    if not wheels:
        raise UserError(
            f"--runner {runner}: its workers do not have this code; {WHEEL}, or name an image that "
            "has it with --sdk_container_image"
        )
    for path in wheels:
        if name := differing_module(_modules_of_wheel(path)):
            raise UserError(
                f"--extra_package {path}: {name} is not that of the code that submits the job; "
                f"expected a wheel of the same code: {WHEEL}"
            )


def installed_modules() -> dict[str, str]:
    """What this process runs: path of each module -> SHA-256 of its source."""
    root = pathlib.Path(__file__).parents[2]
    return _digests(
        (module.relative_to(root).as_posix(), module.read_bytes())
        for package in _PACKAGES
        for module in (root / package).rglob("*.py")
    )


def differing_module(found: Mapping[str, str]) -> str | None:
    """The first module that another installation lacks, has changed, or has beside ours.

    Args:
        found: what `installed_modules` returns there.
    """
    ours = installed_modules()
    differing = (name for name in ours.keys() | found.keys() if ours.get(name) != found.get(name))
    return min(differing, default=None)


def _modules_of_wheel(path: str) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as wheel:
            return _digests((name, wheel.read(name)) for name in wheel.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"--extra_package {path}: cannot be read ({error}); {WHEEL}") from None


def _digests(modules: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    return {
        name: hashlib.sha256(source).hexdigest()
        for name, source in modules
        if name.endswith(".py") and name.split("/")[0] in _PACKAGES
    }
