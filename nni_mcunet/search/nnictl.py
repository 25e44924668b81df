"""`python -m nni_mcunet.search.nnictl`, a path that users know; see nni/nnictl.py."""

from .nni.nnictl import main

if __name__ == "__main__":
    main()
