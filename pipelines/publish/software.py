"""The software that made a version, as a CycloneDX bill of materials."""

import functools
import importlib.metadata
import platform
import re
import uuid

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_PROJECT = "cait-serving"


@functools.cache
def bill_of_materials() -> bytes:
    """Every installed distribution with its version, and Python, in CycloneDX 1.6's JSON.

    The same software gives the same bytes: there is no time in it, and its serial number is a
    digest of it.
    """
    installed = {_normal(d.name): d for d in importlib.metadata.distributions()}
    components = [_component(d) for name, d in sorted(installed.items()) if name != _PROJECT]
    version = platform.python_version()
    components.append(
        Component(
            name="cpython",
            version=version,
            type=ComponentType.PLATFORM,
            bom_ref=f"cpython@{version}",
        )
    )
    names = repr([component.bom_ref.value for component in components])
    bom = Bom(components=components, serial_number=uuid.uuid5(uuid.NAMESPACE_OID, names))
    # It is set to now otherwise.
    bom.metadata.timestamp = None  # type: ignore[assignment]
    bom.metadata.component = Component(
        name=_PROJECT, type=ComponentType.APPLICATION, bom_ref=_PROJECT
    )
    bom.register_dependency(bom.metadata.component, components)
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    return text.encode() + b"\n"


def _component(distribution: importlib.metadata.Distribution) -> Component:
    name, version = _normal(distribution.name), distribution.version
    licence = distribution.metadata.json.get("license_expression")
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("pypi", name=name, version=version),
        bom_ref=f"{name}@{version}",
        licenses=[LicenseFactory().make_from_string(str(licence))] if licence else [],
    )


def _normal(name: str) -> str:
    """The one form of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
