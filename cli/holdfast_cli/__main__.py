"""`python -m holdfast_cli`: the same as `holdfast`."""

from holdfast_cli.main import main

if __name__ == "__main__":
    main()
