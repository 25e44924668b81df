"""The ground floor: the network (`Graph`) and its plan (`Plan`). Imports numpy alone; torch in `net.py` only."""
