"""What is hidden in messages, and what is escaped."""

import pytest

from signatures.messages import printable, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:sesame@host/x", "http://***@host/x"),
        ("at 'https://sesame@host:9000/x?y=1'.", "at 'https://***@host:9000/x?y=1'."),
        # As urllib reads it: up to the last @ of the host.
        ("s3://user:se@sa:me@bucket/key", "s3://***@bucket/key"),
        ("two: http://a:sesame@b http://c:sesame@d", "two: http://***@b http://***@d"),
        ("http://us%40er:sesame%2F@[::1]:80", "http://***@[::1]:80"),
        (
            "https://cdn/x?X-Amz-Signature=sesame&X-Amz-Date=1&x-amz-credential=sesame",
            "https://cdn/x?X-Amz-Signature=***&X-Amz-Date=1&x-amz-credential=***",
        ),
        ("https://host/x?token=sesame", "https://host/x?token=***"),
        # None of these is one.
        ("http://host/a@b", "http://host/a@b"),
        ("http://host/x?mail=a@b", "http://host/x?mail=a@b"),
        ("hf://timm/x@0123/model", "hf://timm/x@0123/model"),
        ("mail a@b about s3://bucket/x", "mail a@b about s3://bucket/x"),
        ("no address", "no address"),
    ],
)
def test_credentials_of_urls_are_hidden(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown


def test_a_line_stays_a_line() -> None:
    assert printable("a\nb\x1b[31m\u202e é") == "a\\nb\\x1b[31m\\u202e é"
