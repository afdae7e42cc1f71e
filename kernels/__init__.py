"""What can be tuned: workloads, design spaces, passes, features, references. Imports neither costmodel nor tuner."""
