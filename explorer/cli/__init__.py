"""The command line. A command is one module in this folder, found by looking.

The module's name is the command's, and the first line of its docstring says what it does. It has two functions::

    def add_arguments(parser: argparse.ArgumentParser) -> None    all but --checkpoints, which every command has
    def run(options: argparse.Namespace) -> None                  options.checkpoints is the folder of runs
"""
