"""What can be tuned: workloads, design spaces, passes, features, references. Imports tvm and numpy, nothing of ours."""
