"""The ``spinrt`` command. ``main`` finds the subcommand and turns errors into one line and an exit code; each
subcommand is a module of its own with ``add_arguments`` and ``run``. Only ``spinrt.__main__`` imports this package.
"""
