"""Signs models and tells whose signature one bears, with the OpenSSF's `model-signing`.

The signature is a member of its own, `model.sig`, over all others. Imports of `model_signing` are late: they
take seconds and 29 MiB, which a pool that asks for no signatures never spends.
"""

import base64
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.format import CARD, SIGNATURE, check_digests, read_artifact
from lull_runtime.artifact.tar import tree
from lull_runtime.artifact.trust import Signer

_SIGNATURE_BYTES = 1 << 22
"""A signature lists each file in some 200 bytes; a tar holds 10,000 files at most."""


def sign(folder: Path, key: Path) -> None:
    """Sign all files of a folder: write its `model.sig`, which the next digest of the folder includes.

    Args:
        folder: an artifact or a Triton model directory.
        key: private key of an elliptic curve (P-256, P-384 or P-521) as PEM, without a password.

    Raises:
        ValueError: the key is none of these.
        ModelError: nobody would take the artifact, it holds other files than its card says, or there is a
            link or a device in the folder.
    """
    from model_signing import signing

    if CARD in tree(folder):
        check_digests(folder, read_artifact(folder).card)
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{key} is no private key that can sign ({error}); make one without a password: "
            "openssl ecparam -name prime256v1 -genkey -noout -out signing.key"
        ) from error
    signer.set_hashing_config(_hashing(folder)).sign(folder, folder / SIGNATURE)


def verify(folder: Path, signers: Sequence[Signer]) -> str:
    """Return the name of the first of these signers who signed all files of a folder.

    Raises:
        ModelError: Unsigned, or WronglySigned: by none of them, not whole, or not what was signed.
        OSError: it cannot be told now, as a disk is full or does not read.
    """
    signature = folder / SIGNATURE
    names = " or ".join(signer.name for signer in signers) or "nobody"
    if not signature.is_file() or signature.is_symlink():
        raise ModelError(
            Reason.UNSIGNED,
            f"it bears no signature and must be signed by {names}: `lull publish --sign KEY`",
        )
    if signature.stat().st_size > _SIGNATURE_BYTES:
        raise ModelError(Reason.WRONGLY_SIGNED, f"its {SIGNATURE} is larger than {_SIGNATURE_BYTES} bytes")
    why = ""
    for signer in signers:
        try:
            _verify(folder, signer)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a hostile signature makes the library raise
            why = f"{type(error).__name__}: {error}"[:300]
        else:
            return signer.name
    raise ModelError(
        Reason.WRONGLY_SIGNED,
        f"it is not, as it is here, what {names} signed ({why or 'no signer is known'})",
    )


def _verify(folder: Path, signer: Signer) -> None:
    from model_signing import verifying

    with tempfile.NamedTemporaryFile("w", suffix=".pub") as key:
        key.write(signer.public_key)
        key.flush()
        config = verifying.Config().use_elliptic_key_verifier(public_key=key.name)
        config.set_hashing_config(_hashing(folder)).verify(folder, folder / SIGNATURE)
    # A signature may itself name files to leave out: such a one vouches for nothing.
    if unsigned := tree(folder).keys() - {SIGNATURE} - _signed(folder / SIGNATURE):
        raise ValueError(f"the signature leaves out {min(unsigned)}")


def _signed(signature: Path) -> set[str]:
    """The files that a verified signature is over."""
    bundle = json.loads(signature.read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    return {resource["name"] for resource in statement["predicate"]["resources"]}


def _hashing(folder: Path) -> Any:  # noqa: ANN401  a type of model_signing
    """All files but the signature. By its defaults model-signing would leave `.git…` out too."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)
