"""Every mutant is caught by the test that it names, and by nothing being broken anyway."""

from collections import Counter

import pytest

from platforms.registry import PLATFORMS
from tests.mutants import trial
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant

# The trials run within the first test that asks for their results.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

AS_IT_IS = "the code as it is"


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[int, str]]:
    """What became of each mutant, by its name."""
    sound = (None, sorted({mutant.test for mutant in MUTANTS}))
    trials = [sound, *((mutant, [mutant.test]) for mutant in MUTANTS)]
    names = [AS_IT_IS, *(mutant.name for mutant in MUTANTS)]
    return dict(zip(names, trial.run(trials), strict=True))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_the_text_stands_there_once(mutant: Mutant) -> None:
    assert (trial.PLATFORMS / mutant.file).read_text().count(mutant.text) == 1


def test_names_are_unique_and_no_platform_is_left_out() -> None:
    assert Counter(mutant.name for mutant in MUTANTS).most_common(1)[0][1] == 1
    assert {mutant.file for mutant in MUTANTS} >= {f"{slug}.py" for slug in PLATFORMS}


def test_the_code_as_it_is_passes(results: dict[str, tuple[int, str]]) -> None:
    code, shown = results[AS_IT_IS]
    assert code == pytest.ExitCode.OK, shown


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_a_mutant_is_caught(mutant: Mutant, results: dict[str, tuple[int, str]]) -> None:
    code, shown = results[mutant.name]
    assert code == pytest.ExitCode.TESTS_FAILED, f"{mutant.test} did not notice\n{shown}"
