"""The callable that `torch:package.module:callable` names, and what it makes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tuner.errors import MissingPackage, ModelError
from tuner.importers.pytorch.errors import gist, guarded, line_of
from tuner.schema import did_you_mean

EXTRA_PACKAGES = ("transformers", "onnxscript")
"""Packages of our extra `torch`: when a model asks for one of them, that extra is what is missing."""


def made(source: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """The module that a source's callable makes, and what it returned beside it: example inputs, or nothing.

    Raises ModelError or MissingPackage.
    """
    result = guarded(source, "the callable fails", _callable(source))
    module, *examples = result if isinstance(result, tuple) and len(result) in (2, 3) else (result,)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            source, f"the callable returns a {type(module).__name__}",
            "it returns (module, example_inputs), (module, args, kwargs) or a module",
        )  # fmt: skip
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(source, "the callable returns a TorchScript module", "give the module that it was made of")
    return module, tuple(examples)


def _callable(source: str) -> Callable[[], object]:
    path, _, attribute = source.removeprefix("torch:").partition(":")
    if not attribute or not all(part.isidentifier() for part in path.split(".")):
        raise ModelError(source, "not an import path", "write torch:package.module:callable")
    with _current_folder_first():
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing == path or path.startswith(f"{missing}."):
                raise ModelError(source, f"there is no module {missing}", "it is looked for from here") from error
            if missing.partition(".")[0] in EXTRA_PACKAGES:
                raise MissingPackage(missing.partition(".")[0], f"the model {source}", "torch") from error
            raise ModelError(source, f"its module needs the package {missing}, which is not installed") from error
        except Exception as error:  # the module is the user's, and may raise anything
            raise ModelError(source, f"importing {path} fails: {gist(error)}{line_of(error)}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        what = "is not callable" if hasattr(module, attribute) else "does not exist"
        raise ModelError(source, f"{attribute} {what} in {path}", did_you_mean(attribute, public[:20]))
    return found  # type: ignore[no-any-return]


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Import from where the program was started, as `python -m` does."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
