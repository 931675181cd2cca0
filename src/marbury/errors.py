"""Everything that Marbury raises on purpose.

    MarburyError
    ├── ConstitutionError   the rules cannot be read, or say something impossible
    ├── SettingsError       marbury.toml or a flag is wrong
    ├── WorkspaceError      an artifact of the run folder is missing, stale or damaged
    ├── DataError           a row or a data file is malformed, or there is too little of it
    ├── ModelError          a language model or its endpoint failed
    ├── RequestError        a client of the proxy asks for what cannot be read or is not guarded
    └── GuardError          judging failed: callers close, they never open

A message says what is wrong, where, and what to do next. A refusal is a value (`Verdict`), not an error.
"""


class MarburyError(Exception):
    """Root of the tree; the command line prints its message and exits with 1."""


class ConstitutionError(MarburyError):
    """The constitution cannot be read."""


class SettingsError(MarburyError):
    """A setting is unknown, of the wrong type or out of range."""


class WorkspaceError(MarburyError):
    """An artifact of the run folder is missing, stale or damaged."""


class DataError(MarburyError):
    """A data file is malformed, or there is too little of it."""


class ModelError(MarburyError):
    """A language model or its endpoint failed."""


class RequestError(MarburyError):
    """A client asks for what cannot be read or is not guarded; `param` names the field, as OpenAI's errors do."""

    def __init__(self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code


class GuardError(MarburyError):
    """Judging failed or timed out; the reply must not go on."""
