"""``python -m paddle_warm_callbacks``: the command line."""

from paddle_warm_callbacks.cli.main import main

if __name__ == "__main__":
    main()
