"""`python -m flows.cli`: the command line by the code of the current folder."""

from flows.cli import main

if __name__ == "__main__":
    main()
