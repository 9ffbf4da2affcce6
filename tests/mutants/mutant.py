"""What a mutant is, and where the tests are that catch them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """One breakage: ``text`` becomes ``instead``, and ``test`` must fail."""

    name: str
    file: str
    text: str
    instead: str
    test: str


EVENT: Final = "golden/test_golden.py::test_the_payload_of_an_event"
ANSWER: Final = "golden/test_golden.py::test_the_verdicts_of_an_answer"
IDENTITY: Final = "unit/platforms/test_identity.py"
BLOCKS: Final = "unit/platforms/test_blocks.py"
COMMERCE: Final = "unit/platforms/test_commerce.py"
ANSWERS: Final = "unit/platforms/test_answers.py"
PAYLOADS: Final = "unit/platforms/test_payloads.py"
ACCEPTED: Final = "contract/test_accepted.py"
OWN_WORDS: Final = "contract/test_blocks.py"
CONTRACT: Final = "contract/test_platforms.py"
PRIVACY: Final = "contract/test_privacy.py"
PROBES: Final = "contract/test_probes.py"
