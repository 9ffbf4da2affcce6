"""What is done so that Kafka has what the database says."""

from hypothesis import given
from hypothesis import strategies as st

from manage.reconcile import Difference, compare

IDS = st.sampled_from([f"dom_{number}" for number in range(6)])
REVISIONS = st.dictionaries(IDS, st.integers(1, 4))


def test_what_is_missing_or_older_is_published() -> None:
    known = {"dom_new": 1, "dom_changed": 3, "dom_same": 2}
    on_topic = {"dom_changed": 2, "dom_same": 2}
    assert compare(known, [], on_topic) == Difference(publish=("dom_changed", "dom_new"))


def test_only_what_is_known_as_deleted_is_removed() -> None:
    found = compare({}, {"dom_deleted", "dom_gone_long_ago"}, {"dom_deleted": 7, "dom_strange": 1})
    assert found == Difference(remove=("dom_deleted",), unknown=("dom_strange",))


def test_a_later_one_on_the_topic_is_left_alone() -> None:
    assert compare({"dom": 2}, [], {"dom": 3}) == Difference(newer=("dom",))


@given(REVISIONS, st.sets(IDS), REVISIONS)
def test_done_once_nothing_is_left_to_do(
    known: dict[str, int], deleted: set[str], on_topic: dict[str, int]
) -> None:
    deleted -= known.keys()
    found = compare(known, deleted, on_topic)
    after = on_topic | {one: known[one] for one in found.publish}
    for one in found.remove:
        del after[one]
    again = compare(known, deleted, after)
    assert again == Difference(unknown=found.unknown, newer=found.newer)
    assert all(after[one] >= revision for one, revision in known.items())
    assert after.keys() == known.keys() | set(found.unknown)
