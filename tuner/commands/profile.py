"""`profile`: where the time of a finished run's exported model goes. A run takes the same account when it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernels.tensors import TensorSpec, seeded_inputs
from tuner.commands.prepare import RunContext
from tuner.config import EffortSettings
from tuner.devices import resolve
from tuner.errors import TunerError, UserError
from tuner.export import library
from tuner.importers import model_inputs
from tuner.models import ImportedModel, InputSpec
from tuner.progress import Progress
from tuner.report import account, tables
from tuner.report import summary as summary_file
from tuner.tuning.total import Phase

if TYPE_CHECKING:
    from tuner.devices.device import DeviceKind
    from tuner.graph import Lowered

_SECONDS = EffortSettings.account_s
_LEAST_S = 0.25
_WINNER = re.compile(r"tuned_([0-9a-f]{16})_")
"""The symbol of a tuned kernel, as the builder names it: its task is in it."""


def profile(folder: Path, progress: Progress) -> tuple[list[Sequence[str]], list[str]]:
    """The account of the model that a run exported, taken now: a table with its headers, and sentences on it.

    Raises UserError where there is no export, or where its device cannot tell.
    """
    summary = summary_file.load(folder)
    manifest = library.read_manifest(folder / library.FOLDER)
    kind = resolve.kind_of_text(manifest["target"])
    progress.phase("timing every call of the exported model")
    taken = _taken(kind, folder / library.FOLDER, manifest, _SECONDS)
    if taken is None:
        raise UserError(
            f"{folder.name}: a model on {kind.name} devices has no account of its time: its calls cannot be told apart",
            f"the kernels' own times: python -m tuner show {folder.name}",
        )
    known = {row["symbol"]: row["task"] for row in (summary.get("account") or {}).get("kernels", [])}
    summary["account"] = with_tasks(taken, known)
    parts = account.parts(summary, tables.kernels(summary))
    made = account.table(summary, parts)
    return [made.headers, *made.rows], account.sentences(summary, parts)


def account_of_run(run: RunContext, model: ImportedModel, graph: Lowered) -> dict[str, Any] | None:
    """The account of the model that a run has just put together; None, with a note where there is a reason, without."""
    places = [run.folder / library.FOLDER, run.work / library.FOLDER]
    put_together = next((p for place in places if (p := place / library.LIBRARY).exists()), None)
    if put_together is None or run.interrupted() or run.replay is not None:
        return None
    run.progress.phase("timing every call of the tuned model")
    inputs = model_inputs(model.inputs, model.model_spec, run.config.search.seed)
    kind = resolve.kind_of(run.target)
    seconds = run.total.allowed_s(Phase.ACCOUNT, run.settings.account_s)
    if seconds < _LEAST_S:
        run.notes.append("where the model's time goes was not measured: no time was left for it")
        return None
    try:
        if model.plan is None:
            taken = kind.account(put_together, inputs, run.target.threads, seconds)
        else:
            taken = _taken(kind, put_together.parent, library.read_manifest(put_together.parent), seconds)
    except TunerError as error:  # the run is worth its report without it
        run.notes.append(f"no account of the model's time: {error.message}")
        return None
    return None if taken is None else with_tasks(taken, graph.kernels)


def _taken(kind: DeviceKind, folder: Path, manifest: Mapping[str, Any], seconds: float) -> Mapping[str, Any] | None:
    """The account of an export on drawn inputs; of one with islands that of its tuned parts together."""
    threads = manifest["threads"]
    tuned = [segment for segment in manifest.get("segments", ()) if segment["kind"] == "tuned"]
    if not tuned:
        given = tuple(TensorSpec(tuple(i["shape"]), i["dtype"]) for i in manifest["inputs"])
        return kind.account(folder / library.LIBRARY, seeded_inputs(given, 0), threads, seconds)
    accounts = []
    for segment in tuned:
        specs = [InputSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in segment["inputs"]]
        drawn = model_inputs(specs, {}, 0)  # integers are zeros, which are within any table
        accounts.append(kind.account(folder / segment["file"], drawn, threads, seconds / len(tuned)))
    return together([account for account in accounts if account is not None])


def together(accounts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Accounts of parts that run one after the other, as one; None without any."""
    if not accounts:
        return None
    totals = {
        key: {name: sum(account[key][name] for account in accounts) for name in ("calls", "seconds")}
        for key in ("memory", "runtime")
    }
    return {
        "end_to_end_s": sum(account["end_to_end_s"] for account in accounts),
        "inferences": min(account["inferences"] for account in accounts),
        "kernels": sorted((row for a in accounts for row in a["kernels"]), key=lambda row: -float(row["seconds"])),
        **totals,
    }


def with_tasks(taken: Mapping[str, Any], tasks: Mapping[str, str | None]) -> dict[str, Any]:
    """An account whose kernels have the keys of their tasks; `tasks` has those of kernels that were not tuned."""
    kernels = []
    for kernel in taken["kernels"]:
        winner = _WINNER.match(kernel["symbol"])
        kernels.append({**kernel, "task": winner[1] if winner else tasks.get(kernel["symbol"])})
    return {**taken, "kernels": kernels}
