"""Of whole models: their times against every baseline, what comes in, and what verification sees."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from experiments.figures.words import MISSING, Figures, duration, percent, table, three
from experiments.models.run import mean_speedup
from experiments.models.run import table as model_table


def models(path: Path) -> Figures:
    """Of experiments/models: each model tuned, against every baseline."""
    rows = json.loads(path.read_text("utf-8"))
    mean = mean_speedup(rows)
    return {
        "table": f"\n{model_table(rows)}\n",
        "models": str(len({row["model"] for row in rows})),
        "mean speedup": MISSING if mean is None else f"{mean:.3f}",
    }


def precision_products(path: Path) -> Figures:
    """Of experiments/precision: products of narrower numbers against float32."""
    told = json.loads(path.read_text("utf-8"))
    rows = [
        (name, f"{k['gops']:.0f}", f"{k['times_float32']:.2f}", f"{k['interval'][0]:.2f} to {k['interval'][1]:.2f}")
        for name, k in told["kernels"].items()
    ]
    times = {name: f"{k['times_float32']:.2f}" for name, k in told["kernels"].items()}
    rates = {f"{name} GOP/s": f"{k['gops']:.0f}" for name, k in told["kernels"].items()}
    return {"table": table(("operands", "GOP/s", "times float32", "95 % interval"), rows), **times, **rates}


def precision_simulated(path: Path) -> Figures:
    """Of experiments/precision: small models in each precision on the simulated GPU."""
    rows = json.loads(path.read_text("utf-8"))
    lines = [
        (
            row["model"], row["precision"],
            ", ".join(f"{count} {name}" for name, count in row["layers"].items()) or MISSING,
            MISSING if row["relative_error"] is None else three(row["relative_error"]),
            f"{row['on_tensor_cores']} of {row['kernels']}", "yes" if row["verified"] and row["exported"] else "no",
        )
        for row in rows
    ]  # fmt: skip
    right = sum(row["verified"] and row["exported"] for row in rows)
    heads = ("model", "precision", "layers", "error of the outputs", "kernels on tensor cores", "verified and exported")
    return {"table": table(heads, lines), "finding": f"{right} of {len(rows)} runs end verified and exported"}


def run_summary(path: Path) -> Figures:
    """Of `tuner run`: the whole model beside its baselines."""
    summary = json.loads(path.read_text("utf-8"))
    models, search = summary["end_to_end"], summary["search"]
    tuned_s = models["tuned_s"]
    # Of the pairs that gave the verdict: medians may say the contrary. Earlier files do not have them.
    speedups = {name: three(1.0 / ratio) for name, ratio in models.get("ratios", {}).items() if ratio}
    compared = ", ".join(
        " ".join([*([f"x{speedups[name]}"] if name in speedups else []), f"`{name}`", verdict])
        for name, verdict in models["verdicts"].items()
    )
    state = f" with the CPUs {models['state']}" if models.get("state") else ""
    minutes, seconds = divmod(round(search["wall_s"]), 60)
    checked = "outputs verified" if models["verified"] else "outputs not verified"
    products = [
        kernel["lower_bound_s"] / kernel["tuned_s"]
        for kernel in summary["kernels"]
        if kernel["name"].startswith("conv2d_1x1") and kernel["tuned_s"] and kernel.get("lower_bound_s")
    ]
    return {
        **(
            {"products": f"{percent(median(products))} ({percent(min(products))} to {percent(max(products))})"}
            if products
            else {}
        ),
        "run": summary["run_id"],
        "tuned": duration(tuned_s),
        **{f"times {name}": speedup for name, speedup in speedups.items()},
        "finding": f"batch {summary['model']['batch']}, {summary['target']['threads']} threads: "
        f"{duration(tuned_s)}{state}, {checked}; {compared}. "
        f"Search: {minutes} min {seconds} s, {search['measured']:,} trials",
    }


def onnx_backend(path: Path) -> Figures:
    """Of experiments/onnx_backend: how many node tests are answered rightly."""
    from experiments.onnx_backend.run import summary

    core, every = summary(json.loads(path.read_text("utf-8"))).splitlines()
    return {"core": core, "all": every}


def large_model(path: Path) -> Figures:
    """Of experiments/large_model: the largest memory of each stage, and how long graphs take to come in."""
    found = json.loads(path.read_text("utf-8"))
    peaks = ", ".join(f"{name} {stage['peak_gib']:.1f} GiB" for name, stage in found["stages"].items())
    seconds = ", ".join(f"{count} nodes {value:.1f} s" for count, value in found["import_s"].items())
    return {"peaks": f"a model of {found['gib']:g} GiB: {peaks}", "seconds": seconds}


def verification(path: Path) -> Figures:
    """Of experiments/verification: how many faults are seen, and which are not."""
    from experiments.verification.summary import missed, summary

    found = json.loads(path.read_text("utf-8"))
    rows = [[model, fault, f"{change:.2g}"] for model, fault, change in missed(found)]
    return {"finding": summary(found), "missed": table(["model", "fault", "changes outputs by up to"], rows)}


def field(path: Path) -> Figures:
    """Of experiments/models/field: which architectures come in, from PyTorch and from ONNX."""
    from experiments.models.field.run import counts, runs
    from experiments.models.field.run import table as field_table

    results = json.loads(path.read_text("utf-8"))
    return {
        "table": f"\n{field_table(results)}\n",
        "by PyTorch": counts(results, "torch"),
        "by ONNX": counts(results, "onnx"),
        "runs": runs(results),
    }


def pypi_models(path: Path) -> Figures:
    """Of experiments/pypi_models: files with their own weights, tuned, beside ONNX Runtime."""
    from experiments.pypi_models.packages import SHIPPED
    from experiments.pypi_models.run import MEASURE

    rows, speeds = [], []
    for name, result in json.loads(path.read_text("utf-8")).items():
        run = result.get("tuned", {})
        ratio = run.get("ratios", {}).get(MEASURE)
        speed = MISSING if ratio is None else f"{1 / ratio:.2f}"
        speeds += [] if ratio is None else [1 / ratio]
        verified = "yes" if run.get("verified") else "no"
        took = f"{run['wall_s']:.0f} s" if "wall_s" in run else MISSING
        tuned = duration(run["tuned_s"]) if run.get("tuned_s") else MISSING
        verdict = run.get("verdicts", {}).get(MEASURE) or MISSING
        rows.append([name, result["package"], SHIPPED[name].does, verified, tuned, speed, verdict, took])
    heads = [
        "file",
        "package",
        "what it does",
        "verified",
        "tuned",
        "speedup over ONNX Runtime",
        "verdict",
        "the run took",
    ]
    good = sum(row[3] == "yes" for row in rows)
    span = f"; {min(speeds):.2f} to {max(speeds):.2f} times as fast as ONNX Runtime" if speeds else ""
    return {"table": table(heads, rows), "finding": f"{good} of {len(rows)} verified{span}"}
