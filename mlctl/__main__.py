"""`python -m mlctl`, which launchers can start where the console script is not on their path."""

from mlctl.cli.main import main

main()
