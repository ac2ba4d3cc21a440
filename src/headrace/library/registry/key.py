"""The key in whose name a registry is asked: ed25519, in OpenSSH's form, as Ollama keeps its own."""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from headrace.errors import FileInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LARGEST_KEY: Final = 16 << 10  # bytes of its file


class Key:
    """A private key in a file that nobody else may read, made when it is first needed; the public half lies beside it.

    Methods raise FileInvalid where the file is damaged or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def public_path(self) -> Path:
        """What is added to an account: one line of text."""
        return self.path.with_name(f"{self.path.name}.pub")

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def sign(self, data: bytes) -> str:
        """The public half and the signature of `data`, each in base64, with a colon between them."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        private = self._private()
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        with suppress(OSError):  # for people to copy: the signature does not need it
            if not self.public_path.exists():
                self.public_path.write_bytes(line + b"\n")
        return f"{line.split()[1].decode()}:{base64.b64encode(private.sign(data)).decode()}"

    def _private(self) -> Ed25519PrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        try:
            if not self.exists:
                self._make()
            with self.path.open("rb") as file:
                found = load_ssh_private_key(file.read(LARGEST_KEY), None)
        except OSError as error:
            raise FileInvalid(self.path, f"the key cannot be read or made: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            found = None
        if not isinstance(found, Ed25519PrivateKey):
            raise FileInvalid(self.path, "this is no ed25519 key without a passphrase: move it away, and one is made")
        return found

    def _make(self) -> None:
        """Whoever comes first: a key that another made at the same time stays."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{token_hex(8)}")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                self.path.hardlink_to(part)
        finally:
            part.unlink(missing_ok=True)
