"""Names and passwords for stores: files of a pool's Secret, or those that a user's other tools keep."""

import base64
import binascii
import configparser
import json
import netrc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError

REGISTRIES, AWS, NETRC, HUGGING_FACE = ".dockerconfigjson", "aws", "netrc", "hf-token"
_MOST_BYTES = 1 << 20
"""As large as a Secret may be."""


@dataclass(frozen=True, repr=False)
class Login:
    """A name and a password for one host."""

    user: str
    password: str

    def basic(self) -> str:
        """Return the value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Credentials:
    """What a pool, or a user, shows to stores. Files are read when they are asked for: they may be renewed.

    Attributes:
        files: path of each kind's file (`.dockerconfigjson`, `aws`, `netrc`, `hf-token`), there or not.
    """

    files: Mapping[str, Path]

    @classmethod
    def in_folder(cls, folder: Path | None) -> "Credentials":
        """Those of a mounted Secret; none without a folder."""
        names = (REGISTRIES, AWS, NETRC, HUGGING_FACE) if folder else ()
        return cls({name: (folder or Path()) / name for name in names})

    @classmethod
    def of_user(cls) -> "Credentials":
        """Those that docker, aws, curl and huggingface-cli keep in the user's home."""
        home = Path.home()
        return cls(
            {
                REGISTRIES: home / ".docker" / "config.json",
                AWS: home / ".aws" / "credentials",
                NETRC: home / ".netrc",
                HUGGING_FACE: home / ".cache" / "huggingface" / "token",
            }
        )

    def registry(self, host: str) -> Login | None:
        """For a registry (`host` or `host:port`), as docker keeps them.

        Raises:
            ModelError: Unauthorized: the file is not what it should be.
        """
        text = self._read(REGISTRIES)
        if text is None:
            return None
        try:
            found = {_host_of(name): entry for name, entry in (json.loads(text).get("auths") or {}).items()}
            return _login(found[host]) if host in found else None
        except (ValueError, AttributeError, TypeError, KeyError):
            raise _unreadable(REGISTRIES, "as `docker login` writes it, the password in it") from None

    def machine(self, host: str) -> Login | None:
        """For a web server that the netrc file names; its `default`, which is for everybody, is for nobody.

        Raises:
            ModelError: Unauthorized: the file is not what it should be.
        """
        try:
            path = self.files[NETRC]
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("larger than a Secret may be")
            found = netrc.netrc(str(path)).hosts.get(host)
        except (KeyError, FileNotFoundError):
            return None
        except (netrc.NetrcParseError, ValueError, OSError):
            raise _unreadable(NETRC, "machine HOST login USER password PASSWORD") from None
        return Login(found[0], found[2] or "") if found else None

    def aws(self) -> Mapping[str, str]:
        """The profile `default` of the file `aws`: keys, and `region` and `endpoint_url` where it has them.

        Raises:
            ModelError: Unauthorized: there is none, or it is not what it should be.
        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(self._read(AWS) or "")
            profile = dict(parser["default"])
            _ = profile["aws_access_key_id"], profile["aws_secret_access_key"]
        except (configparser.Error, KeyError):
            wanted = "[default] with aws_access_key_id, aws_secret_access_key and, but for AWS, endpoint_url"
            raise _unreadable(AWS, wanted) from None
        return profile

    def hugging_face(self) -> str | None:
        """The token for Hugging Face, if there is one."""
        return (self._read(HUGGING_FACE) or "").strip() or None

    def _read(self, name: str) -> str | None:
        try:
            with self.files[name].open("rb") as file:
                return file.read(_MOST_BYTES).decode()
        except (KeyError, FileNotFoundError):
            return None
        except (OSError, UnicodeDecodeError):
            raise _unreadable(name, "a text that the agent may read") from None


def _host_of(name: str) -> str:
    """The host of a registry, which docker may have kept as a URL."""
    return urlsplit(name if "://" in name else f"//{name}").netloc


def _login(entry: Mapping[str, str]) -> Login:
    if "auth" in entry:
        try:
            user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("auth is no Base64") from error
        return Login(user, password)
    return Login(entry["username"], entry["password"])


def _unreadable(name: str, wanted: str) -> ModelError:
    # What is in it, which errors quote, stays out of the message and its cause: it is a secret.
    return ModelError(
        Reason.UNAUTHORIZED,
        f"`{name}` of the pool's credentials is missing or malformed; it should be: {wanted}",
    )
