"""Shared state: each kind behind one small interface, in memory and in Redis.

The only package that knows of Redis; its Lua scripts are the files in ``store/scripts``.
"""
