"""The errors that end a process with one readable message instead of a traceback."""

from typing import Final

EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: starting again will not help, somebody must mend the settings."""

EXIT_CRASHED: Final = 70
"""EX_SOFTWARE: the supervisor is to start the process again; nothing was acknowledged that was
not done."""


class CapistreamError(Exception):
    """A failure with a message for a person."""


class ConfigError(CapistreamError):
    """Settings that cannot work. The message names the setting and the fix."""


class UnavailableError(CapistreamError):
    """Something this process depends on does not answer."""
