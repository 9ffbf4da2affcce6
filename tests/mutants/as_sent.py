"""What is passed through as a sender wrote it, in the platform's own words."""

from typing import Final

from tests.mutants.mutant import BLOCKS, OWN_WORDS, Mutant

PASSED_THROUGH: Final = (
    Mutant(
        "a default overrules the sender",
        "blocks.py",
        "payload = {**block, **left_out}",
        "payload = {**block, **left_out, **spec.defaults}",
        f"{BLOCKS}::test_a_default_never_overrules",
    ),
    Mutant(
        "a zero counts as left out",
        "blocks.py",
        "return value is None or (isinstance(value, str) and not value.strip())",
        "return not value",
        f"{BLOCKS}::test_a_default_never_overrules",
    ),
    Mutant(
        "the sender's time is overheard",
        "blocks.py",
        "received_at if told is None else",
        "received_at if spec.time else",
        f"{OWN_WORDS}::test_what_we_send_is_read_as_the_event_that_it_was",
    ),
    Mutant(
        "a time is forwarded in whatever unit it came",
        "blocks.py",
        "if spec.time:\n        payload",
        "if spec.time and _is_blank(_at(block, spec.time)):\n        payload",
        f"{OWN_WORDS}::test_a_time_in_any_form_is_one_that_the_platform_takes[1795176000000-meta]",
    ),
    Mutant(
        "a number is forwarded as an id",
        "blocks.py",
        "if spec.id and event_id is not None:",
        "if False:",
        f"{OWN_WORDS}::test_an_id_that_is_a_number_is_one_that_the_platform_takes[tiktok]",
    ),
    Mutant(
        "a block forgets what lies beside its time",
        "blocks.py",
        "return {**block, key: _with(",
        "return {key: _with(",
        f"{BLOCKS}::test_everything_else_comes_out_as_it_came_in",
    ),
    Mutant(
        "the block of the sender is written into",
        "blocks.py",
        "payload = {**block, **left_out}",
        "payload = block; payload.update(left_out)",
        f"{BLOCKS}::test_any_object_is_read_or_refused_and_never_changed",
    ),
    Mutant(
        "a block so deep that its record cannot be read again",
        "blocks.py",
        "MAX_DEPTH: Final = 32",
        "MAX_DEPTH: Final = 250",
        f"{BLOCKS}::test_the_deepest_block_can_be_written_and_read_again",
    ),
    Mutant(
        "a sender's pixel in SnackVideo's body",
        "snackvideo.py",
        'frozenset({"access_token", "pixelId"})',
        'frozenset({"access_token"})',
        f"{OWN_WORDS}::test_a_block_cannot_overrule_what_its_request_carries[snackvideo]",
    ),
    Mutant(
        "Reddit's milliseconds in seconds",
        "reddit.py",
        "time_unit_ms=1,",
        "time_unit_ms=1000,",
        f"{OWN_WORDS}::test_a_block_without_time_and_defaults_is_completed_to_what_the_platform_takes",
    ),
    Mutant(
        "Reddit's order for its conversion id",
        "reddit.py",
        'id=("metadata", "conversion_id"),',
        'id=("metadata", "order_id"),',
        f"{OWN_WORDS}::test_what_we_send_is_read_as_the_event_that_it_was",
    ),
    Mutant(
        "Snapchat is not told where it happened",
        "snapchat.py",
        'defaults={"action_source": "WEB"},',
        "",
        f"{OWN_WORDS}::test_what_a_platform_demands_and_no_sender_need_write_is_filled_in[snapchat]",
    ),
    Mutant(
        "Pinterest gets an event without an id",
        "pinterest.py",
        "demands_id=True,",
        "",
        f"{OWN_WORDS}::test_an_id_may_be_left_out_where_the_platform_allows_it[pinterest]",
    ),
)
