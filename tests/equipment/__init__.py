"""Test equipment: servers with planted faults, damaged files, web clients, and checks of them."""
