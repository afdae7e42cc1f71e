"""Every error this program raises on purpose, in one tree.

    TunerError                      what the CLI turns into a message and an exit code
    |- UserError                    exit 2: the request is wrong; the message says what to change
    |  |- ConfigError               a key of the run file, or a flag
    |  |- ModelError                a model file, a model source, or an operator in it
    |  |- TargetError               a target that is wrong
    |  |  `- MissingDevice          one that is right, and whose device (or its compiler) is not here
    |  |- BundleError               a bundle, or a file of measurements, that cannot be used
    |  `- MissingPackage            an optional package that the request needs
    `- InfrastructureError          exit 3: the machine failed (disk, database, worker processes)
       |- StoreError                the record database
       |  |- DamagedStore           its file is damaged
       |  `- DatabaseUrlError       its URL is none that can be used here: exit 2, the request is wrong
       `- OutputError               a folder or file that cannot be written

Failures of a *candidate* (it does not build, crashes, is wrong) are never exceptions: they are
`records.Status` values.
"""

from __future__ import annotations


class TunerError(Exception):
    """Base of all deliberate errors. `hint` says what to do about it."""

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UserError(TunerError):
    """The request cannot be honoured as written."""

    exit_code = 2


class ConfigError(UserError):
    """A key of the configuration. `path` is its dotted path, e.g. `search.trials`."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message, hint)
        self.path = path


class ModelError(UserError):
    """A model that cannot be used. `source` names the file or callable."""

    def __init__(self, source: str, message: str, hint: str = "") -> None:
        super().__init__(f"{source}: {message}", hint)
        self.source = source


class TargetError(UserError):
    """A target that is unknown, or that this machine cannot serve."""


class MissingDevice(TargetError):
    """A target that is as it should be, and whose device, or what compiles for it, this machine does not have."""


class BundleError(UserError):
    """A bundle or a file of measurements. `source` names it."""

    def __init__(self, source: str, message: str, hint: str = "") -> None:
        super().__init__(f"{source}: {message}", hint)
        self.source = source


class MissingPackage(UserError):
    """An optional package is needed. `extra` is the extra of this project that installs it."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            f"install it with: pip install '.[{extra}]'",
        )


class InfrastructureError(TunerError):
    """The machine or a service failed; the request was fine."""


class StoreError(InfrastructureError):
    """The record database cannot be opened, read or written."""


class DamagedStore(StoreError):
    """The file of the record database is damaged; another one can take its place."""


class DatabaseUrlError(StoreError):
    """A database URL that is none, or whose driver is not installed: what is wrong is the request."""

    exit_code = UserError.exit_code


class OutputError(InfrastructureError):
    """A result cannot be written."""
