"""A name that one process has at a time."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from runtime.errors import UnavailableError
from runtime.slot import Slot

HOLD = """
import sys
from pathlib import Path
from runtime.slot import Slot
slot = Slot(Path(sys.argv[1]), "sinks")
print(slot.name, flush=True)
sys.stdin.read()
"""


Take = Callable[[Path, str], Slot]


@pytest.fixture
def take() -> Iterator[Take]:
    """Takes a place, which is given back when the test ends."""
    slots: list[Slot] = []

    def take_one(directory: Path, process: str) -> Slot:
        slots.append(Slot(directory, process))
        return slots[-1]

    yield take_one
    for slot in slots:
        slot.release()


def holder(directory: Path) -> "subprocess.Popen[str]":
    """A process that holds a place until it is told to end, or killed."""
    command = [sys.executable, "-c", HOLD, str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_of_one_directory_have_places_of_their_own(tmp_path: Path, take: Take) -> None:
    slots = [take(tmp_path / "data", "sinks") for _ in range(3)]
    names = [slot.name for slot in slots]
    assert len(set(names)) == 3
    node = names[0].removeprefix("sinks-").removesuffix("-0")
    assert names == [f"sinks-{node}-{number}" for number in range(3)]
    slots[1].release()
    assert take(tmp_path / "data", "sinks").name == names[1]


def test_each_kind_of_process_counts_by_itself(tmp_path: Path, take: Take) -> None:
    sinks, streams = take(tmp_path, "sinks"), take(tmp_path, "streams")
    assert sinks.name.removeprefix("sinks") == streams.name.removeprefix("streams")


def test_no_two_directories_share_a_name(tmp_path: Path, take: Take) -> None:
    slots = [take(tmp_path / str(number), "sinks") for number in range(5)]
    assert len({slot.name for slot in slots}) == 5


def test_the_process_after_one_that_was_killed_has_its_name(tmp_path: Path, take: Take) -> None:
    first = holder(tmp_path)
    assert first.stdout is not None
    name = first.stdout.readline().strip()
    beside = take(tmp_path, "sinks")
    assert beside.name == name.removesuffix("-0") + "-1"
    first.kill()
    first.communicate()
    assert take(tmp_path, "sinks").name == name


def test_processes_that_start_together_agree_on_the_directory(tmp_path: Path, take: Take) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number in range(30):
            directory, together = tmp_path / str(number), Barrier(4)

            def start(directory: Path = directory, together: Barrier = together) -> str:
                together.wait(5)
                return take(directory, "sinks").name

            names = [future.result() for future in [pool.submit(start) for _ in range(4)]]
            assert len(set(names)) == 4
            assert len({name.rpartition("-")[0] for name in names}) == 1


def test_a_directory_whose_name_was_never_written_gets_one(tmp_path: Path, take: Take) -> None:
    (tmp_path / "identity").touch()
    name = take(tmp_path, "sinks").name
    assert (tmp_path / "identity").read_text() in name
    assert len(name) > len("sinks--0")


def test_where_there_is_no_place_left_it_is_said(tmp_path: Path, take: Take) -> None:
    slots = [take(tmp_path, "sinks") for _ in range(64)]
    with pytest.raises(UnavailableError, match="64 sinks processes run"):
        take(tmp_path, "sinks")
    slots[17].release()
    assert take(tmp_path, "sinks").name == slots[17].name


def test_the_directory_is_for_its_owner(tmp_path: Path, take: Take) -> None:
    take(tmp_path / "data", "sinks").release()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
