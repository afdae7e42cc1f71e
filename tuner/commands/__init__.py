"""What the command line can do: a file a command, and the pieces that `run` is made of."""
