"""`python -m api …`: the command line, for programs that start it by the interpreter's name."""

from api.cli import main

main()
