"""Dead letters driven again: which of them, each once, and none that comes of it."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from capistream.again import FAILURES, Sender, failed, read_to_end
from capistream.letters import Letter, Place, Wanted, missing, read_letters
from runtime.clock import Clock
from runtime.lifecycle import Shutdown
from runtime.settings import Settings
from schemas.record import Record
from schemas.topics import DEAD_LETTERS


@dataclass(slots=True)
class Survey:
    """What has to be known of all letters before the first of them is driven again."""

    found: set[Place] = field(default_factory=set)
    """Which of the wanted places hold a letter."""
    _last: dict[int, int] = field(default_factory=dict)
    _newest: dict[str, Place] = field(default_factory=dict)

    def add(self, letters: Iterable[Letter], wanted: Wanted) -> None:
        """Take in letters, in the order of their partitions."""
        for letter in letters:
            partition, offset = letter.place
            self._last[partition] = offset
            if letter.place in wanted.places:
                self.found.add(letter.place)
            if letter.follows is not None:
                self._newest[letter.follows] = letter.place

    def covers(self, letter: Letter) -> bool:
        """Whether it was there. What lies behind may come of the replay that is under way."""
        partition, offset = letter.place
        return offset <= self._last.get(partition, -1)

    def is_newest(self, letter: Letter) -> bool:
        """Whether there is no letter of the same that was driven again since."""
        return self._newest.get(letter.name, letter.place) == letter.place


@dataclass(slots=True)
class Picker:
    """Picks the letters of a replay out of what is read. Pure, but for its counts."""

    wanted: Wanted
    replay_id: str
    survey: Survey = field(default_factory=Survey)
    scanned: int = 0
    replayed: int = 0
    repeats: int = 0
    """Those of which there is a newer letter, which goes in their place."""
    skipped: int = 0
    """Those that cannot be driven again."""
    reasons: Counter[str] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)

    @property
    def found(self) -> int:
        """How many were picked."""
        return self.topics.total()

    def pick(self, letters: Iterable[Letter]) -> Iterator[Record]:
        """What is to be produced for these."""
        for letter in letters:
            self.scanned += 1
            if not (self.survey.covers(letter) and self.wanted.fits(letter)):
                continue
            record = letter.again(self.replay_id)
            if record is None:
                self.skipped += 1
            elif not self.survey.is_newest(letter):
                self.repeats += 1
            else:
                self.reasons[letter.dead.reason.value] += 1
                self.topics[record.topic] += 1
                yield record

    def summary(self, *, stopped: bool) -> dict[str, object]:
        """What a person, or a script, is told in the end."""
        return {
            "replayId": self.replay_id,
            "found": self.found,
            "replayed": self.replayed,
            "repeats": self.repeats,
            "skipped": self.skipped,
            "reasons": dict(self.reasons),
            "topics": dict(self.topics),
            "stopped": stopped,
        }


async def all_letters(
    settings: Settings, shutdown: Shutdown, wanted: Wanted
) -> AsyncGenerator[list[Letter], None]:
    """Lots of what lies on ``dead-letters``, wherever there may be some of the wanted; as
    ``read_to_end``, which says what it raises and how to leave it early."""
    reading = read_to_end(
        settings,
        DEAD_LETTERS,
        shutdown,
        from_ms=wanted.from_ms or 0,
        partitions={partition for partition, _ in wanted.places},
    )
    async with aclosing(reading) as lots:
        async for records in lots:
            yield list(read_letters(records, settings.kafka.topic_prefix))


async def run_letter_replay(
    settings: Settings,
    picker: Picker,
    shutdown: Shutdown,
    clock: Clock,
    *,
    per_second: int,
    dry_run: bool,
    tell: Callable[[Picker], None],
) -> None:
    """Read ``dead-letters`` to its end, then once more up to there, and put what ``picker`` picks
    where it goes, at most ``per_second`` events, until done or a shutdown is asked for.

    Raises ``CapistreamError`` when a letter is asked for that is not there, ``UnavailableError``
    when Kafka does not answer; what was replayed until then stays so.
    """
    sender = Sender(settings, clock, shutdown, per_second)
    try:
        await _look_around(settings, picker, shutdown)
        async with aclosing(all_letters(settings, shutdown, picker.wanted)) as lots:
            async for letters in lots:
                picked = list(picker.pick(letters))
                if not dry_run:
                    async for count in sender.send(picked):
                        picker.replayed += count
                        tell(picker)
                tell(picker)
    except FAILURES as error:
        raise failed(error, picker.replayed, picker.replay_id) from None


async def _look_around(settings: Settings, picker: Picker, shutdown: Shutdown) -> None:
    survey, wanted = picker.survey, picker.wanted
    async with aclosing(all_letters(settings, shutdown, wanted)) as lots:
        async for letters in lots:
            survey.add(letters, wanted)
    if survey.found != wanted.places and not shutdown.is_asked:
        raise missing(wanted.places - survey.found)
