"""`python -m onmodel`, which is what launchers of several processes start: `torchrun … -m onmodel
run recipe.toml`."""

from onmodel.cli.main import main

main()
