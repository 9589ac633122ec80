"""``python -m efficientad``: the command line."""

from efficientad.cli import main

main(prog_name="efficientad")
