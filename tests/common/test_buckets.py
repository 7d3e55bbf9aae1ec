"""Tables and weights in a bucket are those of a local copy; what does not come whole is refused."""

# ruff: noqa: F811  # arguments named as the fixture

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.registry import _registry

import tiny
from google_storage import BUCKET, GoogleStorage, google_storage  # noqa: F401  # a fixture
from survey_jax.common.errors import UserError
from survey_jax.pretrained.open import open_pretrained
from survey_jax.survey.table import read_table, write_table


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies, in a cache of this test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "survey_jax"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose weights lie in a folder of their own, with what is not read beside them."""
    folder = tiny.write_model(tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    for name, content in {
        "notes.txt": b"as the tokenizer's files, by its name",
        "consolidated.json": b"{}",
        "additional_chat_templates/tools.jinja": b"{{ messages }}",
        "consolidated.safetensors": weights,
        "original/model.safetensors": weights,
        "pytorch_model.bin": b"a pickle",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


UNREAD = {"consolidated.safetensors", "original/model.safetensors", "pytorch_model.bin"}


def table(folder: Path, name: str = "rows.jsonl") -> Path:
    return tiny.write_rows(folder / name, tiny.rows())


def whole(copies: Path) -> list[Path]:
    return [path for path in copies.glob("*") if not path.name.startswith(".")] if copies.exists() else []


def test_weights_are_the_same_as_a_local_copy_and_come_once(
    google_storage: GoogleStorage,
    model: Path,
    copies: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = google_storage.upload(model, "weights/tiny")
    ours, theirs = open_pretrained(address), open_pretrained(str(model))
    assert capsys.readouterr().out.startswith(f"copying {address} to {ours.path}: ")
    assert ours.fingerprint("int8") == theirs.fingerprint("int8")
    assert ours.outline() == theirs.outline()
    assert ours.tokenizer_fingerprint() == theirs.tokenizer_fingerprint()
    assert ours.tokenizer()("Is it good? (")["input_ids"] == theirs.tokenizer()("Is it good? (")["input_ids"]
    assert ours.commit is None
    read = {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()} - UNREAD
    assert google_storage.sent == Counter(f"weights/tiny/{name}" for name in read)

    assert open_pretrained(address + "/").path.parent == open_pretrained(address).path.parent == copies
    assert set(google_storage.sent) == {f"weights/tiny/{name}" for name in read}
    assert google_storage.sent["weights/tiny/config.json"] == 2  # the other address is another copy
    assert len(whole(copies)) == 2


def test_a_changed_object_makes_another_copy(google_storage: GoogleStorage, tmp_path: Path) -> None:
    address = google_storage.upload(table(tmp_path), "rows.jsonl")
    before = read_table(address)
    assert before == read_table(tmp_path / "rows.jsonl") == read_table(address)
    assert google_storage.sent["rows.jsonl"] == 1
    google_storage.upload(tiny.write_rows(tmp_path / "other.jsonl", tiny.rows(seed=1)), "rows.jsonl")
    assert read_table(address) == read_table(tmp_path / "other.jsonl") != before
    assert google_storage.sent["rows.jsonl"] == 2


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl.gz"])
def test_tables_of_every_kind(google_storage: GoogleStorage, tmp_path: Path, name: str) -> None:
    rows = read_table(table(tmp_path))
    write_table(rows, tmp_path / name)
    assert read_table(google_storage.upload(tmp_path / name, f"a folder/{name}")) == rows


def test_a_bad_row_is_told_with_the_address(google_storage: GoogleStorage, tmp_path: Path) -> None:
    address = google_storage.upload(tiny.write_rows(tmp_path / "bad.jsonl", [{"survey": "x"}]), "bad.jsonl")
    with pytest.raises(UserError, match=f"^{address} row 1: "):
        read_table(address)


def test_a_copy_that_was_cut_off_is_taken_up(
    google_storage: GoogleStorage,
    model: Path,
    copies: Path,
) -> None:
    address = google_storage.upload(model, "tiny")
    google_storage.cut["tiny/model.safetensors"] = 1000
    size = len(google_storage.objects["tiny/model.safetensors"])
    with pytest.raises(UserError, match=rf"^{address}: model\.safetensors: 1,000 of {size:,} bytes came; run it again"):
        open_pretrained(address)
    assert whole(copies) == []
    google_storage.cut.clear()
    assert open_pretrained(address).fingerprint() == open_pretrained(str(model)).fingerprint()
    assert google_storage.sent["tiny/config.json"] == 1
    assert google_storage.sent["tiny/model.safetensors"] == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gs://bucket/gone.jsonl", "there is no such file or folder in the bucket, or no such bucket$"),
        ("gs://nowhere/rows.jsonl", "there is no such file or folder in the bucket, or no such bucket$"),
        ("gs://bucket/forbidden.jsonl", "cannot be fetched .*does not have storage.objects.get access"),
        ("gs://bucket/damaged.jsonl", r"damaged.jsonl: what came is damaged \(its checksum is another\); run it again"),
        ("gs://bucket/folder.jsonl", "is a folder; give a file"),
        ("gs://.jsonl", "cannot be fetched|no such bucket"),
        ("az://bucket/rows.jsonl", "must be gs://BUCKET/NAME, s3://BUCKET/NAME or a local path"),
        ("gs://bucket/rows.csv", "not a survey table, but results in long form"),
    ],
)
def test_tables_that_cannot_be_read(
    google_storage: GoogleStorage,
    tmp_path: Path,
    copies: Path,
    name: str,
    said: str,
) -> None:
    for other in ("forbidden.jsonl", "damaged.jsonl", "folder.jsonl/rows.jsonl"):
        google_storage.upload(table(tmp_path), other)
    google_storage.forbidden.add("forbidden.jsonl")
    google_storage.damaged.add("damaged.jsonl")
    with pytest.raises(UserError, match=f"^{name}: .*{said}") as caught:
        read_table(name)
    assert "\n" not in str(caught.value)
    assert whole(copies) == []


def test_weights_that_cannot_be_read(google_storage: GoogleStorage, model: Path, copies: Path) -> None:
    """Found out before anything is copied."""
    address = google_storage.upload(model, "models/tiny")
    google_storage.objects["odd/config.json"] = google_storage.objects["odd/../../x.json"] = b"{}"
    for wrong, said in {
        f"gs://{BUCKET}/models": "has no config.json in it, of .* files; check the address",
        f"gs://{BUCKET}/empty": "there is no such file or folder in the bucket",
        f"gs://{BUCKET}/model.gguf": "there is no such file or folder in the bucket",
        f"{address}/config.json": "has no config.json in it, of 1 file; check the address",
        f"gs://{BUCKET}/odd": "its name leads out of its folder",
        "gs://": "must be gs://BUCKET/NAME, s3://BUCKET/NAME or a local path",
    }.items():
        with pytest.raises(UserError, match=said):
            open_pretrained(wrong)
    assert not google_storage.sent
    assert not copies.exists()


@pytest.mark.parametrize(("scheme", "package", "extra"), [("gs", "gcsfs", "gcs"), ("s3", "s3fs", "s3")])
def test_without_its_package(scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"^{scheme}://b/t.jsonl: needs {package}: pip install survey_jax\[{extra}\]$"):
        read_table(f"{scheme}://b/t.jsonl")


# --- Amazon's


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The s3fs of a bucket, `bucket`, of an emulated S3."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    store.makedirs("bucket", exist_ok=True)
    yield store
    server.stop()


def test_weights_and_tables_in_s3(amazon: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    amazon.put(str(model), "bucket/tiny", recursive=True)
    ours, theirs = open_pretrained("s3://bucket/tiny"), open_pretrained(str(model))
    assert (ours.fingerprint(), ours.outline()) == (theirs.fingerprint(), theirs.outline())
    assert ours.tokenizer_fingerprint() == theirs.tokenizer_fingerprint()
    assert not any((ours.path / name).exists() for name in UNREAD)
    amazon.put(str(table(tmp_path)), "bucket/rows.jsonl")
    assert read_table("s3://bucket/rows.jsonl") == read_table(tmp_path / "rows.jsonl")
    for address in ("s3://bucket/gone.jsonl", "s3://nowhere/rows.jsonl"):
        with pytest.raises(UserError, match=f"^{address}: there is no such file or folder in the bucket"):
            read_table(address)
    with pytest.raises(UserError, match=r"^s3://bucket/gone: there is no such file or folder in the bucket"):
        open_pretrained("s3://bucket/gone")


def test_an_etag_is_a_checksum_unless_the_object_is_encrypted_with_an_own_key(
    amazon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes is not what the ETag is of: damaged on its way, or encrypted, where it never is."""
    file = table(tmp_path)
    for name, options in {"plain": {}, "encrypted": {"ServerSideEncryption": "aws:kms"}}.items():
        amazon.pipe_file(f"bucket/{name}.jsonl", file.read_bytes().replace(b"Kenya", b"KENYA"), **options)
    monkeypatch.setattr(type(amazon), "get_file", lambda _self, _path, target: shutil.copy(file, target))
    with pytest.raises(UserError, match=r"plain\.jsonl: what came is damaged"):
        read_table("s3://bucket/plain.jsonl")
    assert read_table("s3://bucket/encrypted.jsonl") == read_table(file)
