"""Files of a folder change together or not at all; what cannot be written is found out before work."""

import os
from pathlib import Path

import pytest
from etils import epath

from object_store import ObjectStore, object_store  # noqa: F401  # a fixture
from survey_jax.common.errors import UserError
from survey_jax.common.files import atomic_write, check_file, check_folder, new_folder, open_workdir, replaced_folder

OLD = {"metrics.json": "old", "report.html": "old", "note.txt": "mine"}
NEW = {"metrics.json": "new", "report.html": "new", "figures/a.svg": "new"}


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def found(folder: epath.Path | Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in {*OLD, *NEW} if (folder / name).exists()}


def test_all_files_are_replaced_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    for written in ({}, OLD):
        fill(folder, written)
        before = found(folder)
        with replaced_folder(epath.Path(folder)) as made:
            fill(made, NEW)
            assert found(folder) == before
        assert found(folder) == {**written, **NEW}
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_two_that_write_one_folder_do_not_meet(tmp_path: Path) -> None:
    output, partial = tmp_path / "made", tmp_path / ".partial-made"
    fill(partial, {"note.txt": "left by one that was killed"})
    with new_folder(output, "--output") as folder:
        assert not list(folder.iterdir())
        fill(folder, {"metrics.json": "new"})
        with pytest.raises(UserError, match=r"^--output=.*: another process is writing it"):  # noqa: SIM117
            with new_folder(output, "--output"):
                pass
        assert found(folder) == {"metrics.json": "new"}
    assert found(output) == {"metrics.json": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_none_is_replaced_where_one_cannot_be_made(tmp_path: Path, error: BaseException) -> None:
    folder = tmp_path / "results"
    fill(folder, OLD)

    def fail(made: Path) -> None:
        fill(made, {"metrics.json": "new"})
        raise error

    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), replaced_folder(epath.Path(folder)) as made:
        fail(made)
    assert found(folder) == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    fill(tmp_path / ".old-results", OLD)
    with replaced_folder(epath.Path(tmp_path / "results")) as made:
        assert found(tmp_path / "results") == OLD
        fill(made, NEW)
    assert found(tmp_path / "results") == {**OLD, **NEW}


def test_in_an_object_store(object_store: type[ObjectStore]) -> None:  # noqa: F811
    folder = epath.Path("gs://bucket/run/eval/last")
    with replaced_folder(folder) as made:
        fill(made, NEW)
        assert not found(folder)
    assert found(folder) == NEW


def test_two_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with atomic_write(file) as one, atomic_write(file) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


def unusable(folder: Path) -> dict[str, Path]:
    (folder / "file").touch()
    (folder / "link").symlink_to(folder / "nowhere" / "at all")
    return {"in a file": folder / "file" / "x", "too long": folder / ("x" * 300), "read-only": Path("/proc/x")}


@pytest.mark.parametrize("name", ["in a file", "too long", "read-only", "a file", "a dangling link"])
def test_a_folder_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    places = unusable(tmp_path) | {"a file": tmp_path / "file", "a dangling link": tmp_path / "link"}
    with pytest.raises(UserError, match=rf"^--output={places[name]}: cannot be used \(.+\)$"):
        check_folder(epath.Path(places[name]), "--output")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}
    check_folder(epath.Path(tmp_path / "a" / "b"), "--output")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["in a file", "too long", "read-only", "in no folder", "a folder", "a fifo", "empty"])
def test_a_file_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    places = unusable(tmp_path) | {"in no folder": tmp_path / "no" / "x", "a folder": tmp_path}
    place = "" if name == "empty" else str(places.get(name, tmp_path / "fifo"))
    with pytest.raises(UserError, match=rf"^--output={place}: "):
        check_file(place, "--output")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "fifo"}
    check_file(str(tmp_path / "file"), "--output")
    check_file(str(tmp_path / "new"), "--output")
    assert not (tmp_path / "new").exists()


def test_an_empty_workdir_is_not_the_default() -> None:
    with pytest.raises(UserError, match="--workdir is empty"):
        open_workdir("")
    assert str(open_workdir("~/run")) == str(Path("~/run").expanduser())
