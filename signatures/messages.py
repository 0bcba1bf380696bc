"""What commands write to terminals, logs and files: whole lines, without credentials."""

import re

_HIDDEN = "***"
# What comes before the last `@` of a host, which is how urllib reads it.
_USER = re.compile(r"(?<=://)[^/?#\s'\"<>]+@")
# Signed URLs of object stores, and tokens.
_SECRET = re.compile(
    r"(?i)(?<=[?&])(x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|"
    r"sig|signature|token|access_token|api_key|password)=[^&\s'\"<>]+"
)


def printable(text: str) -> str:
    """A text with each control character escaped, such as a line's end in the name of a file."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def without_credentials(text: str) -> str:
    """A text with the credentials of each URL in it hidden: users, signatures, tokens."""
    if "://" not in text:
        return text
    return _SECRET.sub(rf"\1={_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))
