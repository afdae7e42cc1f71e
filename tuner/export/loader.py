"""The program that stands in an export beside its library, and runs it."""

from __future__ import annotations

LOADER_TEXT = '''\
"""Run the exported model: python run_model.py [inputs.npz [outputs.npz]]; random inputs without a file."""

import hashlib, json, os, sys, time
from pathlib import Path

folder = Path(__file__).resolve().parent
library = folder / "model.so"
try:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    keys = ("sha256", "function", "device", "inputs", "outputs")
    expected, function, kind, inputs, outputs = (manifest[key] for key in keys)
    threads = str(int(manifest["threads"]))
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
    sys.exit(f"{folder}: manifest.json or model.so is missing or damaged ({type(error).__name__}: {error})")
if digest != expected:
    sys.exit(f"{library} is not the library of manifest.json (its SHA-256 differs): not loaded")
os.environ.setdefault("TVM_NUM_THREADS", threads)  # read when tvm is imported
os.environ.setdefault("TVM_BIND_THREADS", "0")  # pinned workers can end up on the caller's core

try:
    import numpy as np
    import tvm
except ImportError as error:
    sys.exit(f"{error}: running the model needs the packages numpy and apache-tvm")

device = tvm.device(kind, 0)
module = tvm.runtime.load_module(str(library))
rng = np.random.default_rng(0)
try:
    given = dict(np.load(sys.argv[1], allow_pickle=False)) if len(sys.argv) > 1 else None
except (OSError, ValueError, TypeError) as error:
    sys.exit(f"{sys.argv[1]}: missing, or no .npz file of numbers (numpy.savez writes one)")
arrays = []
for index, spec in enumerate(inputs):
    if given is not None:  # by name, or in order when saved without names
        array = given.get(spec["name"], given.get(f"arr_{index}"))
        if array is None or array.dtype.kind not in "biuf" or list(array.shape) != list(spec["shape"]):
            found = "nothing" if array is None else f"{array.dtype} {array.shape}"
            wanted = f"{spec['dtype']} {tuple(spec['shape'])}"
            sys.exit(f"{sys.argv[1]}: the input {spec['name']} must be {wanted}, there is {found}")
    else:  # as far as it is known what the input may hold
        use = manifest.get("uses", {}).get(spec["name"], {})
        low, high = use.get("low"), use.get("high")
        if np.issubdtype(np.dtype(spec["dtype"]), np.floating):
            array = rng.standard_normal(spec["shape"]) if low is None else low + rng.random(spec["shape"])
            array = array if high is None else np.minimum(array, high)
        else:
            low = 0 if low is None else int(np.ceil(low))
            array = rng.integers(low, (max(low, 0) + 1 if high is None else int(high)) + 1, spec["shape"])
    arrays.append(tvm.runtime.tensor(np.asarray(array, spec["dtype"]), device))
if function == "tuner_run":  # writes to tensors that it is given
    result = [tvm.runtime.empty(spec["shape"], spec["dtype"]) for spec in outputs]
    run = lambda: module[function](*arrays, *result) or result
else:
    from tvm import relax

    vm = relax.VirtualMachine(module, device)
    run = lambda: vm[function](*arrays)
run()  # the first call sets things up
start = time.perf_counter()
result = run()
device.sync()
seconds = time.perf_counter() - start
outputs = [tensor.numpy() for tensor in ([result] if hasattr(result, "numpy") else result)]
for output in outputs:
    print("output", output.shape, output.dtype)
times = f" ({manifest['times']})" if manifest.get("times") else ""  # what they are, where not the device's own
print(f"{seconds * 1e3:.3g} ms for one call{times}")
if len(sys.argv) > 2:
    try:
        np.savez(sys.argv[2], *outputs)
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: cannot be written: {error.strerror}")
'''
