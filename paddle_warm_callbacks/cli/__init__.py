"""The command line: what users do with checkpoints and runs from a shell."""
