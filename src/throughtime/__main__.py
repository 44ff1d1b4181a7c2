"""`python -m throughtime` is the command `throughtime`; `torchrun -m throughtime` starts several."""

from throughtime.cli import main

main()
