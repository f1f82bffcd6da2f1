"""Artifacts on disk: the same content is the same digest, and no tar gets out of its folder."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from lull.api.reasons import Reason
from lull_runtime.artifact import ModelError
from lull_runtime.artifact.pack import pack_repository
from lull_runtime.artifact.tar import Bounds, digest_of, unpack, write_tar


def tar_of(path: Path, *members: tarfile.TarInfo, content: bytes = b"x", **options) -> Path:
    with tarfile.open(path, options.get("mode", "w")) as archive:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def file(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def refused(tmp_path: Path, archive: Path, bounds: Bounds | None = None) -> ModelError:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ModelError) as caught:
        unpack(archive, into, bounds or Bounds())
    return caught.value


def test_the_digest_depends_on_names_and_contents_alone(tmp_path: Path):
    one, two = io.BytesIO(), io.BytesIO()
    path = tmp_path / "a"
    path.write_bytes(b"a")
    first = write_tar(one, {"b": b"b", "a": b"a"})
    os.utime(path, (1, 1))
    path.chmod(0o600)
    second = write_tar(two, {"a": path, "b": b"b"})
    assert first == second
    assert one.getvalue() == two.getvalue()


def test_a_folder_has_the_digest_of_its_tar(tmp_path: Path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").write_text("x")
    (tmp_path / "m" / "1" / ("long-" * 30)).write_text("y")
    out = tmp_path / "m.tar"
    assert digest_of(tmp_path / "m") == pack_repository(out, tmp_path / "m") == digest_of(out)


def test_what_was_packed_is_what_is_unpacked(tmp_path: Path):
    with (tmp_path / "t").open("wb") as out:
        write_tar(out, {"1/model.onnx": b"network", "config.pbtxt": b"config"})
    unpack(tmp_path / "t", tmp_path, Bounds())
    assert (tmp_path / "1" / "model.onnx").read_bytes() == b"network"


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "a\\..\\out", "a\nb", "n" * 300])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str):
    error = refused(tmp_path, tar_of(tmp_path / "t", file(name)))
    assert error.reason is Reason.NOT_A_MODEL
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes):
    assert "link" in refused(tmp_path, tar_of(tmp_path / "t", special("l", kind))).message


def test_nothing_is_written_through_a_link_that_came_before(tmp_path: Path):
    archive = tar_of(tmp_path / "t", special("d", tarfile.SYMTYPE, str(tmp_path)), file("d/out"))
    refused(tmp_path, archive)
    assert not (tmp_path / "out").exists()


def test_a_name_that_comes_twice_is_refused(tmp_path: Path):
    assert "twice" in refused(tmp_path, tar_of(tmp_path / "t", file("a"), file("./a"))).message


def test_a_name_that_is_a_file_and_a_folder_is_refused(tmp_path: Path):
    assert "folder" in refused(tmp_path, tar_of(tmp_path / "t", file("a"), file("a/b"))).message


def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path):
    refused(tmp_path, tar_of(tmp_path / "t", file("é" * 128)))


def test_too_many_files_are_refused(tmp_path: Path):
    archive = tar_of(tmp_path / "t", *(file(str(i)) for i in range(11)))
    assert "10 files" in refused(tmp_path, archive, Bounds(files=10)).message


def test_a_negative_size_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "t", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"size": "-1"}
        archive.addfile(member, io.BytesIO())
    refused(tmp_path, tmp_path / "t")


def test_too_many_bytes_are_refused(tmp_path: Path):
    archive = tar_of(tmp_path / "t", file("a"), content=b"x" * 2000)
    assert refused(tmp_path, archive, Bounds(total_bytes=1000)).reason is Reason.TOO_LARGE


def test_a_compressed_tar_is_refused(tmp_path: Path):
    assert "compressed" in refused(tmp_path, tar_of(tmp_path / "t", file("a"), mode="w:gz")).message


def test_a_cut_off_tar_is_refused(tmp_path: Path):
    archive = tar_of(tmp_path / "t", file("a"), content=b"x" * 5000)
    archive.write_bytes(archive.read_bytes()[:3000])
    refused(tmp_path, archive)


def test_a_header_that_claims_a_huge_name_is_not_read_into_memory(tmp_path: Path):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    (tmp_path / "t").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    assert "header" in refused(tmp_path, tmp_path / "t").message


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_chain_of_headers_that_speak_of_the_next_is_refused(tmp_path: Path, kind: bytes):
    member = tarfile.TarInfo("a")
    member.type, member.size = kind, 10
    one = member.tobuf(tarfile.USTAR_FORMAT) + b"10 path=a\n".ljust(512, b"\0")
    (tmp_path / "t").write_bytes(one * 3000 + tarfile.TarInfo("b").tobuf() + bytes(1024))
    assert refused(tmp_path, tmp_path / "t").reason is Reason.NOT_A_MODEL


def test_a_folder_with_a_link_is_no_model(tmp_path: Path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "l").symlink_to("/etc/passwd")
    with pytest.raises(ModelError):
        digest_of(tmp_path / "m")
