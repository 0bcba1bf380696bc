"""Certificates for tests of TLS, as files."""

import pathlib

import trustme

from serving.client.channels import Tls


class Pki:
    """An authority, a stranger, and certificates of both, as files."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.files: dict[str, pathlib.Path] = {}
        for name in ("authority", "stranger"):
            authority = trustme.CA()
            self._write(f"{name}_ca", authority.cert_pem)
            for role, identity in (("server", "localhost"), ("client", "client@example.org")):
                issued = authority.issue_cert(identity)
                self._write(f"{name}_{role}_cert", issued.cert_chain_pems[0])
                self._write(f"{name}_{role}_key", issued.private_key_pem)

    def _write(self, name: str, blob: trustme.Blob) -> None:
        self.files[name] = self.root / f"{name}.pem"
        blob.write_to_path(str(self.files[name]))

    def text(self, name: str) -> str:
        return self.files[name].read_text()

    def config(self, name: str, **fields: str | bool) -> str:
        """An `SSLConfig` of the authority's server, with these fields in place of its own."""
        fields = {
            "server_key": self.text("authority_server_key"),
            "server_cert": self.text("authority_server_cert"),
            **fields,
        }
        path = self.root / name
        path.write_text(
            "".join(
                f"{field}: {str(value).lower()}\n"
                if isinstance(value, bool)
                else f'{field}: "{value.encode("unicode_escape").decode()}"\n'
                for field, value in fields.items()
            )
        )
        return str(path)

    def tls(self, ca: str = "authority", client: str = "") -> Tls:
        return Tls(
            self.files[f"{ca}_ca"],
            self.files[f"{client}_client_cert"] if client else None,
            self.files[f"{client}_client_key"] if client else None,
        )
