"""The command line. Each module in this folder except `main` is a command.

The command has the module's name, with dashes for underscores, and the first line of the module's docstring describes
it. The module has two functions, which commands do not document again::

    add_arguments(parser: argparse.ArgumentParser) -> None    adds its arguments, without --checkpoints, which all have
    run(options: argparse.Namespace) -> None                  runs it; ``options.checkpoints`` is the folder of runs
"""
