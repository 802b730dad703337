"""Outputs are refused before any work is done, and never for an input's life."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import HedgeError, OutputError
from runtime.outputs.checks import check_outputs
from runtime.outputs.json_files import write_report


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    check_outputs([tmp_path / "a" / "b" / "c.json"], tmp_path / "d" / "e", [], False)
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "d" / "e").is_dir()


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink"])
@pytest.mark.parametrize("force", [False, True])
def test_an_input_is_never_overwritten(link: str, force: bool, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"precious")
    output = source if link == "same" else tmp_path / "b.mp4"
    if link == "symlink":
        output.symlink_to(source)
    elif link == "hardlink":
        output.hardlink_to(source)
    with pytest.raises(HedgeError, match="an input as well") as caught:
        check_outputs([output], None, [source], force)
    assert caught.value.exit_code == 2
    assert source.read_bytes() == b"precious"


def test_labels_are_not_saved_among_the_inputs(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    with pytest.raises(HedgeError, match="holds inputs"):
        check_outputs([], tmp_path, [image], True)


def test_what_exists_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("old")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.png").write_text("old")
    for outputs, folder in (([tmp_path / "r.json"], None), ([], tmp_path / "labels")):
        with pytest.raises(OutputError, match="--force"):
            check_outputs(outputs, folder, [], False)
        check_outputs(outputs, folder, [], True)


@pytest.mark.parametrize("name", ["a\0b.json", "\ud800.json"])
def test_a_name_that_no_file_can_have_is_one_error(name: str, tmp_path: Path) -> None:
    for outputs, folder in (([tmp_path / name], None), ([], tmp_path / name)):
        with pytest.raises(HedgeError, match="no file can have this name") as caught:
            check_outputs(outputs, folder, [], True)
        assert str(caught.value).isascii() and "\0" not in str(caught.value)


@pytest.mark.parametrize("place", ["a file/x.json", "folder", "/proc/x.json"])
def test_places_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError) as caught:
        check_outputs([tmp_path / place], None, [], True)
        write_report(tmp_path / place, {})  # root may write anywhere: then the system says no
    assert caught.value.exit_code == 5


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="two outputs"):
        check_outputs([tmp_path / "a", tmp_path / "b" / ".." / "a"], None, [], True)


def test_what_lies_in_a_folder_that_is_read_is_an_input(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "labels").mkdir(parents=True)
    classes = data / "classes.json"
    classes.write_text("{}")
    (data / "labels" / "a.png").write_text("x")
    with pytest.raises(HedgeError, match=r"classes\.json: is an input as well"):
        check_outputs([classes], None, [data], True)
    with pytest.raises(HedgeError, match="labels: holds inputs"):
        check_outputs([], data / "labels", [data], True)
    check_outputs([data / "report.json"], None, [data], False)
    check_outputs([Path("/dev/null")], None, [data], False)
