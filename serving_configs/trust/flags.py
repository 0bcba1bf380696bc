"""The flags of the commands that sign and check versions."""

import argparse

from signatures.addresses import disk_path


def add_sign_with(
    parser: "argparse.ArgumentParser | argparse._ArgumentGroup", required: bool = False
) -> None:
    """Adds `--sign_with`, a path or None."""
    parser.add_argument(
        "--sign_with",
        metavar="KEY",
        type=disk_path,
        required=required,
        help="private key in PEM, of the curve P-256, P-384 or P-521; the passphrase of an "
        "encrypted one is in CAIT_SIGNING_PASSPHRASE "
        + ("(needed)" if required else "(default: versions are not signed)"),
    )


def add_public_key(parser: argparse.ArgumentParser, otherwise: str) -> None:
    """Adds `--public_key`, a list of paths.

    Args:
        parser: of the command.
        otherwise: what the command does where no such key has signed.
    """
    parser.add_argument(
        "--public_key",
        metavar="FILE",
        type=disk_path,
        action="append",
        default=[],
        help=f"{otherwise} that none of the public keys in this PEM file has signed; may be "
        "repeated (default: signatures are not checked)",
    )
