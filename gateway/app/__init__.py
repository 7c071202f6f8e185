"""The composition root: the only room that knows every plane. Build, wire, start, drain, stop.

`running.run` is its door. Nothing is imported here: workers and the control process need a part of it each.
"""
