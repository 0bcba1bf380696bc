"""The jars of a Flink cluster, from the Python registry, and of Beam's job server, from Maven's."""

import dataclasses
import pathlib
import shutil
import subprocess
import sys
import tarfile

_HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class FlinkJars:
    """What has been downloaded.

    Attributes:
        class_path: the jars of a cluster.
        job_server: Beam's, which a job takes with it.
    """

    class_path: tuple[pathlib.Path, ...]
    job_server: pathlib.Path


def fetch_jars(folder: pathlib.Path) -> FlinkJars:
    """Downloads them; what Maven has downloaded before it does not download again.

    Args:
        folder: an empty one.
    """
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        # It has nothing but jars to be unpacked: what builds its wheel need not be downloaded.
        *("--no-deps", "--no-build-isolation", "--require-hashes", "--dest", str(folder)),
        *("--requirement", str(_HERE / "requirements.txt")),
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        # Without the jars for Flink's tables and connectors.
        wanted = [
            member
            for member in members
            for name in ("flink-dist-*.jar", "log4j-*.jar")
            if pathlib.PurePosixPath(member.name).match(f"deps/lib/{name}")
        ]
        members.extractall(folder, wanted, filter="data")
    archive.unlink()
    shutil.copy(_HERE / "pom.xml", folder)
    _run("mvn", "--quiet", "--batch-mode", f"--file={folder / 'pom.xml'}", "package")
    (job_server,) = (folder / "target").glob("flink-job-server-*.jar")
    return FlinkJars(tuple(sorted(folder.glob("*/deps/lib/*.jar"))), job_server)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
