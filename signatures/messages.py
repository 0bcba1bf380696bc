"""What commands write to terminals and logs: a line stays a line."""


def printable(text: str) -> str:
    """A text with each control character escaped, such as a line's end in the name of a file."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
