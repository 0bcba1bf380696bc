"""Reading a file that a user names."""

import errno
import os
import pathlib
import stat


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, or what a pipe gives.

    Raises:
        OSError: it cannot be read, or is a device, such as `/dev/zero`, which never ends.
    """
    with pathlib.Path(path).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise OSError(errno.EINVAL, "Is a device; expected a file", str(path))
        return file.read()
