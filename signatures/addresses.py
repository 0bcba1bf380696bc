"""Addresses as users write them: paths of this machine's disk, and URLs of object stores.

Every flag of every command that takes one is read by a function of this module, so `~`, `file://`,
relative paths and spaces mean the same everywhere. The functions are types for argparse.
"""

import argparse
import glob
import os
import pathlib
import re
import urllib.parse

from .messages import without_credentials

# As Beam's filesystems find it.
_SCHEME = re.compile(r"([a-zA-Z][-a-zA-Z0-9+.]*)://")
_FILE = re.compile(r"file:", re.IGNORECASE)
# It would be in manifests, configs and pages, which others read.
_PASSWORD = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://[^/?#@]*:[^/?#]*@")
# `s3:/bucket`, which would become a directory `s3:`.
_BROKEN = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*:(/+$|/[^/])")


class AddressError(argparse.ArgumentTypeError):
    """An address that names no place. The message is one line; argparse puts the flag before it."""


def is_url(address: str) -> bool:
    """Whether an address is on an object store or another filesystem of Beam's, not on a disk."""
    return _SCHEME.match(address) is not None


def address(text: str) -> str:
    """The path or the URL that a user names. A relative path stays relative.

    Args:
        text: a path, where `~` and `~user` stand for home directories; a `file:` URL, which is the
            path in it; or another URL. What is behind its last name, a slash, is dropped.

    Raises:
        AddressError: it is empty, there is no such user, a `file:` URL names another host, or a URL
            has no host or bucket, or a password.
    """
    path = _expanded(text)
    return path.rstrip("/") if is_url(path) else str(pathlib.Path(path))


def absolute_address(text: str) -> str:
    """As `address`, with an absolute path.

    Raises:
        AddressError: see `address`.
    """
    path = address(text)
    return path if is_url(path) else os.path.join(os.getcwd(), path)


def absolute_glob(text: str) -> str:
    """As `absolute_address`, for a path that may be a glob.

    What comes before the user's own text, the working directory or a home directory, is no pattern,
    whatever its name. Neither is a path that is there as it is written.

    Raises:
        AddressError: see `address`.
    """
    path = _expanded(text)
    if is_url(path) or not glob.has_magic(path) or os.path.lexists(path):
        return absolute_address(text)
    if text.startswith("~"):
        user, _, rest = text.partition("/")
        return f"{glob.escape(_expanded(user))}/{rest}"
    return path if path.startswith("/") else f"{glob.escape(os.getcwd())}/{path}"


def disk_path(text: str) -> pathlib.Path:
    """The path that a user names, for a flag that takes no URL. A relative one stays relative.

    Args:
        text: a path, where `~` and `~user` stand for home directories; or a `file:` URL.

    Raises:
        AddressError: see `address`; or it is a URL.
    """
    path = _expanded(text)
    if is_url(path):
        raise AddressError(f"{text}: a URL; expected a path of this machine's disk")
    return pathlib.Path(path)


def written_url(text: str) -> str:
    """A URL or a path of other machines, which is written into files as it is.

    Raises:
        AddressError: it has credentials, which everybody would read.
    """
    found = without_credentials(text)
    if found != text:
        raise AddressError(
            f"{found}: credentials, which everybody would read in what is written; expected a URL "
            "without"
        )
    return text


def _expanded(text: str) -> str:
    """A path without `~` and `file:`; any other URL as it is."""
    if not text:
        raise AddressError("an empty path; expected a path or a URL")
    if _FILE.match(text):
        return _file_path(text)
    if _BROKEN.match(text):
        raise AddressError(f"{text}: expected a URL such as s3://BUCKET/PATH, or a path")
    if _PASSWORD.match(text):
        raise AddressError(
            f"{without_credentials(text)}: a URL with a password; expected one without: keys of "
            "stores are in flags of Beam's or in the environment"
        )
    path = os.path.expanduser(text)
    # A directory of that name would be made otherwise, and nobody looks for it there.
    if path.startswith("~"):
        raise AddressError(
            f"{text}: no home directory of {path.split('/')[0]!r}; for a path of that name write "
            f"./{text}"
        )
    return path


def _file_path(url: str) -> str:
    """The path of a `file:` URL (RFC 8089): `file:///path`, `file:/path`, `file://localhost/path`."""
    rest = url[len("file:") :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = f"{slash}{path}" if host in ("", "localhost") else ""
    if not rest.startswith("/"):
        found = without_credentials(url)
        raise AddressError(f"{found}: expected file:///PATH, with an absolute path of this machine")
    return urllib.parse.unquote(rest)
