"""Faults survived: real instances that fail on command, real load, and what clients saw of it.

Shared by ``tests/e2e/test_faults.py``, which holds the gateway to its promises in a minute, and by
``bench/faults.py``, which measures the same faults longer and under more load. ``board`` and
``instance``, ``names`` are the processes behind the gateway; ``load`` the clients in front of it;
``stage`` starts all of them; ``plays`` is the list of faults; ``findings`` what is measured.
"""
